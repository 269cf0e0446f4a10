// Code colours for the languages that models write most, a little at a time, so that a long conversation opens at once.
import hljs from 'highlight.js/lib/core';
import bash from 'highlight.js/lib/languages/bash';
import c from 'highlight.js/lib/languages/c';
import cmake from 'highlight.js/lib/languages/cmake';
import cpp from 'highlight.js/lib/languages/cpp';
import css from 'highlight.js/lib/languages/css';
import diff from 'highlight.js/lib/languages/diff';
import dockerfile from 'highlight.js/lib/languages/dockerfile';
import go from 'highlight.js/lib/languages/go';
import ini from 'highlight.js/lib/languages/ini';
import java from 'highlight.js/lib/languages/java';
import javascript from 'highlight.js/lib/languages/javascript';
import json from 'highlight.js/lib/languages/json';
import markdown from 'highlight.js/lib/languages/markdown';
import python from 'highlight.js/lib/languages/python';
import rust from 'highlight.js/lib/languages/rust';
import sql from 'highlight.js/lib/languages/sql';
import typescript from 'highlight.js/lib/languages/typescript';
import xml from 'highlight.js/lib/languages/xml';
import yaml from 'highlight.js/lib/languages/yaml';

const kLanguages = {
  bash, c, cmake, cpp, css, diff, dockerfile, go, ini, java, javascript, json, markdown, python, rust, sql, typescript, xml, yaml,
};
for (const [name, language] of Object.entries(kLanguages)) hljs.registerLanguage(name, language);
hljs.registerAliases(['cuda', 'cu'], {languageName: 'cpp'});
hljs.registerAliases(['urdf', 'xacro', 'launch'], {languageName: 'xml'});
hljs.registerAliases(['console', 'shell'], {languageName: 'bash'});

const kLargest = 50_000;     // characters; longer code stays plain
const kSliceMs = 8;          // work per turn of the event loop

const queue: HTMLElement[] = [];
let scheduled = false;

export function highlightSoon(code: HTMLElement): void {
  queue.push(code);
  if (scheduled) return;
  scheduled = true;
  setTimeout(work);
}

function work(): void {
  const until = performance.now() + kSliceMs;
  while (queue.length > 0 && performance.now() < until) {
    const code = queue.shift()!;
    if (code.isConnected) highlight(code);
  }
  scheduled = queue.length > 0;
  if (scheduled) setTimeout(work);
}

function highlight(code: HTMLElement): void {
  const language = code.dataset['language'] ?? '';
  const text = code.textContent ?? '';
  if (language === '' || text.length > kLargest || hljs.getLanguage(language) === undefined) return;
  // highlight.js escapes the code itself and adds spans with classes, nothing else.
  code.innerHTML = hljs.highlight(text, {language, ignoreIllegals: true}).value;
}
