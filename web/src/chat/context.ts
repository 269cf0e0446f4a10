// How much of the model's context the next request takes: exact numbers of the last answer, else /tokenize, else unknown.
import {effect, signal} from '@preact/signals';
import {countTokens} from '../api/client';
import {draft} from '../ui';
import {frame, run} from './generate';
import {wireMessages} from './request';
import {health, model} from './server_state';
import {apiKey, settings} from './settings';
import {current, path} from './store';
import {newId} from './tree';

const kDebounceMs = 350;

export const contextUsed = signal<number | null>(null);

export function startContextMeter(): void {
  let timer: ReturnType<typeof setTimeout> | undefined;
  let asking: AbortController | undefined;

  effect(() => {
    const text = draft.value;
    const {system} = settings.value;
    const id = model.value;
    const messages = path.value;
    const ready = health.value === 'ready';
    if (run.value !== null) return;
    clearTimeout(timer);
    asking?.abort();
    const stats = messages.at(-1)?.stats;
    if (text.trim() === '' && stats?.promptTokens !== undefined) {
      contextUsed.value = stats.promptTokens + (stats.completionTokens ?? 0);
      return;
    }
    if (text.trim() === '' && messages.length === 0 && system.trim() === '') {
      contextUsed.value = 0;
      return;
    }
    if (!ready || id === '') return;
    timer = setTimeout(async () => {
      asking = new AbortController();
      const turns = text.trim() === '' ? messages
          : [...messages, {id: newId(), parent: null, role: 'user' as const, content: text, created: 0}];
      const count = await countTokens(id, wireMessages(turns, system, false), apiKey.value, asking.signal).catch(() => null);
      if (count !== null) contextUsed.value = count;
    }, kDebounceMs);
  });

  // While an answer comes, it grows with every frame.
  effect(() => {
    const now = run.value;
    void frame.value;
    if (now === null || now.conversation.id !== current.peek().conversation.id) return;
    const stats = now.message.stats;
    const prompt = stats?.promptTokens ?? promptBefore;
    if (now.phase !== 'streaming') promptBefore = contextUsed.peek() ?? 0;
    else contextUsed.value = prompt + (stats?.completionTokens ?? 0);
  });
}

let promptBefore = 0;  // counted while the question was typed
