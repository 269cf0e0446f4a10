// What stands between reader and server, in one line under the top bar.
import {useEffect, useState} from 'preact/hooks';
import {goneReason, health, info, keyNeeded, poll, retryAt} from '../chat/server_state';
import * as store from '../chat/store';
import {drawerOpen} from '../ui';
import {loadingText} from './welcome';

export function Banner() {
  if (health.value === 'gone') return <Gone />;
  if (health.value === 'draining') return <p class="banner" role="status">The server is shutting down. Answers that are under way are finished.</p>;
  if (health.value === 'failed' && store.path.value.length > 0) {
    return <p class="banner bad" role="alert">The model could not be loaded{info.value.error ? `: ${info.value.error}` : '. The server’s log says why.'}</p>;
  }
  if (health.value === 'loading' && store.path.value.length > 0) return <p class="banner" role="status">The model is loading. {loadingText()}</p>;
  if (keyNeeded.value) {
    return (
      <p class="banner" role="status">
        This server asks for an API key. <button type="button" class="plain" onClick={() => (drawerOpen.value = true)}>Enter the key</button>
      </p>
    );
  }
  if (health.value === 'ready' && info.value.chat === false) {
    return <p class="banner" role="status">This model has no chat template: restart with --chat-template FILE, or use /v1/completions.</p>;
  }
  return null;
}

function Gone() {
  const [, setTick] = useState(0);
  useEffect(() => {
    const timer = setInterval(() => setTick((tick) => tick + 1), 250);
    return () => clearInterval(timer);
  }, []);
  const seconds = Math.max(0, Math.ceil((retryAt.value - Date.now()) / 1000));
  return (
    <div class="banner bad" role="alert">
      <span>{goneReason.value}.</span>{' '}
      <span aria-live="off">{seconds > 0 ? `Trying again in ${seconds} s.` : 'Trying again…'}</span>{' '}
      <button type="button" class="plain" onClick={() => void poll()}>Try now</button>
    </div>
  );
}
