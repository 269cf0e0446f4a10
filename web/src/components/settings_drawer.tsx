// Sampling settings with their API names and defaults, the API key, and the request as a curl line.
import {computed} from '@preact/signals';
import {useLayoutEffect, useRef, useState} from 'preact/hooks';
import {copyText} from '../clipboard';
import {requestBody, curlLine} from '../chat/request';
import {info, keyNeeded, model} from '../chat/server_state';
import {apiKey, kFields, problemOf, resetSettings, settings, setValue, type Field} from '../chat/settings';
import * as store from '../chat/store';
import {newId} from '../chat/tree';
import {draft, drawerOpen} from '../ui';
import {IconButton} from './icons';

// What Enter in the composer would send now.
const curl = computed(() => {
  const text = draft.value.trim();
  const history = store.path.value;
  const pending = {id: newId(), parent: null, role: 'user' as const, content: text || 'Hello', created: 0};
  const turns = text !== '' || history.length === 0 || history.at(-1)!.role === 'assistant' ? [...history, pending] : history;
  return curlLine(requestBody(model.value, turns, settings.value, false), apiKey.value !== '');
});

export function SettingsDrawer() {
  const drawer = useRef<HTMLDivElement>(null);
  const open = drawerOpen.value;
  useLayoutEffect(() => {
    if (!open) return;
    const before = document.activeElement;
    const key = keyNeeded.peek() ? drawer.current?.querySelector<HTMLElement>('#api-key') : null;
    (key ?? drawer.current)?.focus();
    return () => {
      if (before instanceof HTMLElement && before.isConnected) before.focus();
    };
  }, [open]);
  if (!open) return null;
  const changed = settings.value.system !== '' || Object.values(settings.value.values).some((value) => value !== '');
  return (
    <div class="drawer" ref={drawer} role="dialog" aria-label="Settings" tabIndex={-1}>
      <header>
        <h2>Settings</h2>
        <button type="button" class="plain" onClick={resetSettings} disabled={!changed}>Reset</button>
        <IconButton icon="close" label="Close settings" onClick={() => (drawerOpen.value = false)} />
      </header>
      <div class="drawer-body">
        <div class="field tall">
          <label for="field-system">System prompt <code>messages[0]</code></label>
          <textarea id="field-system" rows={3} placeholder="none" value={settings.value.system}
              onInput={(event) => (settings.value = {...settings.value, system: event.currentTarget.value})} />
        </div>
        <p class="quiet">An empty field is not sent: the server then takes its default.</p>
        {kFields.map((field) => <FieldRow key={field.name} field={field} />)}
        <KeyField />
        <Curl />
        {info.value.version && <p class="quiet">Donar {info.value.version}</p>}
      </div>
    </div>
  );
}

function defaultOf(field: Field): string {
  const own = info.value.generation_config?.[field.name];
  return own === undefined || own === null ? `default ${field.fallback}` : `default ${String(own)}, from the model`;
}

function FieldRow({field}: {field: Field}) {
  const text = settings.value.values[field.name] ?? '';
  const problem = problemOf(field, text);
  const id = `field-${field.name}`;
  const described = `${id}-hint`;
  const common = {id, 'aria-describedby': described, 'aria-invalid': problem !== null};
  return (
    <div class={`field ${field.kind} ${text !== '' && text !== 'false' ? 'changed' : ''}`}>
      <label for={id}>{field.label} <code>{field.name}</code></label>
      {field.kind === 'switch'
        ? <input {...common} type="checkbox" role="switch" checked={text === 'true'} onChange={(event) => setValue(field.name, event.currentTarget.checked ? 'true' : '')} />
        : field.kind === 'lines'
        ? <textarea {...common} rows={2} placeholder="none" value={text} onInput={(event) => setValue(field.name, event.currentTarget.value)} />
        : <input {...common} type="text" inputMode={field.min !== undefined && field.min >= 0 ? 'decimal' : 'text'} placeholder="default" value={text} autocomplete="off"
              onInput={(event) => setValue(field.name, event.currentTarget.value)} />}
      <span id={described} class={problem !== null ? 'problem' : 'hint'}>{problem !== null ? `Not sent: ${problem}` : `${defaultOf(field)} · ${field.hint}`}</span>
    </div>
  );
}

function KeyField() {
  return (
    <div class={`field tall ${keyNeeded.value ? 'wanted' : ''}`}>
      <label for="api-key">API key <code>Authorization</code></label>
      <input id="api-key" type="password" autocomplete="off" placeholder="none" value={apiKey.value} aria-describedby="api-key-hint"
          onChange={(event) => (apiKey.value = event.currentTarget.value.trim())} />
      <span id="api-key-hint" class={keyNeeded.value ? 'problem' : 'hint'}>
        {keyNeeded.value ? 'The server asks for the key it was started with (--api-key)' : 'kept in this browser, sent to this server only'}
      </span>
    </div>
  );
}

function Curl() {
  const [copied, setCopied] = useState(false);
  return (
    <section class="curl" aria-label="The request as curl">
      <header>
        <h3>Next request</h3>
        <button type="button" class="plain" onClick={async () => {
          if (!await copyText(curl.value)) return;
          setCopied(true);
          setTimeout(() => setCopied(false), 1500);
        }}>{copied ? 'Copied' : 'Copy curl'}</button>
      </header>
      <pre tabIndex={0}>{curl.value}</pre>
    </section>
  );
}
