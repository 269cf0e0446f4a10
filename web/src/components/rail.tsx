// The list of conversations: search, rename, delete, export, import.
import {computed, effect, signal} from '@preact/signals';
import {useEffect, useRef, useState} from 'preact/hooks';
import {stopIn} from '../chat/generate';
import {searchText} from '../chat/storage';
import * as store from '../chat/store';
import type {ConversationHead} from '../chat/types';
import {dayOf} from '../format';
import {nextTheme, theme} from '../theme';
import {focusComposer, kNarrow, railOpen} from '../ui';
import {confirmDeleteAll} from './confirm';
import {Icon, IconButton} from './icons';

const query = signal('');
const matches = signal<Set<string> | null>(null);  // null: no search

// Titles answer at once, texts as soon as they have been read.
effect(() => {
  const text = query.value.trim();
  if (text === '') {
    matches.value = null;
    return;
  }
  const needle = text.toLocaleLowerCase();
  matches.value = new Set(
      store.heads.peek().filter((head) => head.title.toLocaleLowerCase().includes(needle)).map((head) => head.id));
  const timer = setTimeout(async () => {
    const found = await searchText(text).catch(() => null);
    if (found !== null && query.peek().trim() === text) matches.value = found;
  }, 150);
  return () => clearTimeout(timer);
});

const days = computed(() => {
  const groups: {day: string; heads: ConversationHead[]}[] = [];
  const now = Date.now();
  for (const head of store.heads.value) {
    if (matches.value !== null && !matches.value.has(head.id)) continue;
    const day = dayOf(head.updated, now);
    if (groups.at(-1)?.day === day) groups.at(-1)!.heads.push(head);
    else groups.push({day, heads: [head]});
  }
  return groups;
});

export function newChat(): void {
  store.newConversation();
  if (kNarrow.matches) railOpen.value = false;
  focusComposer();
}

export function Rail() {
  const file = useRef<HTMLInputElement>(null);
  const open = railOpen.value;
  return (
    <>
      <nav class={`rail ${open ? 'open' : ''}`} aria-label="Conversations" inert={!open}>
        <div class="rail-top">
          <button type="button" class="new-chat" onClick={newChat} title="New chat (Ctrl+K)">
            <Icon name="plus" /> New chat <kbd>Ctrl K</kbd>
          </button>
          <IconButton icon="menu" label="Hide conversations" onClick={() => (railOpen.value = false)} />
        </div>
        <label class="search">
          <Icon name="search" />
          <input id="search" type="search" placeholder="Search" aria-label="Search conversations" value={query.value}
              onInput={(event) => (query.value = event.currentTarget.value)} />
          <kbd>/</kbd>
        </label>
        <div class="rail-list">
          {days.value.map(({day, heads}) => (
            <section key={day} aria-label={day}>
              <h2>{day}</h2>
              <ul>{heads.map((head) => <Entry key={head.id} head={head} />)}</ul>
            </section>
          ))}
          {days.value.length === 0 && <p class="quiet">{matches.value !== null ? 'Nothing found' : 'No conversations yet'}</p>}
        </div>
        <div class="rail-foot">
          <IconButton icon="download" label="Export conversations" onClick={() => void store.exportAll()} />
          <IconButton icon="upload" label="Import conversations" onClick={() => file.current?.click()} />
          <IconButton icon="trash" label="Delete all conversations" onClick={confirmDeleteAll} disabled={store.heads.value.length === 0} />
          <span class="spacer" />
          <IconButton icon={theme.value === 'dark' ? 'moon' : theme.value === 'light' ? 'sun' : 'auto'}
              label={`Colours: ${theme.value}`} onClick={nextTheme} />
          <input ref={file} type="file" accept="application/json,.json" hidden onChange={(event) => {
            const chosen = event.currentTarget.files?.[0];
            if (chosen) void store.importFile(chosen);
            event.currentTarget.value = '';
          }} />
        </div>
      </nav>
      {open && <div class="scrim" onClick={() => (railOpen.value = false)} />}
    </>
  );
}

function Entry({head}: {head: ConversationHead}) {
  const [renaming, setRenaming] = useState(false);
  const input = useRef<HTMLInputElement>(null);
  const active = store.current.value.conversation.id === head.id;
  useEffect(() => input.current?.select(), [renaming]);

  if (renaming) {
    const finish = (keep: boolean) => {
      if (keep && input.current) void store.rename(head.id, input.current.value);
      setRenaming(false);
    };
    return (
      <li class="entry renaming">
        <input ref={input} aria-label="Title" defaultValue={head.title} onBlur={() => finish(true)} onKeyDown={(event) => {
          if (event.key === 'Enter') finish(true);
          if (event.key === 'Escape') finish(false);
          if (event.key === 'Enter' || event.key === 'Escape') event.stopPropagation();
        }} />
      </li>
    );
  }
  return (
    <li class={`entry ${active ? 'active' : ''}`}>
      <button type="button" class="entry-title" aria-current={active ? 'page' : undefined} title={head.title} onClick={() => {
        void store.openConversation(head.id);
        if (kNarrow.matches) railOpen.value = false;
      }} onDblClick={() => setRenaming(true)}>{head.title}</button>
      <span class="entry-actions">
        <IconButton icon="edit" label={`Rename ${head.title}`} onClick={() => setRenaming(true)} />
        <IconButton icon="trash" label={`Delete ${head.title}`} onClick={() => {
          stopIn(head.id);
          void store.deleteOne(head.id);
        }} />
      </span>
    </li>
  );
}
