// Splits a model's text into what it thought and what it answers, while it streams.

export interface Split {
  reasoning: string;
  answer: string;
  open: boolean;  // still thinking
}

const kOpen = '<think>';
const kClose = '</think>';

export function splitThinking(text: string): Split {
  const start = text.search(/\S/);
  if (start < 0) return {reasoning: '', answer: '', open: false};
  if (kOpen.startsWith(text.slice(start, start + kOpen.length)) && text.length - start < kOpen.length) {
    return {reasoning: '', answer: '', open: true};  // half a tag so far
  }
  const tagged = text.startsWith(kOpen, start);
  const close = text.indexOf(kClose);
  if (close >= 0) {
    // Templates of reasoning models put the opening tag into the prompt: then only the closing one comes.
    const from = tagged ? start + kOpen.length : 0;
    if (tagged || looksLikeThought(text, close)) {
      return {reasoning: text.slice(from, close).trim(), answer: text.slice(close + kClose.length).trimStart(), open: false};
    }
  }
  if (tagged) return {reasoning: withoutPartialTag(text.slice(start + kOpen.length)).trimStart(), answer: '', open: true};
  return {reasoning: '', answer: text, open: false};
}

// A closing tag inside code is a quotation, one on its own is the end of a thought.
function looksLikeThought(text: string, close: number): boolean {
  const before = text.slice(0, close);
  return (before.match(/`/g)?.length ?? 0) % 2 === 0 && !before.includes(kOpen);
}

function withoutPartialTag(text: string): string {
  for (let length = Math.min(kClose.length - 1, text.length); length > 0; length--) {
    if (text.endsWith(kClose.slice(0, length))) return text.slice(0, -length);
  }
  return text;
}
