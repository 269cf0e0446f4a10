// What the page knows of its server, kept fresh by polling: often while something is awaited, seldom otherwise.
import {computed, signal} from '@preact/signals';
import {ApiError, fetchHealth, fetchInfo, fetchModels} from '../api/client';
import type {ModelCard, ServerInfo} from '../api/types';
import {apiKey, readStore, writeStore} from './settings';

export type Health = 'connecting' | 'loading' | 'ready' | 'draining' | 'failed' | 'gone';

export const health = signal<Health>('connecting');
export const goneReason = signal('');
export const retryAt = signal(0);            // time of the next try while gone, as Date.now()
export const info = signal<ServerInfo>({});
export const models = signal<ModelCard[]>([]);
export const keyNeeded = signal(false);      // the server answered 401
export const awaited = signal(0);            // requests that wait for a first token: poll quickly for the queue

const kModelKey = 'donar.model';
const chosenModel = signal(readStore(kModelKey) ?? '');

export const model = computed(() => {
  const ids = models.value.map((card) => card.id);
  return ids.includes(chosenModel.value) ? chosenModel.value : ids[0] ?? info.value.model ?? '';
});

export const contextLength = computed(() => {
  const card = models.value.find((candidate) => candidate.id === model.value);
  return card?.max_model_len ?? info.value.max_model_len ?? 0;
});

export function chooseModel(id: string): void {
  chosenModel.value = id;
  writeStore(kModelKey, id);
}

const kKnown: Record<string, Health> = {ready: 'ready', ok: 'ready', loading: 'loading', draining: 'draining', failed: 'failed'};

let infoMissing = false;   // an older or another server: /health alone must do
let timer: ReturnType<typeof setTimeout> | undefined;
let failures = 0;
let polling = false;
let listedFor: string | null | undefined;  // the model that the list was read for
let again = false;         // somebody asked while a poll was under way

async function readStatus(): Promise<void> {
  if (!infoMissing) {
    try {
      const answer = await fetchInfo(apiKey.value);
      info.value = answer;
      health.value = kKnown[answer.status ?? 'ready'] ?? 'loading';
      return;
    } catch (error) {
      if (!(error instanceof ApiError) || error.status === 0) throw error;
      if (error.status === 404 || error.status === 405) infoMissing = true;
      // Anything else, a 401 or a 503, leaves /health to say how things are.
    }
  }
  health.value = kKnown[await fetchHealth()] ?? 'loading';
}

async function readModels(): Promise<void> {
  try {
    models.value = await fetchModels(apiKey.value);
    keyNeeded.value = false;
  } catch (error) {
    if (!(error instanceof ApiError) || error.status === 0) throw error;
    if (error.status === 401 || error.status === 403) keyNeeded.value = true;
  }
}

function delay(): number {
  switch (health.value) {
    case 'loading': return 400;
    case 'draining': return 1000;
    case 'gone': return Math.min(1000 * failures, 5000);
    default: return awaited.value > 0 ? 1000 : 5000;
  }
}

export async function poll(): Promise<void> {
  clearTimeout(timer);
  if (polling) {
    again = true;
    return;
  }
  polling = true;
  const before = health.value;
  try {
    await readStatus();
    const other = info.value.model !== listedFor;  // restarted with another model between two polls
    if (models.value.length === 0 || before !== health.value || other) await readModels();
    listedFor = info.value.model;
    failures = 0;
  } catch (error) {
    failures++;
    health.value = 'gone';
    goneReason.value = error instanceof Error ? error.message : String(error);
    infoMissing = false;   // whatever comes back may be another server
    models.value = models.value.slice();
  }
  polling = false;
  const wait = again ? 0 : delay();
  again = false;
  retryAt.value = Date.now() + wait;
  // A page nobody sees does not poll: it asks again the moment it is looked at.
  if (!document.hidden) timer = setTimeout(() => void poll(), wait);
}

// Called by a request that met no server or a full one, so that the page says so at once.
export function pollSoon(): void {
  void poll();
}

// A request that does not answer at once may wait in line: look.
awaited.subscribe((count) => {
  if (count === 0) return;
  clearTimeout(timer);
  timer = setTimeout(() => void poll(), 400);
});

export function startPolling(): void {
  document.addEventListener('visibilitychange', () => {
    if (!document.hidden) void poll();
  });
  let key = apiKey.value;
  apiKey.subscribe((value) => {
    if (value === key) return;
    key = value;
    models.value = [];
    void poll();
  });
  void poll();
}
