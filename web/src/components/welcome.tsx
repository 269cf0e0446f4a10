// Before the first turn: how far the model is loaded, or what it is and what one might ask it.
import {health, info, model, contextLength} from '../chat/server_state';
import {send} from '../chat/generate';
import {bytes, count} from '../format';
import {promptsFor, sizeOf} from '../prompts';
import {stickToEnd} from './scroll';

export function loadingText(): string {
  const loading = info.value.loading;
  if (!loading) return '';
  const {phase, done_bytes: done = 0, total_bytes: total = 0, seconds = 0} = loading;
  const parts = [phase ?? ''];
  if (total > 0) parts.push(`${bytes(done)} of ${bytes(total)}`);
  if (seconds > 0.2 && done > 0) {
    parts.push(`${(done / seconds / 1e9).toFixed(2)} GB/s`);
    if (done < total) parts.push(`${Math.ceil((total - done) / (done / seconds))} s left`);
  }
  return parts.filter(Boolean).join(' · ');
}

export function Welcome() {
  const name = model.value.split('/').filter((part) => part !== '').at(-1) ?? '';
  switch (health.value) {
    case 'connecting': return <div class="welcome" aria-busy="true" />;
    case 'loading': return <Loading name={name} />;
    case 'failed':
      return (
        <div class="welcome" role="alert">
          <h1>{name || 'The model'} could not be loaded</h1>
          <p class="welcome-error">{info.value.error ?? 'The server’s log says why.'}</p>
        </div>
      );
    default: return <Ready name={name} />;
  }
}

function Loading({name}: {name: string}) {
  const loading = info.value.loading;
  const total = loading?.total_bytes ?? 0;
  const share = total > 0 ? Math.min(1, (loading?.done_bytes ?? 0) / total) : 0;
  return (
    <div class="welcome" role="status">
      <h1>Loading {name || 'the model'}</h1>
      <div class={`load-track ${total > 0 ? '' : 'unknown'}`} role="progressbar" aria-label="Loading" aria-valuemin={0} aria-valuemax={100}
          aria-valuenow={total > 0 ? Math.round(share * 100) : undefined}>
        <span class="load-fill" style={{width: total > 0 ? `${share * 100}%` : '30%'}} />
      </div>
      <p class="load-text" aria-live="off">{loadingText() || 'Waiting for the server'}</p>
    </div>
  );
}

function Ready({name}: {name: string}) {
  const facts = [
    sizeOf(model.value) ?? '',
    info.value.precision ? `${info.value.precision} weights` : '',
    contextLength.value > 0 ? `${count(contextLength.value)} tokens of context` : '',
  ].filter(Boolean);
  return (
    <div class="welcome">
      <h1>{name || 'Donar'}</h1>
      <p class="facts">{facts.length > 0 ? facts.join(' · ') : 'A model on your own machine'}</p>
      <div class="prompts">
        {promptsFor(model.value).map(({title, text}) => (
          <button key={title} type="button" class="prompt" disabled={health.value !== 'ready'} onClick={() => {
            stickToEnd();
            send(text);
          }}>
            <strong>{title}</strong>
            <span>{text}</span>
          </button>
        ))}
      </div>
      <p class="quiet">Conversations stay in this browser.</p>
    </div>
  );
}
