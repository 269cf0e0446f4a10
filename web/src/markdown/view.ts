// Shows Markdown that grows: blocks that are done are rendered once, only the open one again.
import {BlockSplitter} from './blocks';
import {highlightSoon} from './highlight';
import {typesetMath} from './math';
import {codeFrame, languageOf, referencesOf, toHtml, type Environment} from './render';

export class MarkdownView {
  private splitter = new BlockSplitter();
  private rendered = 0;                      // closed blocks in the page
  private open: HTMLElement | null = null;
  private openText: Text | null = null;      // the code of an open fence, which only grows
  private environment: Environment = {};
  private text = '';
  private done = false;

  constructor(private readonly root: HTMLElement) {}

  update(text: string, done: boolean): void {
    if (text === this.text && done === this.done) return;
    if (this.done) this.restart();  // goes on behind what was finished
    this.text = text;
    this.done = done;
    if (!this.splitter.update(text)) this.restart();
    if (done) {
      const environment = referencesOf(text);
      if (environment.references !== undefined) {
        this.restart();
        this.environment = environment;
      }
    }
    this.renderClosed();
    this.renderOpen();
  }

  private restart(): void {
    this.root.replaceChildren();
    this.splitter = new BlockSplitter();
    this.splitter.update(this.text);
    this.rendered = 0;
    this.open = this.openText = null;
    this.environment = {};
  }

  private renderClosed(): void {
    const {closed} = this.splitter;
    if (this.rendered === closed.length) return;
    this.dropOpen();
    for (; this.rendered < closed.length; this.rendered++) this.finish(closed[this.rendered]!);
  }

  private renderOpen(): void {
    const {open, openFence} = this.splitter;
    if (open.trim() === '') return this.dropOpen();
    if (this.done) {
      this.dropOpen();
      this.finish(open);
      return;
    }
    if (openFence !== null) return this.growFence(openFence.info, open.slice(openFence.bodyStart));
    if (this.openText !== null) this.dropOpen();
    this.open ??= this.root.appendChild(this.block());
    this.open.innerHTML = toHtml(open, this.environment);
  }

  private growFence(info: string, code: string): void {
    if (this.openText === null) {
      this.dropOpen();
      this.open = this.root.appendChild(this.block());
      this.open.innerHTML = codeFrame(languageOf(info)) + '</code></pre></figure>';
      this.openText = this.open.querySelector('code')!.appendChild(document.createTextNode(''));
    }
    code = code.replace(/(?:^|\n) {0,3}[`~]+$/, '');  // perhaps the closing fence, half written
    if (code.length > this.openText.length) this.openText.appendData(code.slice(this.openText.length));
  }

  private finish(block: string): void {
    const element = this.root.appendChild(this.block());
    element.innerHTML = toHtml(block, this.environment);
    for (const code of element.querySelectorAll<HTMLElement>('pre > code')) highlightSoon(code);
    void typesetMath(element);
  }

  private block(): HTMLElement {
    const element = document.createElement('div');
    element.className = 'block';
    return element;
  }

  private dropOpen(): void {
    this.open?.remove();
    this.open = this.openText = null;
  }
}
