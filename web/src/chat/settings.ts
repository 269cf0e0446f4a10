// The sampling settings: one table that the drawer, the request and the curl line all read.
import {effect, signal} from '@preact/signals';

export interface Field {
  name: string;              // as the API calls it
  label: string;
  kind: 'number' | 'integer' | 'lines' | 'switch';
  fallback: string;          // what the server takes when the field is not sent, in words
  hint: string;
  min?: number;
  max?: number;
  minExclusive?: boolean;
}

export const kFields: Field[] = [
  {name: 'temperature', label: 'Temperature', kind: 'number', fallback: '1', min: 0, max: 2, hint: '0 always takes the likeliest token'},
  {name: 'top_p', label: 'Top p', kind: 'number', fallback: '1', min: 0, minExclusive: true, max: 1, hint: 'keeps the likeliest tokens up to this share'},
  {name: 'top_k', label: 'Top k', kind: 'integer', fallback: '0, off', min: -1, hint: 'keeps this many tokens'},
  {name: 'min_p', label: 'Min p', kind: 'number', fallback: '0', min: 0, max: 1, hint: 'drops tokens below this share of the likeliest'},
  {name: 'max_tokens', label: 'Max tokens', kind: 'integer', fallback: 'what fits', min: 1, hint: 'length of one answer'},
  {name: 'seed', label: 'Seed', kind: 'integer', fallback: 'random', hint: 'the same seed gives the same answer'},
  {name: 'stop', label: 'Stop', kind: 'lines', fallback: 'none', hint: 'one text a line ends the answer'},
  {name: 'presence_penalty', label: 'Presence penalty', kind: 'number', fallback: '0', min: -2, max: 2, hint: 'for tokens used at all'},
  {name: 'frequency_penalty', label: 'Frequency penalty', kind: 'number', fallback: '0', min: -2, max: 2, hint: 'for every use of a token'},
  {name: 'repetition_penalty', label: 'Repetition penalty', kind: 'number', fallback: '1', min: 0, minExclusive: true, max: 2, hint: 'factor on tokens of prompt and answer'},
  {name: 'logprobs', label: 'Logprobs on hover', kind: 'switch', fallback: 'false', hint: 'colours an answer by how sure the model was'},
];

export const kTopLogprobs = 5;

export interface Settings {
  system: string;
  values: Record<string, string>;  // field name -> text as typed; absent or "": not sent
}

const kKey = 'donar.settings';
const kApiKey = 'donar.api_key';

// Storage may be refused (private windows, blocked cookies): the page then simply forgets.
export function readStore(key: string): string | null {
  try {
    return localStorage.getItem(key);
  } catch {
    return null;
  }
}

export function writeStore(key: string, value: string): void {
  try {
    localStorage.setItem(key, value);
  } catch {
    // see readStore
  }
}

function load(): Settings {
  try {
    const stored = JSON.parse(readStore(kKey) ?? '{}') as Partial<Settings>;
    const values: Record<string, string> = {};
    for (const field of kFields) {
      const value = stored.values?.[field.name];
      if (typeof value === 'string') values[field.name] = value;
    }
    return {system: typeof stored.system === 'string' ? stored.system : '', values};
  } catch {
    return {system: '', values: {}};
  }
}

export const settings = signal<Settings>(load());
export const apiKey = signal<string>(readStore(kApiKey) ?? '');

effect(() => writeStore(kKey, JSON.stringify(settings.value)));
effect(() => writeStore(kApiKey, apiKey.value));

export function setValue(name: string, value: string): void {
  settings.value = {...settings.value, values: {...settings.value.values, [name]: value}};
}

export function resetSettings(): void {
  settings.value = {system: '', values: {}};
}

// What is wrong with the text of a field, or null.
export function problemOf(field: Field, text: string): string | null {
  if (text.trim() === '' || field.kind === 'lines' || field.kind === 'switch') return null;
  const value = Number(text.replace(',', '.'));
  if (!Number.isFinite(value)) return 'not a number';
  if (field.kind === 'integer' && !Number.isSafeInteger(value)) return 'must be a whole number';
  if (field.min !== undefined && (field.minExclusive ? value <= field.min : value < field.min)) {
    return `must be ${field.minExclusive ? 'above' : 'at least'} ${field.min}`;
  }
  if (field.max !== undefined && value > field.max) return `must be at most ${field.max}`;
  return null;
}

// The fields of a request body. A text that is wrong is left out; the drawer says so beside it.
export function samplingBody(from: Settings): Record<string, unknown> {
  const body: Record<string, unknown> = {};
  for (const field of kFields) {
    const text = from.values[field.name] ?? '';
    if (text.trim() === '' || problemOf(field, text) !== null) continue;
    if (field.kind === 'switch') {
      if (text !== 'true') continue;
      body['logprobs'] = true;
      body['top_logprobs'] = kTopLogprobs;
    } else if (field.kind === 'lines') {
      const lines = text.split('\n').filter((line) => line !== '');
      if (lines.length > 0) body[field.name] = lines;
    } else {
      body[field.name] = Number(text.replace(',', '.'));
    }
  }
  return body;
}
