// The turns on screen, the "latest" button, and what stands there before the first turn.
import {useEffect, useRef} from 'preact/hooks';
import {copyText} from '../clipboard';
import {running} from '../chat/generate';
import * as store from '../chat/store';
import {Icon} from './icons';
import {attachScroller, away, stickToEnd} from './scroll';
import {Turn} from './turn';
import {Welcome} from './welcome';

// Code blocks are plain HTML: their copy buttons are served here.
async function copyCode(event: MouseEvent): Promise<void> {
  const button = (event.target as Element).closest<HTMLButtonElement>('[data-copy-code]');
  const code = button?.closest('.code')?.querySelector('code');
  if (!button || !code || !await copyText(code.textContent ?? '')) return;
  button.textContent = 'Copied';
  setTimeout(() => (button.textContent = 'Copy'), 1500);
}

export function Transcript() {
  const scroller = useRef<HTMLDivElement>(null);
  const content = useRef<HTMLDivElement>(null);
  const {conversation} = store.current.value;
  const path = store.path.value;
  useEffect(() => attachScroller(scroller.current!, content.current!), []);
  useEffect(stickToEnd, [conversation.id]);
  return (
    <div class="transcript">
      <div class="scroller" ref={scroller} tabIndex={-1} onClick={(event) => void copyCode(event)}>
        <div class="column" ref={content} role="log" aria-label="Conversation" aria-live="polite" aria-busy={running.value}>
          {path.length === 0 ? <Welcome /> : path.map((message) => <Turn key={message.id} message={message} />)}
        </div>
      </div>
      {away.value && path.length > 0 && (
        <button type="button" class="latest" onClick={stickToEnd}><Icon name="down" /> Latest</button>
      )}
    </div>
  );
}
