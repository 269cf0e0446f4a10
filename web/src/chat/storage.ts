// Conversations in IndexedDB. Heads and bodies lie apart, so that the list opens without reading every answer.
// Where the browser refuses IndexedDB the page works on and says that nothing is kept.
import type {Conversation, ConversationHead} from './types';

const kDatabase = 'donar';
const kHeads = 'heads';
const kBodies = 'bodies';

let database: Promise<IDBDatabase> | null = null;

function open(): Promise<IDBDatabase> {
  database ??= new Promise<IDBDatabase>((resolve, reject) => {
    const request = indexedDB.open(kDatabase, 1);
    request.onupgradeneeded = () => {
      request.result.createObjectStore(kHeads, {keyPath: 'id'});
      request.result.createObjectStore(kBodies, {keyPath: 'id'});
    };
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
  return database;
}

async function transaction<T>(
    mode: IDBTransactionMode, work: (heads: IDBObjectStore, bodies: IDBObjectStore) => IDBRequest<T> | null): Promise<T | null> {
  const db = await open();
  return new Promise((resolve, reject) => {
    const run = db.transaction([kHeads, kBodies], mode);
    const request = work(run.objectStore(kHeads), run.objectStore(kBodies));
    run.oncomplete = () => resolve(request === null ? null : request.result);
    run.onerror = () => reject(run.error);
    run.onabort = () => reject(run.error);
  });
}

export const headOf = ({id, title, created, updated}: ConversationHead): ConversationHead => ({id, title, created, updated});

export async function listHeads(): Promise<ConversationHead[]> {
  const heads = await transaction<ConversationHead[]>('readonly', (store) => store.getAll()) ?? [];
  return heads.sort((a, b) => b.updated - a.updated);
}

export async function loadConversation(id: string): Promise<Conversation | null> {
  return await transaction<Conversation>('readonly', (_, bodies) => bodies.get(id)) ?? null;
}

export async function loadAll(): Promise<Conversation[]> {
  return await transaction<Conversation[]>('readonly', (_, bodies) => bodies.getAll()) ?? [];
}

export async function saveConversations(conversations: Conversation[]): Promise<void> {
  await transaction('readwrite', (heads, bodies) => {
    for (const conversation of conversations) {
      heads.put(headOf(conversation));
      bodies.put(conversation);
    }
    return null;
  });
}

export async function deleteConversation(id: string): Promise<void> {
  await transaction('readwrite', (heads, bodies) => {
    heads.delete(id);
    bodies.delete(id);
    return null;
  });
}

export async function deleteEverything(): Promise<void> {
  await transaction('readwrite', (heads, bodies) => {
    heads.clear();
    bodies.clear();
    return null;
  });
}

// Ids of the conversations whose title or text holds the query, without regard to case.
export async function searchText(query: string): Promise<Set<string>> {
  const needle = query.toLocaleLowerCase();
  const found = new Set<string>();
  const db = await open();
  await new Promise<void>((resolve, reject) => {
    const request = db.transaction(kBodies).objectStore(kBodies).openCursor();
    request.onerror = () => reject(request.error);
    request.onsuccess = () => {
      const cursor = request.result;
      if (cursor === null) return resolve();
      const conversation = cursor.value as Conversation;
      const holds = (text: string) => text.toLocaleLowerCase().includes(needle);
      if (holds(conversation.title) || conversation.messages.some((message) => holds(message.content))) {
        found.add(conversation.id);
      }
      cursor.continue();
    };
  });
  return found;
}
