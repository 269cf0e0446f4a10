// Entry point: draws the page, then wakes what lives behind it.
import {effect} from '@preact/signals';
import {render} from 'preact';
import {App} from './app';
import {startContextMeter} from './chat/context';
import {startPolling} from './chat/server_state';
import {current, start} from './chat/store';
import {startKeyboard} from './keyboard';
import {loadRenderer} from './markdown/loader';
import {draft} from './ui';
import './style/app.css';
import './theme';

// A draft belongs to its conversation.
const drafts = new Map<string, string>();
let shown = current.value.conversation.id;
current.subscribe(({conversation}) => {
  if (conversation.id === shown) return;
  drafts.set(shown, draft.peek());
  shown = conversation.id;
  draft.value = drafts.get(shown) ?? '';
});

effect(() => {
  const {title} = current.value.conversation;
  document.title = title === '' ? 'Donar' : `${title} · Donar`;
});

render(<App />, document.getElementById('app')!);
startKeyboard();
startPolling();
startContextMeter();
void start();
requestAnimationFrame(() => setTimeout(() => void loadRenderer()));
