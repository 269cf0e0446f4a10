// markdown-it rules for $..$, $$..$$, \(..\) and \[..\]. They leave the source in place; math.ts typesets it later.
import type MarkdownIt from 'markdown-it';
import type {RuleBlock} from 'markdown-it/lib/parser_block.mjs';
import type {RuleInline} from 'markdown-it/lib/parser_inline.mjs';

const inline: RuleInline = (state, silent) => {
  const {src, pos} = state;
  if (src.startsWith('\\(', pos)) return emit(state, silent, pos + 2, src.indexOf('\\)', pos + 2), 2, false);
  if (src.startsWith('\\[', pos)) return emit(state, silent, pos + 2, src.indexOf('\\]', pos + 2), 2, true);
  if (src.startsWith('$$', pos)) return emit(state, silent, pos + 2, src.indexOf('$$', pos + 2), 2, true);
  if (src[pos] !== '$') return false;
  // As Pandoc reads it, so that prices stay prices: no space inside the dollars, no digit after them.
  const close = /^\$(?!\s)((?:\\.|[^\\$\n])*?(?:\\.|[^\\$\s]))\$(?!\d)/.exec(src.slice(pos, pos + 2000));
  return close !== null && emit(state, silent, pos + 1, pos + close[0].length - 1, 1, false);
};

function emit(
    state: Parameters<RuleInline>[0], silent: boolean, start: number, end: number, marker: number, display: boolean): boolean {
  if (end < 0 || state.src.slice(start, end).trim() === '') return false;
  if (!silent) {
    const token = state.push('math', 'math', 0);
    token.content = state.src.slice(start, end).trim();
    token.markup = state.src.slice(start - marker, end + marker);
    token.meta = display;
  }
  state.pos = end + marker;
  return true;
}

const block: RuleBlock = (state, startLine, endLine, silent) => {
  if (state.sCount[startLine]! - state.blkIndent >= 4) return false;
  const lineOf = (line: number) => state.src.slice(state.bMarks[line]! + state.tShift[line]!, state.eMarks[line]!);
  const first = lineOf(startLine);
  const close = first.startsWith('$$') ? '$$' : first.startsWith('\\[') ? '\\]' : null;
  if (close === null) return false;
  const lines: string[] = [];
  for (let line = startLine; line < endLine; line++) {
    const text = line === startLine ? first.slice(2) : lineOf(line);
    if (!text.trimEnd().endsWith(close)) {
      if (text.includes(close)) return false;  // text goes on behind the maths: the inline rule takes it
      lines.push(text);
      continue;
    }
    if (silent) return true;
    lines.push(text.trimEnd().slice(0, -close.length));
    const token = state.push('math', 'math', 0);
    token.block = true;
    token.content = lines.join('\n').trim();
    token.markup = `${first.slice(0, 2)}\n${token.content}\n${close}`;
    token.meta = true;
    token.map = [startLine, line + 1];
    state.line = line + 1;
    return true;
  }
  return false;
};

export function mathRules(md: MarkdownIt): void {
  md.inline.ruler.before('escape', 'math', inline);
  md.block.ruler.before('fence', 'math', block, {alt: ['paragraph', 'blockquote', 'list']});
  md.renderer.rules['math'] = (tokens, index) => {
    const token = tokens[index]!;
    const tag = token.block ? 'p' : 'span';
    const kind = token.meta === true ? 'math display' : 'math';
    return `<${tag} class="${kind}" data-tex="${md.utils.escapeHtml(token.content)}">${md.utils.escapeHtml(token.markup)}</${tag}>`;
  };
}
