// The body of an answer: thought, text, tool calls; what it waits for; how it ended; its numbers.
import {Fragment} from 'preact';
import {useEffect, useLayoutEffect, useRef, useState} from 'preact/hooks';
import {continueAnswer, frame, retry, run, running, type Run} from '../chat/generate';
import {health, info} from '../chat/server_state';
import {splitThinking} from '../chat/thinking';
import type {Message, ToolCall} from '../chat/types';
import {count, duration, rate} from '../format';
import {renderer} from '../markdown/loader';
import type {MarkdownView} from '../markdown/view';
import {drawerOpen} from '../ui';
import {keyNeeded} from '../chat/server_state';
import {Icon} from './icons';
import {stickToEnd} from './scroll';
import {TokenView} from './token_view';

export function Answer({message, tokens}: {message: Message; tokens: boolean}) {
  const own = run.value?.message === message ? run.value : null;
  if (own !== null) void frame.value;  // only the live answer follows the frames
  const split = splitThinking(message.content);
  const reasoning = message.reasoning ?? split.reasoning;
  const thinking = own !== null && (message.reasoning !== undefined ? split.answer === '' : split.open && split.reasoning !== '');
  return (
    <>
      {reasoning !== '' && <Thought text={reasoning} open={thinking} ms={message.reasoningMs} />}
      {tokens ? <Tokens message={message} live={own !== null} /> : <Markdown text={split.answer} done={own === null} />}
      {message.toolCalls?.map((call, index) => <ToolCard key={index} call={call} />)}
      {own !== null && own.phase !== 'streaming' && <Waiting run={own} />}
    </>
  );
}

function Markdown({text, done}: {text: string; done: boolean}) {
  const root = useRef<HTMLDivElement>(null);
  const view = useRef<MarkdownView | null>(null);
  const chunk = renderer.value;
  useLayoutEffect(() => {
    if (chunk === null) return;
    view.current ??= new chunk.MarkdownView(root.current!);
    view.current.update(text, done);
  });
  // Two elements, not one: what the view draws is not the framework's to touch.
  return chunk === null ? <div key="plain" class="markdown plain-text">{text}</div> : <div key="view" class="markdown" ref={root} />;
}

function Tokens({message, live}: {message: Message; live: boolean}) {
  const root = useRef<HTMLDivElement>(null);
  const view = useRef<TokenView | null>(null);
  useLayoutEffect(() => {
    view.current ??= new TokenView(root.current!);
    view.current.update(message.logprobs ?? [], live);
  });
  return <div class="tokens" ref={root} />;
}

function Thought({text, open, ms}: {text: string; open: boolean; ms: number | undefined}) {
  const time = ms === undefined ? '' : ` for ${duration(ms)}`;
  return (
    <details class="thought">
      <summary>{open ? <span class="pulse">Thinking{time}</span> : `Thought${time}`}</summary>
      <div class="thought-text">{text}</div>
    </details>
  );
}

function pretty(json: string): string {
  try {
    return JSON.stringify(JSON.parse(json), null, 2);
  } catch {
    return json;  // still streaming, or not JSON
  }
}

function ToolCard({call}: {call: ToolCall}) {
  return (
    <section class="tool" aria-label={`Tool call ${call.name}`}>
      <h3><Icon name="tool" /> {call.name || 'tool'}</h3>
      <pre tabIndex={0}>{pretty(call.arguments)}</pre>
    </section>
  );
}

function useTick(ms: number): void {
  const [, setTick] = useState(0);
  useEffect(() => {
    const timer = setInterval(() => setTick((tick) => tick + 1), ms);
    return () => clearInterval(timer);
  }, [ms]);
}

function Waiting({run: own}: {run: Run}) {
  useTick(100);
  const waiting = info.value.waiting ?? 0;
  if (own.phase === 'queued') {
    const seconds = Math.max(0, Math.ceil((own.retryAt - Date.now()) / 1000));
    const again = seconds > 0 ? `Trying again in ${seconds} s` : 'Trying again';
    const why = health.value === 'loading' ? 'The model is still loading: your question goes out when it is ready'
        : waiting > 0 ? `The server is full, ${count(waiting)} waiting. ${again}` : `${own.reason}. ${again}`;
    return <p class="waiting" role="status"><span class="pulse">Queued</span> {why}</p>;
  }
  const elapsed = performance.now() - own.since;
  if (waiting > 0) {
    const others = `${count(waiting)} waiting, ${count(info.value.running ?? 0)} running`;
    return <p class="waiting"><span class="pulse">In line</span> {others} · {duration(elapsed)}</p>;
  }
  return <p class="waiting"><span class="pulse">Reading</span>{elapsed > 300 ? ` · ${(elapsed / 1000).toFixed(1)} s` : ''}</p>;
}

export function Outcome({message}: {message: Message}) {
  const idle = !running.value;
  const goOn = () => {
    stickToEnd();
    continueAnswer(message);
  };
  const partial = message.content !== '' && message.toolCalls === undefined;
  if (message.finish === 'error') {
    return (
      <div class="outcome error" role="alert">
        <p>{message.error}</p>
        <button type="button" class="plain" disabled={!idle} onClick={() => retry(message)}>Retry</button>
        {partial && <button type="button" class="plain" disabled={!idle} onClick={goOn}>Continue</button>}
        {keyNeeded.value && <button type="button" class="plain" onClick={() => (drawerOpen.value = true)}>Enter the key</button>}
      </div>
    );
  }
  if (message.finish === 'length' || (message.finish === undefined && idle)) {
    return (
      <div class="outcome">
        <p>{message.finish === 'length' ? 'The answer was cut at its length limit.' : 'The page was closed before the answer was complete.'}</p>
        {partial ? <button type="button" class="plain" disabled={!idle} onClick={goOn}>Continue</button>
                 : <button type="button" class="plain" disabled={!idle} onClick={() => retry(message)}>Retry</button>}
      </div>
    );
  }
  if (message.finish === 'stopped' && partial) {
    return <div class="outcome slim"><button type="button" class="plain" disabled={!idle} onClick={goOn}><Icon name="play" /> Continue</button></div>;
  }
  return null;
}

export function StatsLine({message, live}: {message: Message; live: boolean}) {
  if (live) void frame.value;
  const {stats} = message;
  if (stats === undefined) return <span class="stats" />;
  const parts: string[] = [];
  if (stats.ttftMs !== undefined) parts.push(`TTFT ${duration(stats.ttftMs)}`);
  if (stats.tokensPerSecond !== undefined) parts.push(rate(stats.tokensPerSecond));
  if (stats.completionTokens !== undefined) parts.push(`${count(stats.completionTokens)} tokens`);
  if (stats.cachedTokens !== undefined) parts.push(`${count(stats.cachedTokens)} cached`);
  if (!live && message.finish !== undefined) parts.push(message.finish);
  const prompt = stats.promptTokens === undefined ? ''
      : `Prompt: ${count(stats.promptTokens)} tokens${stats.promptPerSecond ? ` at ${rate(stats.promptPerSecond)}` : ''}`;
  const title = [message.model, prompt].filter(Boolean).join(' · ');
  return <span class="stats" title={title} aria-live="off">
    {parts.map((part, index) => <Fragment key={index}><span>{part}{index < parts.length - 1 ? ' ·' : ''}</span>{' '}</Fragment>)}
  </span>;
}
