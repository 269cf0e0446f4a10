// Typesets the formulas of a block, once the chunk that can do it has been fetched.
import DOMPurify from 'dompurify';

type Chunk = typeof import('./math_chunk');
let chunk: Promise<Chunk> | null = null;

export async function typesetMath(block: HTMLElement): Promise<void> {
  const formulas = block.querySelectorAll<HTMLElement>('.math');
  if (formulas.length === 0) return;
  // A file beside app.js, built as an entry of its own.
  const path = './math.js';
  chunk ??= import(path) as Promise<Chunk>;
  let toMathMl: Chunk['toMathMl'];
  try {
    ({toMathMl} = await chunk);
  } catch {
    chunk = null;  // the server is gone: the source stays readable, the next block tries again
    return;
  }
  for (const formula of formulas) {
    const tex = formula.dataset['tex'] ?? '';
    try {
      const html = toMathMl(tex, formula.classList.contains('display'));
      formula.innerHTML = DOMPurify.sanitize(
          html, {USE_PROFILES: {mathMl: true, html: true}, FORBID_ATTR: ['style'], FORBID_TAGS: ['annotation', 'style']});
      formula.title = tex;
      formula.classList.add('set');
    } catch {
      // Not TeX after all: the source stays.
    }
  }
}
