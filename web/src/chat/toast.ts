// One short notice at a time, at the foot of the page.
import {signal} from '@preact/signals';

export interface Toast {
  text: string;
  action?: {label: string; run: () => void};
}

export const shownToast = signal<Toast | null>(null);
let timer: ReturnType<typeof setTimeout> | undefined;

export function toast(text: string, action?: Toast['action']): void {
  clearTimeout(timer);
  shownToast.value = action === undefined ? {text} : {text, action};
  timer = setTimeout(() => (shownToast.value = null), 7000);
}

export function dismissToast(): void {
  clearTimeout(timer);
  shownToast.value = null;
}
