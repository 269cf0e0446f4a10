// Numbers and times as the page writes them.

export const count = (value: number): string => Math.round(value).toLocaleString('en-US');

export function rate(tokensPerSecond: number): string {
  return `${tokensPerSecond >= 10 ? count(tokensPerSecond) : tokensPerSecond.toFixed(1)} tok/s`;
}

export function duration(ms: number): string {
  if (ms < 1000) return `${Math.round(ms)} ms`;
  if (ms < 60_000) return `${(ms / 1000).toFixed(1)} s`;
  return `${Math.floor(ms / 60_000)} min ${Math.round(ms % 60_000 / 1000)} s`;
}

export function bytes(value: number): string {
  if (value < 1e6) return `${(value / 1e3).toFixed(0)} kB`;
  return value < 1e9 ? `${(value / 1e6).toFixed(0)} MB` : `${(value / 1e9).toFixed(2)} GB`;
}

// The heading under which a conversation stands in the list.
export function dayOf(time: number, now: number): string {
  const start = new Date(now).setHours(0, 0, 0, 0);
  if (time >= start) return 'Today';
  const yesterday = new Date(start);
  yesterday.setDate(yesterday.getDate() - 1);
  if (time >= yesterday.getTime()) return 'Yesterday';
  const date = new Date(time);
  if (time > start - 6 * 86_400_000) return date.toLocaleDateString('en-US', {weekday: 'long'});
  const sameYear = date.getFullYear() === new Date(now).getFullYear();
  return date.toLocaleDateString('en-US', {day: 'numeric', month: 'long', ...(sameYear ? {} : {year: 'numeric'})});
}
