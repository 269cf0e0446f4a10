// Model, precision, context, speed and health, at a glance.
import {contextUsed} from '../chat/context';
import {run} from '../chat/generate';
import {chooseModel, contextLength, health, info, model, models, type Health} from '../chat/server_state';
import {speed} from '../chat/speed';
import {count, rate} from '../format';
import {drawerOpen, railOpen} from '../ui';
import {IconButton} from './icons';

const kHealthText: Record<Health, string> = {
  connecting: 'connecting', loading: 'loading', ready: 'ready', draining: 'shutting down', failed: 'failed', gone: 'no answer',
};

export function TopBar() {
  return (
    <header class="top-bar">
      {!railOpen.value && <IconButton icon="menu" label="Conversations" onClick={() => (railOpen.value = true)} />}
      <ModelName />
      <LiveSpeed />
      <ContextBar />
      <span class={`health ${health.value}`} role="status" title={`Server: ${kHealthText[health.value]}`}>
        <span class="dot" />
        <span class={health.value === 'ready' ? 'visually-hidden' : 'health-text'}>{kHealthText[health.value]}</span>
      </span>
      <IconButton icon="settings" label="Settings" pressed={drawerOpen.value}
          onClick={() => (drawerOpen.value = !drawerOpen.value)} className="settings-button" />
    </header>
  );
}

// A path or repository id is long; its end is what tells models apart.
const shortName = (id: string): string => id.split('/').filter((part) => part !== '').at(-1) ?? id;

function ModelName() {
  const {precision} = info.value;
  return (
    <div class="model">
      {models.value.length > 1
        ? <select aria-label="Model" value={model.value} onChange={(event) => chooseModel(event.currentTarget.value)}>
            {models.value.map((card) => <option key={card.id} value={card.id}>{shortName(card.id)}</option>)}
          </select>
        : <span class="model-name" title={model.value}>{shortName(model.value) || 'Donar'}</span>}
      {precision && <span class="badge" title="Precision of the weights">{precision}</span>}
    </div>
  );
}

function ContextBar() {
  const total = contextLength.value;
  const used = contextUsed.value;
  if (total === 0 || used === null) return null;
  const share = Math.min(1, used / total);
  const text = `${count(used)} of ${count(total)}`;
  return (
    <div class={`context ${share > 0.9 ? 'full' : ''}`} role="meter" aria-label="Context used" aria-valuemin={0}
        aria-valuemax={total} aria-valuenow={Math.min(used, total)} aria-valuetext={`${text} tokens`} title={`Context used: ${text} tokens`}>
      <span class="context-text">{text}</span>
      <span class="context-track"><span class="context-fill" style={{width: `${share * 100}%`}} /></span>
    </div>
  );
}

const kWidth = 72;
const kHeight = 20;

function LiveSpeed() {
  const now = speed.value;
  if (run.value?.phase !== 'streaming' || now === null) return null;
  const top = Math.max(...now.samples, 1) * 1.1;
  const step = kWidth / 39;
  const points = now.samples.map(
      (value, index) => `${(kWidth - (now.samples.length - 1 - index) * step).toFixed(1)},${(kHeight - value / top * kHeight).toFixed(1)}`);
  return (
    <div class="speed" title="Tokens per second over the last second">
      <svg viewBox={`0 0 ${kWidth} ${kHeight}`} width={kWidth} height={kHeight} aria-hidden="true"><polyline points={points.join(' ')} /></svg>
      <span>{rate(now.now)}</span>
    </div>
  );
}
