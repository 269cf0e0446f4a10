// Cuts Markdown that is still being written into blocks that are done and one that is open.
// A cut must never change how the text is rendered: where that is in doubt, the block stays open.

export interface OpenFence {
  info: string;
  bodyStart: number;  // offset of the code in the open block
}

const kFence = /^( *)(`{3,}|~{3,})([^\n]*)$/;
const kMathOpen = /^ {0,3}(\$\$|\\\[)/;
const kListItem = /^( {0,3})(?:[-*+]|\d{1,9}[.)])(?:\s|$)/;
const kLongList = 4000;  // characters after which a list is cut between two of its items

export class BlockSplitter {
  readonly closed: string[] = [];
  private text = '';
  private blockStart = 0;
  private lineStart = 0;
  private fence: {marker: string; indent: number; top: boolean; info: string; bodyStart: number} | null = null;
  private math: string | null = null;   // what ends the maths block that is open
  private isList = false;
  private blank = false;                // the line before this one was empty
  private empty = true;                 // the open block has no line yet

  // Takes the whole text so far, which starts with the one before. Returns false, and starts over, if it does not.
  update(text: string): boolean {
    const grown = text.startsWith(this.text);
    if (!grown) this.reset();
    this.text = text;
    for (;;) {
      const end = text.indexOf('\n', this.lineStart);
      if (end < 0) break;
      this.line(text.slice(this.lineStart, end), this.lineStart, end + 1);
      this.lineStart = end + 1;
    }
    return grown;
  }

  get open(): string {
    return this.text.slice(this.blockStart);
  }

  // The fence that is the open block, if that is one.
  get openFence(): OpenFence | null {
    return this.fence?.top ? {info: this.fence.info, bodyStart: this.fence.bodyStart - this.blockStart} : null;
  }

  private reset(): void {
    this.closed.length = 0;
    this.blockStart = this.lineStart = 0;
    this.fence = null;
    this.math = null;
    this.isList = this.blank = false;
    this.empty = true;
  }

  private close(at: number): void {
    const block = this.text.slice(this.blockStart, at);
    if (block.trim() !== '') this.closed.push(block);
    this.blockStart = at;
    this.isList = this.blank = false;
    this.empty = true;
  }

  private line(line: string, start: number, next: number): void {
    if (line.endsWith('\r')) line = line.slice(0, -1);
    if (this.fence !== null) {
      const match = kFence.exec(line);
      if (match !== null && match[2]!.startsWith(this.fence.marker) && match[3]!.trim() === '' &&
          (!this.fence.top || match[1]!.length <= 3)) {
        const {top} = this.fence;
        this.fence = null;
        if (top) this.close(next);
      }
      return;
    }
    if (this.math !== null) {
      if (line.trimEnd().endsWith(this.math)) {
        this.math = null;
        this.close(next);
      }
      return;
    }
    if (line.trim() === '') {
      this.blank = true;
      return;
    }
    const indented = /^(?: {2,}|\t)/.test(line);
    const item = kListItem.exec(line);
    if (!this.empty && this.cutsBefore(line, indented, item !== null, start)) this.close(start);
    this.blank = false;
    const fence = kFence.exec(line);
    if (fence !== null && !(fence[2]![0] === '`' && fence[3]!.includes('`'))) {
      const top = this.empty && fence[1]!.length <= 3;
      this.fence = {marker: fence[2]!, indent: fence[1]!.length, top, info: fence[3]!.trim(), bodyStart: next};
      this.empty = false;
      return;
    }
    const math = kMathOpen.exec(line);
    if (math !== null && this.empty) {
      const close = math[1] === '$$' ? '$$' : '\\]';
      if (!line.trimStart().slice(2).trimEnd().endsWith(close)) this.math = close;
    }
    if (this.empty) this.isList = item !== null;
    this.empty = false;
  }

  private cutsBefore(line: string, indented: boolean, item: boolean, start: number): boolean {
    const opensBlock = /^ {0,3}(?:`{3,}[^`]*$|~{3,})/.test(line) || kMathOpen.test(line);
    if (this.isList) {
      if (item && /^\S/.test(line)) return start - this.blockStart > kLongList;
      if (indented || item) return false;
      return this.blank || (opensBlock && /^\S/.test(line));
    }
    if (opensBlock && !indented) return true;
    return this.blank && !/^(?: {4}|\t)/.test(line);
  }
}
