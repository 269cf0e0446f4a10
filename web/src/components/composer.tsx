// Where questions are written. One button sends and stops.
import {useLayoutEffect, useRef} from 'preact/hooks';
import {running, send, stop} from '../chat/generate';
import * as store from '../chat/store';
import {draft} from '../ui';
import {Icon} from './icons';
import {stickToEnd} from './scroll';

function submit(): void {
  const text = draft.value.trim();
  if (text === '' || running.value) return;
  draft.value = '';
  stickToEnd();
  send(text);
}

function editLast(): boolean {
  const last = store.path.value.findLast((message) => message.role === 'user');
  if (last === undefined || running.value) return false;
  store.editing.value = last.id;
  return true;
}

// Grows with its text; the style sheet sets the limit.
export function useAutoHeight(area: {current: HTMLTextAreaElement | null}, text: string): void {
  useLayoutEffect(() => {
    const element = area.current;
    if (element === null) return;
    element.style.height = 'auto';
    element.style.height = `${element.scrollHeight}px`;
  }, [text]);
}

export function Composer() {
  const area = useRef<HTMLTextAreaElement>(null);
  const text = draft.value;
  const streaming = running.value;
  useAutoHeight(area, text);
  return (
    <form class="composer" onSubmit={(event) => {
      event.preventDefault();
      submit();
    }}>
      <textarea id="composer" ref={area} rows={1} value={text} placeholder="Ask something" aria-label="Message" autofocus
          enterkeyhint="send" onInput={(event) => (draft.value = event.currentTarget.value)} onKeyDown={(event) => {
            if (event.isComposing) return;
            if (event.key === 'Enter' && !event.shiftKey) {
              event.preventDefault();
              submit();
            } else if (event.key === 'ArrowUp' && text === '' && editLast()) {
              event.preventDefault();
            }
          }} />
      {streaming
        ? <button type="button" class="send stop" aria-label="Stop" title="Stop (Esc)" onClick={stop}><Icon name="stop" /></button>
        : <button type="submit" class="send" aria-label="Send" title="Send (Enter)" disabled={text.trim() === ''}><Icon name="send" /></button>}
    </form>
  );
}
