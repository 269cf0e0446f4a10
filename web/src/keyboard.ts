// Keys that work everywhere on the page. What belongs to one field is handled there.
import {newChat} from './components/rail';
import {stop, running} from './chat/generate';
import * as store from './chat/store';
import {drawerOpen, kNarrow, railOpen} from './ui';

const isTyping = (target: EventTarget | null): boolean =>
    target instanceof HTMLElement && (target.isContentEditable || /^(INPUT|TEXTAREA|SELECT)$/.test(target.tagName));

export function startKeyboard(): void {
  document.addEventListener('keydown', (event) => {
    if (event.defaultPrevented || event.isComposing) return;
    if ((event.ctrlKey || event.metaKey) && !event.shiftKey && !event.altKey && event.key.toLowerCase() === 'k') {
      event.preventDefault();
      newChat();
    } else if (event.key === '/' && !event.ctrlKey && !event.metaKey && !event.altKey && !isTyping(event.target)) {
      event.preventDefault();
      const focus = () => document.querySelector<HTMLInputElement>('#search')?.focus();
      if (railOpen.value) return focus();
      railOpen.value = true;
      requestAnimationFrame(focus);  // it can be focused once it is drawn
    } else if (event.key === 'Escape' && document.querySelector('dialog[open]') === null) {
      escape();
    }
  });
}

// The nearest thing first: an answer that runs, then whatever lies over the conversation.
function escape(): void {
  if (running.value) stop();
  else if (drawerOpen.value) drawerOpen.value = false;
  else if (store.editing.value !== null) store.editing.value = null;
  else if (kNarrow.matches && railOpen.value) railOpen.value = false;
}
