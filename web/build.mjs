// Bundles src/ into dist/, byte for byte the same on every machine: fixed names, no hashes, no dates. The server embeds dist/.
// Two entries are imported by the page itself: the Markdown renderer after the first paint, KaTeX when an answer holds maths.
import {build, context} from 'esbuild';
import {cpSync, mkdirSync, readFileSync, readdirSync, rmSync} from 'node:fs';
import {dirname, join} from 'node:path';
import {fileURLToPath} from 'node:url';
import {gzipSync} from 'node:zlib';

const root = dirname(fileURLToPath(import.meta.url));
const dist = join(root, 'dist');
const kBudgetBytes = 250 * 1000;  // all of dist, gzipped

const options = {
  absWorkingDir: root,
  entryPoints: {app: 'src/main.tsx', markdown: 'src/markdown/view.ts', math: 'src/markdown/math_chunk.ts'},
  outdir: 'dist',
  bundle: true,
  format: 'esm',
  target: ['es2022', 'chrome109', 'firefox115', 'safari16.4'],
  minify: true,
  charset: 'utf8',
  legalComments: 'none',
  jsx: 'automatic',
  jsxImportSource: 'preact',
  external: ['./markdown.js', './math.js'],
  logLevel: 'warning',
};

rmSync(dist, {recursive: true, force: true});
mkdirSync(dist);
for (const file of ['index.html', 'icon.svg']) cpSync(join(root, 'src', file), join(dist, file));

if (process.argv.includes('--watch')) {
  await (await context(options)).watch();
} else {
  await build(options);
  let total = 0;
  for (const file of readdirSync(dist).sort()) {
    const size = gzipSync(readFileSync(join(dist, file)), {level: 9}).length;
    total += size;
    console.log(`${file.padEnd(12)} ${(size / 1000).toFixed(1).padStart(7)} kB gzipped`);
  }
  console.log(`${'together'.padEnd(12)} ${(total / 1000).toFixed(1).padStart(7)} kB of ${kBudgetBytes / 1000}`);
  if (total > kBudgetBytes) {
    console.error('dist is larger than its budget: drop a highlight.js language or a dependency');
    process.exit(1);
  }
}
