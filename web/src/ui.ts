// What is open on screen, apart from the conversation itself.
import {signal} from '@preact/signals';

export const kNarrow = matchMedia('(max-width: 900px)');

export const railOpen = signal(!kNarrow.matches);
export const drawerOpen = signal(false);
export const draft = signal('');

kNarrow.addEventListener('change', () => (railOpen.value = !kNarrow.matches));

export function focusComposer(): void {
  document.querySelector<HTMLTextAreaElement>('#composer')?.focus();
}
