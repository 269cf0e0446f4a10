// An answer as its tokens, tinted by how sure the model was, with the alternatives of the token under the pointer or focus.
import type {TokenLogprob} from '../chat/types';

const percent = (logprob: number): string => {
  const value = Math.exp(logprob) * 100;
  return value >= 99.95 ? '100 %' : value >= 10 ? `${value.toFixed(1)} %` : value >= 0.01 ? `${value.toFixed(2)} %` : '< 0.01 %';
};

const visible = (token: string): string => token.replaceAll('\n', '⏎').replaceAll('\t', '⇥').replaceAll(' ', '␣') || '(empty)';

// Five classes suffice: the eye does not read finer shades.
function tint(logprob: number): string {
  const value = Math.exp(logprob);
  return value > 0.9 ? 'p4' : value > 0.6 ? 'p3' : value > 0.3 ? 'p2' : value > 0.1 ? 'p1' : 'p0';
}

export class TokenView {
  private shown: readonly TokenLogprob[] = [];
  private count = 0;
  private readonly text = document.createElement('div');
  private readonly card = document.createElement('div');
  private focused = 0;  // the one token that Tab reaches; arrows move from there

  constructor(private readonly root: HTMLElement) {
    this.text.className = 'tokens-text';
    this.card.className = 'tokens-card';
    this.card.setAttribute('role', 'tooltip');
    this.card.hidden = true;
    root.append(this.text, this.card);
    this.text.addEventListener('pointerover', (event) => this.open(event.target));
    this.text.addEventListener('focusin', (event) => this.open(event.target));
    this.text.addEventListener('pointerleave', () => (this.card.hidden = true));
    this.text.addEventListener('focusout', () => (this.card.hidden = true));
    this.text.addEventListener('keydown', (event) => this.move(event));
  }

  update(tokens: readonly TokenLogprob[], live: boolean): void {
    if (tokens.length < this.count || (this.shown !== tokens && this.count > 0)) {
      this.text.replaceChildren();
      this.count = 0;
    }
    this.shown = tokens;
    const fresh = document.createDocumentFragment();
    for (; this.count < tokens.length; this.count++) {
      const [token, logprob] = tokens[this.count]!;
      const span = document.createElement('span');
      span.className = `token ${tint(logprob)}`;
      span.textContent = token;
      span.dataset['index'] = String(this.count);
      if (this.count === 0) span.tabIndex = 0;
      fresh.append(span);
    }
    this.text.append(fresh);
    this.text.classList.toggle('live', live);
  }

  private move(event: KeyboardEvent): void {
    const step = event.key === 'ArrowRight' ? 1 : event.key === 'ArrowLeft' ? -1 : 0;
    const next = this.text.children[this.focused + step] as HTMLElement | undefined;
    if (step === 0 || next === undefined) return;
    event.preventDefault();
    (this.text.children[this.focused] as HTMLElement).removeAttribute('tabindex');
    next.tabIndex = 0;
    this.focused += step;
    next.focus();
  }

  private open(target: EventTarget | null): void {
    if (!(target instanceof HTMLElement) || target.dataset['index'] === undefined) return;
    const [token, logprob, top] = this.shown[Number(target.dataset['index'])]!;
    const rows = top.some(([other]) => other === token) ? top : [[token, logprob] as [string, number], ...top];
    const table = document.createElement('table');
    for (const [other, value] of rows) {
      const row = table.insertRow();
      if (other === token) row.className = 'chosen';
      row.insertCell().textContent = visible(other);
      row.insertCell().textContent = percent(value);
    }
    this.card.replaceChildren(table);
    this.card.hidden = false;
    const box = this.root.getBoundingClientRect();
    const line = target.getClientRects()[0] ?? target.getBoundingClientRect();
    const left = Math.max(0, Math.min(line.left - box.left, box.width - this.card.offsetWidth));
    this.card.style.left = `${left}px`;
    this.card.style.top = `${line.bottom - box.top + 6}px`;
  }
}
