// Light, dark, or as the system has it.
import {effect, signal} from '@preact/signals';
import {readStore, writeStore} from './chat/settings';

export type Theme = 'system' | 'light' | 'dark';
export const kThemes: Theme[] = ['system', 'light', 'dark'];
const kKey = 'donar.theme';

export const theme = signal<Theme>(kThemes.find((name) => name === readStore(kKey)) ?? 'system');

effect(() => {
  if (theme.value === 'system') delete document.documentElement.dataset['theme'];
  else document.documentElement.dataset['theme'] = theme.value;
  writeStore(kKey, theme.value);
});

export function nextTheme(): void {
  theme.value = kThemes[(kThemes.indexOf(theme.value) + 1) % kThemes.length]!;
}
