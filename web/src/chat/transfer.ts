// Export and import of conversations as one JSON file. A file is somebody else's input: every field is checked.
import type {Conversation, Message, Role, Stats, TokenLogprob, ToolCall} from './types';

const kFormat = 'donar-conversations';
const kVersion = 1;
const kRoles: Role[] = ['system', 'user', 'assistant', 'tool'];

export function toFile(conversations: Conversation[]): string {
  return JSON.stringify({format: kFormat, version: kVersion, exported: new Date().toISOString(), conversations}, null, 1);
}

type Fields = Record<string, unknown>;
const isObject = (value: unknown): value is Fields => typeof value === 'object' && value !== null && !Array.isArray(value);
const textOf = (value: unknown): string | undefined => typeof value === 'string' ? value : undefined;
const numberOf = (value: unknown): number | undefined =>
    typeof value === 'number' && Number.isFinite(value) ? value : undefined;

// Throws an Error whose message says what is wrong with the file.
export function fromFile(text: string): Conversation[] {
  let file: unknown;
  try {
    file = JSON.parse(text);
  } catch {
    throw new Error('this file is not JSON');
  }
  if (!isObject(file) || file['format'] !== kFormat) throw new Error('this file was not exported by Donar');
  if (file['version'] !== kVersion) throw new Error(`this file has version ${String(file['version'])}, this page reads ${kVersion}`);
  if (!Array.isArray(file['conversations'])) throw new Error('"conversations" is missing');
  return file['conversations'].map((entry, index) => conversationFrom(entry, `conversation ${index + 1}`));
}

function conversationFrom(entry: unknown, where: string): Conversation {
  const id = isObject(entry) ? textOf(entry['id']) : undefined;
  if (!isObject(entry) || id === undefined || !Array.isArray(entry['messages'])) throw new Error(`${where}: "id" or "messages" is missing`);
  const messages = entry['messages'].map((message, index) => messageFrom(message, `${where}, message ${index + 1}`));
  const ids = new Set<string>();
  for (const message of messages) {
    // A parent stands before its children: this also rules cycles out.
    if (message.parent !== null && !ids.has(message.parent)) throw new Error(`${where}: message ${message.id} has no parent in it`);
    if (ids.has(message.id)) throw new Error(`${where}: message ${message.id} is there twice`);
    ids.add(message.id);
  }
  const selected: Record<string, string> = {};
  if (isObject(entry['selected'])) {
    for (const [parent, child] of Object.entries(entry['selected'])) {
      if (typeof child === 'string' && ids.has(child)) selected[parent] = child;
    }
  }
  const created = numberOf(entry['created']) ?? Date.now();
  return {id, title: textOf(entry['title']) ?? '', created, updated: numberOf(entry['updated']) ?? created, messages, selected};
}

function messageFrom(entry: unknown, where: string): Message {
  if (!isObject(entry)) throw new Error(`${where} is not an object`);
  const id = textOf(entry['id']);
  const role = kRoles.find((candidate) => candidate === entry['role']);
  const content = textOf(entry['content']);
  if (id === undefined || role === undefined || content === undefined) throw new Error(`${where}: "id", "role" or "content" is missing`);
  const message: Message = {id, role, content, parent: textOf(entry['parent']) ?? null, created: numberOf(entry['created']) ?? Date.now()};
  for (const name of ['reasoning', 'toolCallId', 'model', 'finish', 'error'] as const) {
    const value = textOf(entry[name]);
    if (value !== undefined) message[name] = value;
  }
  const reasoningMs = numberOf(entry['reasoningMs']);
  if (reasoningMs !== undefined) message.reasoningMs = reasoningMs;
  if (Array.isArray(entry['toolCalls'])) message.toolCalls = entry['toolCalls'].filter(isObject).map(toolCallFrom);
  if (isObject(entry['stats'])) message.stats = statsFrom(entry['stats']);
  if (Array.isArray(entry['logprobs'])) message.logprobs = entry['logprobs'].flatMap(logprobFrom);
  return message;
}

const toolCallFrom = (call: Fields): ToolCall =>
    ({id: textOf(call['id']) ?? '', name: textOf(call['name']) ?? '', arguments: textOf(call['arguments']) ?? ''});

function statsFrom(fields: Fields): Stats {
  const stats: Stats = {};
  for (const name of ['ttftMs', 'tokensPerSecond', 'completionTokens', 'promptTokens', 'promptPerSecond', 'cachedTokens'] as const) {
    const value = numberOf(fields[name]);
    if (value !== undefined) stats[name] = value;
  }
  return stats;
}

const isPair = (entry: unknown): entry is [string, number] =>
    Array.isArray(entry) && typeof entry[0] === 'string' && typeof entry[1] === 'number';

function logprobFrom(entry: unknown): TokenLogprob[] {
  if (!isPair(entry)) return [];
  const top = (entry as unknown[])[2];
  return [[entry[0], entry[1], Array.isArray(top) ? top.filter(isPair).map(([token, value]) => [token, value]) : []]];
}
