// One turn: what it says, what can be done with it, and which of its alternatives is shown.
import {useLayoutEffect, useRef, useState} from 'preact/hooks';
import {copyText} from '../clipboard';
import {answerTo, regenerate, resend, run, running} from '../chat/generate';
import * as store from '../chat/store';
import {splitThinking} from '../chat/thinking';
import type {Message} from '../chat/types';
import {focusComposer} from '../ui';
import {Answer, Outcome, StatsLine} from './answer';
import {useAutoHeight} from './composer';
import {IconButton} from './icons';
import {stickToEnd} from './scroll';
import {settings} from '../chat/settings';

export function Turn({message}: {message: Message}) {
  void store.current.value;
  if (message.role === 'user') return store.editing.value === message.id ? <Editor message={message} /> : <Question message={message} />;
  if (message.role === 'assistant') return <AnswerTurn message={message} />;
  return (
    <article class="turn note" aria-label={message.role === 'tool' ? 'Tool result' : 'System prompt'}>
      <details><summary>{message.role === 'tool' ? 'Tool result' : 'System prompt'}</summary><pre>{message.content}</pre></details>
    </article>
  );
}

function Question({message}: {message: Message}) {
  const unanswered = store.path.value.at(-1) === message;
  return (
    <article class="turn question" aria-label="You">
      <div class="bubble">{message.content}</div>
      <div class="actions">
        <Alternatives message={message} />
        <CopyButton text={message.content} />
        <IconButton icon="edit" label="Edit" onClick={() => (store.editing.value = message.id)} disabled={running.value} />
        {unanswered && !running.value && <IconButton icon="again" label="Answer" onClick={() => answerTo(message)} />}
        <IconButton icon="trash" label="Delete" onClick={() => store.deleteMessage(message)} disabled={running.value} />
      </div>
    </article>
  );
}

function Editor({message}: {message: Message}) {
  const area = useRef<HTMLTextAreaElement>(null);
  const [text, setText] = useState(message.content);
  useAutoHeight(area, text);
  // Before the next paint: later it would move the cursor of someone who types at once.
  useLayoutEffect(() => {
    area.current?.focus();
    area.current?.setSelectionRange(text.length, text.length);
  }, []);
  const cancel = () => {
    store.editing.value = null;
    focusComposer();
  };
  const submit = () => {
    if (text.trim() === '') return;
    stickToEnd();
    resend(message, text.trim());
    focusComposer();
  };
  return (
    <article class="turn question editing" aria-label="Edit your message">
      <textarea ref={area} aria-label="Edit message" value={text} onInput={(event) => setText(event.currentTarget.value)}
          onKeyDown={(event) => {
            if (event.isComposing) return;
            if (event.key === 'Enter' && !event.shiftKey) {
              event.preventDefault();
              submit();
            } else if (event.key === 'Escape') {
              event.stopPropagation();
              cancel();
            }
          }} />
      <div class="edit-buttons">
        <span class="quiet">The old branch is kept</span>
        <button type="button" class="plain" onClick={cancel}>Cancel</button>
        <button type="button" class="primary" onClick={submit} disabled={text.trim() === ''}>Send</button>
      </div>
    </article>
  );
}

function AnswerTurn({message}: {message: Message}) {
  const [plain, setPlain] = useState(false);
  const live = run.value?.message === message;
  const hasTokens = settings.value.values['logprobs'] === 'true' && message.logprobs !== undefined;
  const {answer} = splitThinking(message.content);
  return (
    <article class={`turn answer ${live ? 'live' : ''}`} aria-label="Answer">
      <Answer message={message} tokens={hasTokens && !plain} />
      {!live && <Outcome message={message} />}
      <footer class="below">
        <StatsLine message={message} live={live} />
        {!live && (
          <div class="actions">
            <Alternatives message={message} />
            {hasTokens && <IconButton icon="tokens" label={plain ? 'Show probabilities' : 'Show as text'} pressed={!plain} onClick={() => setPlain(!plain)} />}
            {answer !== '' && <CopyButton text={answer} />}
            <IconButton icon="again" label="Regenerate" onClick={() => {
              stickToEnd();
              regenerate(message);
            }} disabled={running.value} />
            <IconButton icon="trash" label="Delete" onClick={() => store.deleteMessage(message)} disabled={running.value} />
          </div>
        )}
      </footer>
    </article>
  );
}

function Alternatives({message}: {message: Message}) {
  const all = store.siblings(message);
  if (all.length < 2) return null;
  const index = all.indexOf(message);
  return (
    <span class="alternatives" role="group" aria-label="Alternatives">
      <IconButton icon="left" label="Previous alternative" onClick={() => store.showSibling(message, -1)} disabled={index === 0 || running.value} />
      <span>{index + 1}/{all.length}</span>
      <IconButton icon="right" label="Next alternative" onClick={() => store.showSibling(message, 1)} disabled={index === all.length - 1 || running.value} />
    </span>
  );
}

function CopyButton({text}: {text: string}) {
  const [copied, setCopied] = useState(false);
  return (
    <IconButton icon={copied ? 'check' : 'copy'} label={copied ? 'Copied' : 'Copy'} onClick={async () => {
      if (!await copyText(text)) return;
      setCopied(true);
      setTimeout(() => setCopied(false), 1500);
    }} />
  );
}
