// One block of Markdown to safe HTML. Raw HTML is text to begin with; DOMPurify stands behind that.
import DOMPurify from 'dompurify';
import MarkdownIt from 'markdown-it';
import {mathRules} from './math_rules';

const md = new MarkdownIt({html: false, linkify: true, breaks: false, typographer: false});
md.use(mathRules);
md.linkify.set({fuzzyLink: false, fuzzyEmail: false});

const escape = md.utils.escapeHtml;

export function codeFrame(language: string): string {
  return '<figure class="code"><figcaption>' + `<span>${escape(language || 'text')}</span>` +
      '<button type="button" data-copy-code>Copy</button></figcaption>' +
      `<pre tabindex="0"><code data-language="${escape(language.toLowerCase())}">`;
}

export const languageOf = (info: string): string => /^[\w+#.-]{1,24}/.exec(info.trim())?.[0] ?? '';

md.renderer.rules['fence'] = (tokens, index) =>
    codeFrame(languageOf(tokens[index]!.info)) + escape(tokens[index]!.content) + '</code></pre></figure>';
md.renderer.rules['code_block'] = (tokens, index) => codeFrame('') + escape(tokens[index]!.content) + '</code></pre></figure>';

// The policy allows no style attribute: alignment becomes a class.
for (const rule of ['th_open', 'td_open']) {
  md.renderer.rules[rule] = (tokens, index, options, _env, self) => {
    const token = tokens[index]!;
    const align = /text-align:(\w+)/.exec(String(token.attrGet('style') ?? ''))?.[1];
    token.attrs = align === undefined ? null : [['class', `align-${align}`]];
    return self.renderToken(tokens, index, options);
  };
}
md.renderer.rules['table_open'] = () => '<div class="table" tabindex="0"><table>';
md.renderer.rules['table_close'] = () => '</table></div>';

md.renderer.rules['link_open'] = (tokens, index, options, _env, self) => {
  tokens[index]!.attrSet('target', '_blank');
  tokens[index]!.attrSet('rel', 'noopener noreferrer');
  return self.renderToken(tokens, index, options);
};

// An image would call another host, which nobody asked for: it becomes a link that a reader may follow.
md.renderer.rules['image'] = (tokens, index) => {
  const token = tokens[index]!;
  const source = String(token.attrGet('src') ?? '');
  const label = escape(token.content || source);
  if (!/^https?:/i.test(source)) return label;
  return `<a class="image" href="${escape(source)}" target="_blank" rel="noopener noreferrer">${label}</a>`;
};

export type Environment = {references?: Record<string, unknown>};

// Link definitions may stand after their use; one pass over the whole text finds them.
export function referencesOf(text: string): Environment {
  const environment: Environment = {};
  if (/^ {0,3}\[[^\]\n]+\]:\s/m.test(text)) md.parse(text, environment);
  return environment;
}

export function toHtml(block: string, environment: Environment): string {
  return DOMPurify.sanitize(md.render(block, environment), {
    USE_PROFILES: {html: true}, ADD_ATTR: ['target'], FORBID_ATTR: ['style', 'id', 'name'],
    FORBID_TAGS: ['style', 'form', 'input', 'textarea', 'select', 'img', 'audio', 'video', 'iframe'],
  });
}
