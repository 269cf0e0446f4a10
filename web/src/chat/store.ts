// The conversations: which one is on screen, and everything a reader can do to them short of generating.
import {computed, signal} from '@preact/signals';
import * as storage from './storage';
import {toast} from './toast';
import {fromFile, toFile} from './transfer';
import {childrenOf, emptyConversation, newId, pathOf, remove, select} from './tree';
import type {Conversation, ConversationHead, Message} from './types';

export const heads = signal<ConversationHead[]>([]);
export const stored = signal(true);                       // false: IndexedDB is refused
// A new wrapper after every change; the conversation inside is one object that is changed in place.
export const current = signal<{conversation: Conversation}>({conversation: emptyConversation()});
export const path = computed(() => pathOf(current.value.conversation));
export const editing = signal<string | null>(null);       // id of the user turn that is being edited

// Conversations that an answer is being written to: reopened from here, not from disk.
export const busy = new Map<string, Conversation>();

// Where the browser refuses storage, conversations live as long as the page.
const unsaved = new Map<string, Conversation>();

const channel = typeof BroadcastChannel === 'undefined' ? null : new BroadcastChannel('donar');

export function touch(conversation: Conversation): void {
  if (current.value.conversation.id === conversation.id) current.value = {conversation};
}

async function guarded<T>(work: Promise<T>): Promise<T | null> {
  try {
    return await work;
  } catch (error) {
    if (stored.value) toast(`Conversations are not kept: the browser refused to store them (${String(error)})`);
    stored.value = false;
    return null;
  }
}

function putHead(conversation: Conversation): void {
  heads.value = [storage.headOf(conversation), ...heads.value.filter((head) => head.id !== conversation.id)]
      .sort((a, b) => b.updated - a.updated);
}

export async function save(conversation: Conversation): Promise<void> {
  putHead(conversation);
  if (!stored.value) unsaved.set(conversation.id, conversation);
  await guarded(storage.saveConversations([conversation]));
  channel?.postMessage(conversation.id);
}

// The one object of a conversation that is written to or on screen, else what lies on disk.
async function find(id: string): Promise<Conversation | null> {
  const shown = current.value.conversation;
  return busy.get(id) ?? (shown.id === id ? shown : null) ?? unsaved.get(id) ?? await guarded(storage.loadConversation(id));
}

async function reload(id: string): Promise<void> {
  heads.value = await guarded(storage.listHeads()) ?? heads.value;
  const shown = current.value.conversation;
  if (shown.id !== id || busy.has(id)) return;
  const conversation = await guarded(storage.loadConversation(id));
  if (conversation !== null) current.value = {conversation};
}

export async function start(): Promise<void> {
  channel?.addEventListener('message', (event) => void reload(String(event.data)));
  heads.value = await guarded(storage.listHeads()) ?? [];
  const wanted = location.hash.slice(1);
  if (heads.value.some((head) => head.id === wanted)) await openConversation(wanted);
  window.addEventListener('hashchange', () => {
    const id = location.hash.slice(1);
    if (id !== '' && id !== current.value.conversation.id) void openConversation(id);
  });
}

function show(conversation: Conversation): void {
  editing.value = null;
  current.value = {conversation};
  const hash = heads.value.some((head) => head.id === conversation.id) ? `#${conversation.id}` : '';
  if (location.hash !== hash) history.pushState(null, '', hash || location.pathname + location.search);
}

export function newConversation(): void {
  if (current.value.conversation.messages.length > 0) show(emptyConversation());
}

export async function openConversation(id: string): Promise<void> {
  const conversation = await find(id);
  if (conversation !== null) show(conversation);
}

// The address names a conversation as soon as it has a first message.
export function nameInAddress(conversation: Conversation): void {
  if (current.value.conversation.id === conversation.id) history.replaceState(null, '', `#${conversation.id}`);
}

export async function rename(id: string, title: string): Promise<void> {
  const conversation = await find(id);
  if (conversation === null || title.trim() === '') return;
  conversation.title = title.trim();
  touch(conversation);
  await save(conversation);
}

export async function deleteOne(id: string): Promise<void> {
  heads.value = heads.value.filter((head) => head.id !== id);
  const finding = find(id);
  if (current.value.conversation.id === id) show(emptyConversation());
  const conversation = await finding;
  await guarded(storage.deleteConversation(id));
  channel?.postMessage(id);
  if (conversation === null) return;
  toast(`Deleted “${conversation.title}”`, {
    label: 'Undo',
    run: () => void save(conversation),
  });
}

export async function deleteAll(): Promise<void> {
  heads.value = [];
  show(emptyConversation());
  await guarded(storage.deleteEverything());
  channel?.postMessage('');
}

export async function exportAll(): Promise<void> {
  const conversations = await guarded(storage.loadAll()) ?? [];
  const url = URL.createObjectURL(new Blob([toFile(conversations)], {type: 'application/json'}));
  const link = document.createElement('a');
  link.href = url;
  link.download = `donar-conversations-${new Date().toISOString().slice(0, 10)}.json`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}

// A file lists fields in its own order: both sides are read the same way before they are compared.
function sameMessages(here: Conversation, imported: Conversation): boolean {
  return JSON.stringify(fromFile(toFile([here]))[0]!.messages) === JSON.stringify(imported.messages);
}

// A conversation that is here already and differs is kept beside the imported one.
export async function importFile(file: File): Promise<void> {
  try {
    const conversations = fromFile(await file.text());
    const here = new Map((await guarded(storage.loadAll()) ?? []).map((conversation) => [conversation.id, conversation]));
    const fresh: Conversation[] = [];
    for (const conversation of conversations) {
      const twin = here.get(conversation.id);
      if (twin === undefined) fresh.push(conversation);
      else if (!sameMessages(twin, conversation)) fresh.push({...conversation, id: newId()});
    }
    await guarded(storage.saveConversations(fresh));
    heads.value = await guarded(storage.listHeads()) ?? heads.value;
    const known = conversations.length - fresh.length;
    toast(`Imported ${fresh.length} conversation${fresh.length === 1 ? '' : 's'}${known > 0 ? `, ${known} here already` : ''}`);
  } catch (error) {
    toast(`Nothing was imported: ${error instanceof Error ? error.message : String(error)}`);
  }
}

export function siblings(message: Message): Message[] {
  return childrenOf(current.value.conversation, message.parent);
}

export function showSibling(message: Message, step: number): void {
  const all = siblings(message);
  const next = all[all.indexOf(message) + step];
  if (next === undefined) return;
  const {conversation} = current.value;
  select(conversation, next);
  touch(conversation);
  void save(conversation);
}

export function deleteMessage(message: Message): void {
  const {conversation} = current.value;
  const before = {messages: conversation.messages.slice(), selected: {...conversation.selected}};
  remove(conversation, message.id);
  touch(conversation);
  void save(conversation);
  toast('Deleted the message and what followed it', {
    label: 'Undo',
    run: () => {
      Object.assign(conversation, before);
      touch(conversation);
      void save(conversation);
    },
  });
}
