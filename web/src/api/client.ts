// Calls to the server that sent this page. Addresses are relative to the page, so a proxy may put both below a path.
import {readEvents} from './sse';
import type {ChatChunk, ModelCard, ServerInfo, WireMessage} from './types';

export class ApiError extends Error {
  constructor(
      message: string,
      readonly status: number,               // 0: no answer at all
      readonly retryAfterMs: number | null = null) {
    super(message);
  }
  get busy(): boolean {
    return this.status === 429 || this.status === 503;
  }
}

export const address = (path: string): string => new URL(path, document.baseURI).href;

function headers(key: string, json: boolean): Record<string, string> {
  const result: Record<string, string> = {};
  if (json) result['Content-Type'] = 'application/json';
  if (key !== '') result['Authorization'] = `Bearer ${key}`;
  return result;
}

// The message of {"error": {"message"}}, of {"error": "..."}, {"detail": "..."} or {"message": "..."}.
export function messageOf(body: unknown): string | null {
  if (typeof body === 'string') return body;
  if (typeof body !== 'object' || body === null) return null;
  const fields = body as Record<string, unknown>;
  for (const name of ['error', 'message', 'detail']) {
    const message = messageOf(fields[name]);
    if (message !== null && message !== '') return message;
  }
  return null;
}

function retryAfter(response: Response): number | null {
  const seconds = Number(response.headers.get('Retry-After') ?? NaN);
  return Number.isFinite(seconds) && seconds >= 0 ? seconds * 1000 : null;
}

async function errorOf(response: Response): Promise<ApiError> {
  let message = `The server answered ${response.status} ${response.statusText}`.trim();
  const text = await response.text().catch(() => '');
  try {
    message = messageOf(JSON.parse(text)) ?? message;
  } catch {
    // Not JSON, perhaps a proxy's page: the status says enough.
  }
  return new ApiError(message, response.status, retryAfter(response));
}

async function send(path: string, init: RequestInit): Promise<Response> {
  try {
    return await fetch(address(path), {cache: 'no-store', ...init});
  } catch (error) {
    if (error instanceof DOMException && error.name === 'AbortError') throw error;
    if (error instanceof DOMException && error.name === 'TimeoutError') {
      throw new ApiError(`${location.host} did not answer within 5 s`, 0);
    }
    throw new ApiError(`No answer from ${location.host}: the server was stopped, or the network is down`, 0);
  }
}

async function getJson<T>(path: string, key: string): Promise<T> {
  const response = await send(path, {headers: headers(key, false), signal: AbortSignal.timeout(5000)});
  if (!response.ok) throw await errorOf(response);
  return await response.json() as T;
}

export const fetchInfo = (key: string): Promise<ServerInfo> => getJson('donar/info', key);

export async function fetchModels(key: string): Promise<ModelCard[]> {
  return (await getJson<{data?: ModelCard[]}>('v1/models', key)).data ?? [];
}

// "ready" for a 200, else what the 503 says.
export async function fetchHealth(): Promise<string> {
  const response = await send('health', {signal: AbortSignal.timeout(5000)});
  if (response.ok) return 'ready';
  const body = await response.json().catch(() => null) as {status?: unknown} | null;
  if (response.status === 503) return typeof body?.status === 'string' ? body.status : 'loading';
  throw new ApiError(`${location.host} answered ${response.status} to /health`, 0);
}

// The tokens of a prompt, or null where the server cannot say.
export async function countTokens(
    model: string, messages: WireMessage[], key: string, signal: AbortSignal): Promise<number | null> {
  const response = await send(
      'tokenize',
      {method: 'POST', headers: headers(key, true), body: JSON.stringify({model, messages}), signal});
  if (!response.ok) return null;
  const body = await response.json().catch(() => null) as {count?: unknown} | null;
  return typeof body?.count === 'number' ? body.count : null;
}

export async function* streamChat(body: object, key: string, signal: AbortSignal): AsyncGenerator<ChatChunk> {
  const response = await send(
      'v1/chat/completions', {method: 'POST', headers: headers(key, true), body: JSON.stringify(body), signal});
  if (!response.ok || response.body === null) throw await errorOf(response);
  let finished = false;
  try {
    for await (const event of readEvents(response.body)) {
      if (event.data === '[DONE]') return;
      let chunk: ChatChunk;
      try {
        chunk = JSON.parse(event.data) as ChatChunk;
      } catch {
        throw new ApiError('The server sent a line that is not JSON', response.status);
      }
      if (chunk.error !== undefined || event.event === 'error') {
        throw new ApiError(messageOf(chunk) ?? 'The server reported an error', response.status);
      }
      if (chunk.choices?.some((choice) => choice.finish_reason)) finished = true;
      yield chunk;
    }
  } catch (error) {
    if (error instanceof ApiError || (error instanceof DOMException && error.name === 'AbortError')) throw error;
    throw new ApiError('The connection was lost before the answer was complete', 0);
  }
  if (!finished) throw new ApiError('The connection closed before the answer was complete', 0);
}
