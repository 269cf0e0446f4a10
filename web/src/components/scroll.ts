// The transcript keeps its end in sight unless the reader moved up.
import {signal} from '@preact/signals';

const kNearPx = 32;

export const away = signal(false);  // the reader is looking at earlier text
let scroller: HTMLElement | null = null;
let stick = true;

export function attachScroller(element: HTMLElement, content: HTMLElement): () => void {
  scroller = element;
  let lastTop = element.scrollTop;
  const distance = () => element.scrollHeight - element.clientHeight - element.scrollTop;
  const onScroll = () => {
    if (distance() <= kNearPx) stick = true;
    else if (element.scrollTop < lastTop - 1) stick = false;
    lastTop = element.scrollTop;
    away.value = !stick;
  };
  // Runs after layout and before paint: the end never flickers out of sight.
  const observer = new ResizeObserver(() => {
    if (stick) element.scrollTop = element.scrollHeight;
    else away.value = distance() > kNearPx;
  });
  observer.observe(content);
  observer.observe(element);
  element.addEventListener('scroll', onScroll, {passive: true});
  return () => {
    observer.disconnect();
    element.removeEventListener('scroll', onScroll);
    scroller = null;
  };
}

export function stickToEnd(): void {
  stick = true;
  away.value = false;
  if (scroller !== null) scroller.scrollTop = scroller.scrollHeight;
}
