// Brings in the Markdown renderer, the larger half of the code, after the page has been drawn for the first time.
import {signal} from '@preact/signals';

type Chunk = typeof import('./view');

export const renderer = signal<Chunk | null>(null);  // null: answers show as plain text for a moment

const kRetryMs = 2000;

export async function loadRenderer(): Promise<void> {
  try {
    // A file beside app.js, built as an entry of its own.
    const path = './markdown.js';
    renderer.value = await import(path) as Chunk;
  } catch {
    setTimeout(() => void loadRenderer(), kRetryMs);  // the server went away in this very moment
  }
}
