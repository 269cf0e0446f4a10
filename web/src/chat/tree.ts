// Branches of a conversation: pure functions on Conversation.
import type {Conversation, Message} from './types';

// crypto.randomUUID is missing on plain-http addresses other than loopback, where the page must work too.
export function newId(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(12));
  return 'm' + Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');
}

export function emptyConversation(): Conversation {
  const now = Date.now();
  return {id: newId(), title: '', created: now, updated: now, messages: [], selected: {}};
}

export function childrenOf(conversation: Conversation, parent: string | null): Message[] {
  return conversation.messages.filter((message) => message.parent === parent);
}

// The messages on screen, first to last.
export function pathOf(conversation: Conversation): Message[] {
  const children = new Map<string | null, Message[]>();
  for (const message of conversation.messages) {
    const siblings = children.get(message.parent);
    if (siblings === undefined) children.set(message.parent, [message]);
    else siblings.push(message);
  }
  const path: Message[] = [];
  let parent: string | null = null;
  for (;;) {
    const siblings = children.get(parent);
    if (siblings === undefined) return path;
    const chosen = conversation.selected[parent ?? ''];
    const message: Message = siblings.find((sibling) => sibling.id === chosen) ?? siblings[siblings.length - 1]!;
    path.push(message);
    parent = message.id;
  }
}

// The messages that lead to one message, itself included.
export function pathTo(conversation: Conversation, id: string | null): Message[] {
  const path: Message[] = [];
  while (id !== null) {
    const message = conversation.messages.find((candidate) => candidate.id === id);
    if (message === undefined) break;
    path.unshift(message);
    id = message.parent;
  }
  return path;
}

export function append(conversation: Conversation, message: Message): void {
  conversation.messages.push(message);
  conversation.selected[message.parent ?? ''] = message.id;
  conversation.updated = message.created;
}

export function select(conversation: Conversation, message: Message): void {
  conversation.selected[message.parent ?? ''] = message.id;
}

// Takes a message and everything below it away.
export function remove(conversation: Conversation, id: string): void {
  const gone = new Set([id]);
  for (let grew = true; grew;) {
    grew = false;
    for (const message of conversation.messages) {
      if (message.parent !== null && gone.has(message.parent) && !gone.has(message.id)) {
        gone.add(message.id);
        grew = true;
      }
    }
  }
  conversation.messages = conversation.messages.filter((message) => !gone.has(message.id));
  for (const [parent, child] of Object.entries(conversation.selected)) {
    if (gone.has(parent) || gone.has(child)) delete conversation.selected[parent];
  }
}

export function titleFrom(text: string): string {
  const line = text.trim().split('\n', 1)[0]!.replace(/^[#>*\s]+/, '').trim();
  return line.length > 60 ? line.slice(0, 57).trimEnd() + '…' : line || 'New chat';
}
