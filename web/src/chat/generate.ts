// Runs that write an answer: asking, retrying while the server is busy, stopping, going on.
import {computed, signal} from '@preact/signals';
import {ApiError, streamChat} from '../api/client';
import type {ChatChunk} from '../api/types';
import {requestBody} from './request';
import {awaited, health, keyNeeded, model, pollSoon} from './server_state';
import {apiKey, settings} from './settings';
import {kSampleMs, speed, SpeedMeter} from './speed';
import * as store from './store';
import {splitThinking} from './thinking';
import {append, newId, pathOf, pathTo, select, titleFrom} from './tree';
import type {Conversation, Message} from './types';

export type Phase = 'queued' | 'prefill' | 'streaming';

export interface Run {
  conversation: Conversation;
  message: Message;
  abort: AbortController;
  phase: Phase;
  since: number;          // performance.now() when the phase began
  retryAt: number;        // queued: when the next try is due
  reason: string;         // queued: what the server said
  meter: SpeedMeter;
}

const kSaveEveryMs = 2000;
const kShortestMs = 50;  // a burst that came in one piece says nothing about speed
const kRetryMs = [1000, 2000, 4000, 8000];

const runs = signal<ReadonlyMap<string, Run>>(new Map());
export const frame = signal(0);  // one up per animation frame in which a stream moved

export const run = computed<Run | null>(() => runs.value.get(store.current.value.conversation.id) ?? null);
export const running = computed(() => run.value !== null);

let framePending = false;
function schedule(): void {
  if (framePending) return;
  framePending = true;
  requestAnimationFrame(() => {
    framePending = false;
    frame.value++;
  });
}

function setPhase(target: Run, phase: Phase): void {
  if (target.phase === 'prefill' && phase !== 'prefill') awaited.value--;
  if (target.phase !== 'prefill' && phase === 'prefill') awaited.value++;
  target.phase = phase;
  target.since = performance.now();
  runs.value = new Map(runs.value);
}

export function stop(): void {
  run.value?.abort.abort();
}

export function stopIn(conversationId: string): void {
  runs.value.get(conversationId)?.abort.abort();
}

function assistant(parent: string | null): Message {
  return {id: newId(), parent, role: 'assistant', content: '', created: Date.now(), model: model.value};
}

export function send(text: string): void {
  const {conversation} = store.current.value;
  if (runs.value.has(conversation.id)) return;
  const last = pathOf(conversation).at(-1);
  ask(conversation, last?.id ?? null, text);
}

function ask(conversation: Conversation, parent: string | null, text: string): void {
  const first = conversation.messages.length === 0;
  const question: Message = {id: newId(), parent, role: 'user', content: text, created: Date.now()};
  append(conversation, question);
  if (first) conversation.title = titleFrom(text);
  answer(conversation, question.id);
  if (first) store.nameInAddress(conversation);
}

function answer(conversation: Conversation, parent: string): void {
  const message = assistant(parent);
  append(conversation, message);
  void execute(conversation, message, false);
}

// Another answer to the same question; the old ones stay.
export function regenerate(message: Message): void {
  const {conversation} = store.current.value;
  if (runs.value.has(conversation.id) || message.parent === null) return;
  answer(conversation, message.parent);
}

// The same question in other words, as a branch beside the old one.
export function resend(message: Message, text: string): void {
  const {conversation} = store.current.value;
  store.editing.value = null;
  if (runs.value.has(conversation.id)) return;
  ask(conversation, message.parent, text);
}

// An answer to a question that has none, because it was deleted.
export function answerTo(message: Message): void {
  const {conversation} = store.current.value;
  if (!runs.value.has(conversation.id)) answer(conversation, message.id);
}

export function continueAnswer(message: Message): void {
  const {conversation} = store.current.value;
  if (!runs.value.has(conversation.id)) void execute(conversation, message, true);
}

// Tries again after an error, keeping nothing of the broken answer.
export function retry(message: Message): void {
  const {conversation} = store.current.value;
  if (runs.value.has(conversation.id)) return;
  message.content = '';
  for (const name of ['reasoning', 'reasoningMs', 'toolCalls', 'logprobs', 'stats', 'finish', 'error'] as const) delete message[name];
  select(conversation, message);
  void execute(conversation, message, false);
}

async function execute(conversation: Conversation, message: Message, continued: boolean): Promise<void> {
  const own: Run = {
    conversation, message, abort: new AbortController(), phase: 'queued', since: performance.now(), retryAt: 0,
    reason: '', meter: new SpeedMeter(),
  };
  delete message.finish;
  delete message.error;
  message.model = model.value;
  store.busy.set(conversation.id, conversation);
  runs.value = new Map(runs.value).set(conversation.id, own);
  setPhase(own, 'prefill');
  store.touch(conversation);
  void store.save(conversation);
  const clock = setInterval(() => {
    const sample = own.meter.sample(performance.now());
    if (store.current.value.conversation.id === conversation.id) speed.value = sample;
  }, kSampleMs);
  try {
    await attempt(own, continued);
  } catch (error) {
    if (own.abort.signal.aborted) {
      message.finish = 'stopped';
    } else {
      message.finish = 'error';
      message.error = error instanceof Error ? error.message : String(error);
      if (error instanceof ApiError && error.status === 401) keyNeeded.value = true;
      if (error instanceof ApiError && error.status === 0) pollSoon();
    }
  }
  clearInterval(clock);
  setPhase(own, 'streaming');  // balances `awaited`
  store.busy.delete(conversation.id);
  const left = new Map(runs.value);
  left.delete(conversation.id);
  runs.value = left;
  if (store.current.value.conversation.id === conversation.id) speed.value = null;
  conversation.updated = Date.now();
  frame.value++;
  store.touch(conversation);
  if (store.heads.value.some((head) => head.id === conversation.id)) void store.save(conversation);
}

// Repeats the request while the server says that it is full or not ready yet.
async function attempt(own: Run, continued: boolean): Promise<void> {
  for (let tries = 0;; tries++) {
    try {
      return await stream(own, continued);
    } catch (error) {
      const started = own.phase === 'streaming';
      if (!(error instanceof ApiError) || !error.busy || started || own.abort.signal.aborted) throw error;
      const wait = error.retryAfterMs ?? kRetryMs[Math.min(tries, kRetryMs.length - 1)]!;
      own.reason = error.message;
      own.retryAt = Date.now() + wait;
      setPhase(own, 'queued');
      pollSoon();
      await pause(wait, own.abort.signal);
      setPhase(own, 'prefill');
    }
  }
}

// Ends early when the wait is over for another reason: the model has just become ready.
function pause(ms: number, abort: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    let ready = health.peek() === 'ready';
    const timer = setTimeout(done, ms);
    const unsubscribe = health.subscribe((value) => {
      if (value === 'ready' && !ready) done();
      ready = value === 'ready';
    });
    function done() {
      clearTimeout(timer);
      unsubscribe();
      resolve();
    }
    abort.addEventListener('abort', () => {
      clearTimeout(timer);
      unsubscribe();
      reject(abort.reason as Error);
    }, {once: true});
  });
}

async function stream(own: Run, continued: boolean): Promise<void> {
  const {conversation, message, abort} = own;
  const history = pathTo(conversation, continued ? message.id : message.parent);
  const body = requestBody(model.value, history, settings.value, continued);
  const before = message.stats?.completionTokens ?? 0;
  const progress = new Progress(own, continued ? before : 0);
  let saved = performance.now();
  for await (const chunk of streamChat(body, apiKey.value, abort.signal)) {
    progress.take(chunk);
    const now = performance.now();
    if (now - saved > kSaveEveryMs) {
      saved = now;
      void store.save(conversation);
    }
    if (store.current.value.conversation.id === conversation.id) schedule();
  }
}

// What one stream adds to its message, and how fast.
class Progress {
  private readonly sent = performance.now();
  private first = 0;
  private last = 0;
  private tokens = 0;
  private thinkingSince = 0;

  constructor(private readonly own: Run, private readonly tokensBefore: number) {}

  take(chunk: ChatChunk): void {
    const {message} = this.own;
    const choice = chunk.choices?.[0];
    const delta = choice?.delta;
    const text = delta?.content ?? '';
    const thought = delta?.reasoning_content ?? delta?.reasoning ?? '';
    const calls = delta?.tool_calls ?? [];
    if (text !== '' || thought !== '' || calls.length > 0) this.arrived(choice?.logprobs?.content?.length || 1);
    if (thought !== '') message.reasoning = (message.reasoning ?? '') + thought;
    if (text !== '') message.content += text;
    for (const call of calls) this.toolCall(call.index ?? 0, call.id, call.function?.name, call.function?.arguments);
    this.timeThinking(thought !== '');
    for (const entry of choice?.logprobs?.content ?? []) {
      (message.logprobs ??= []).push(
          [entry.token, entry.logprob, (entry.top_logprobs ?? []).map((top) => [top.token, top.logprob])]);
    }
    if (choice?.finish_reason) message.finish = choice.finish_reason;
    if (delta !== undefined || chunk.usage || chunk.timings) this.stats(chunk);
  }

  private arrived(tokens: number): void {
    const {own} = this;
    this.last = performance.now();
    if (this.first === 0) {
      this.first = this.last;
      setPhase(own, 'streaming');
    }
    this.tokens += tokens;
    own.meter.add(this.last, tokens);
  }

  private toolCall(index: number, id?: string, name?: string, args?: string): void {
    const calls = (this.own.message.toolCalls ??= []);
    while (calls.length <= index) calls.push({id: '', name: '', arguments: ''});
    const call = calls[index]!;
    if (id) call.id = id;
    if (name) call.name += name;
    if (args) call.arguments += args;
  }

  private timeThinking(byField: boolean): void {
    const {message} = this.own;
    const thinking = byField || (message.reasoning === undefined && splitThinking(message.content).open);
    if (thinking && this.thinkingSince === 0) this.thinkingSince = performance.now();
    if (this.thinkingSince > 0 && thinking) message.reasoningMs = performance.now() - this.thinkingSince;
  }

  private stats(chunk: ChatChunk): void {
    const {message} = this.own;
    const stats = (message.stats ??= {});
    if (this.first > 0 && this.tokensBefore === 0) stats.ttftMs = this.first - this.sent;
    const {usage, timings} = chunk;
    // A chunk may carry several tokens: the server's count is the better one as soon as it comes.
    if (usage?.completion_tokens !== undefined) this.tokens = usage.completion_tokens;
    if (this.tokens > 1 && this.last - this.first >= kShortestMs) stats.tokensPerSecond = (this.tokens - 1) * 1000 / (this.last - this.first);
    stats.completionTokens = this.tokensBefore + this.tokens;
    if (usage?.prompt_tokens !== undefined) stats.promptTokens = usage.prompt_tokens;
    if (usage?.prompt_tokens_details?.cached_tokens !== undefined) stats.cachedTokens = usage.prompt_tokens_details.cached_tokens;
    if (timings?.predicted_per_second) stats.tokensPerSecond = timings.predicted_per_second;
    if (timings?.prompt_per_second) stats.promptPerSecond = timings.prompt_per_second;
  }
}
