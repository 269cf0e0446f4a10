// The lazily loaded part: TeX to MathML, which browsers draw themselves, so no fonts and no inline styles travel with it.
import katex from 'katex';

export function toMathMl(tex: string, display: boolean): string {
  return katex.renderToString(tex, {
    displayMode: display, output: 'mathml', throwOnError: true, strict: 'ignore', trust: false, maxExpand: 500, maxSize: 20,
  });
}
