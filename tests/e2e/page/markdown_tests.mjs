// What models write, shown safely and without work for text that is done.
import assert from 'node:assert/strict';
import {until} from './harness.mjs';

const kHostile = `<script>window.hacked = 1</script>

<img src=x onerror="window.hacked = 2"> <svg onload="window.hacked = 3"></svg>

[click](javascript:window.hacked=4) [data](data:text/html,<script>1</script>) [vb](vbscript:x)

![pixel](http://198.51.100.7/track.png) ![x](javascript:window.hacked=5)

<iframe src="http://198.51.100.7/"></iframe><style>body { display: none }</style>

| a <img src=y onerror=window.hacked=6> | b |
|---|---|
| <b onclick="window.hacked=7">x</b> | ok |

\`\`\`html"><script>window.hacked=8</script>
<script>window.hacked = 9</script>
\`\`\`

$\\href{javascript:window.hacked=10}{x}$ $\\htmlData{a=b}{y}$ $x^2$

<a href="javascript:window.hacked=11" style="position:fixed;inset:0">cover</a> <form action="http://198.51.100.7/"><input name=q></form>

<http://example.com/"onmouseover="window.hacked=12> "><img src=z onerror=window.hacked=13>
`;

const pieces = (text) => text.match(/[\s\S]{1,7}/g);

export const markdownTests = [
  {
    name: 'hostile Markdown stays text',
    async run({chat, page, mock}) {
      mock.reply = {tokens: pieces(kHostile)};
      await chat.ready();
      await chat.askAndWait('attack');
      await page.waitForTimeout(500);
      assert.equal(await page.evaluate(() => window.hacked), undefined);
      const found = await page.$eval('.answer .markdown', (root) => ({
        elements: [...root.querySelectorAll('script, iframe, style, form, input, object, embed, svg, img')].map((element) => element.outerHTML),
        handlers: [...root.querySelectorAll('*')].filter((element) => [...element.attributes].some(({name}) => /^(on|style$)/.test(name))).length,
        links: [...root.querySelectorAll('[href]')].map((element) => element.getAttribute('href')),
        text: root.textContent,
      }));
      assert.deepEqual(found.elements, []);
      assert.equal(found.handlers, 0);
      assert.ok(found.links.every((link) => /^https?:/.test(link)), found.links.join(' '));
      assert.ok(found.text.includes('<script>window.hacked = 1</script>'), 'shown as written');
      // The same once more, from storage.
      await page.reload();
      await until('the answer', async () => await page.locator('.answer .markdown').count() === 1);
      await page.waitForTimeout(300);
      assert.equal(await page.evaluate(() => window.hacked), undefined);
    },
  },
  {
    name: 'hostile text is text everywhere else: question, title, tool card, error, model name',
    async run({chat, page, mock}) {
      const evil = '<img src=x onerror=window.hacked=1>';
      mock.models = [{id: evil, max_model_len: 100}];
      mock.reply = {finish: 'tool_calls', reasoning: evil, toolCalls: [{name: evil, arguments: JSON.stringify({a: evil})}]};
      await chat.ready();
      await chat.askAndWait(evil);
      mock.reply = {status: 400, message: evil};
      await chat.askAndWait('x');
      assert.equal(await chat.text('.outcome p'), evil);
      assert.equal(await page.evaluate(() => window.hacked), undefined);
      assert.equal(await page.locator('img').count(), 0);
    },
  },
  {
    name: 'lists, tables, code and links become what they mean',
    async run({chat, page, mock}) {
      mock.reply = {tokens: pieces(
          '# Plan\n\n1. one\n2. two\n\n| name | n |\n|:--|--:|\n| a | 1 |\n\n```cpp\nint main() { return 0; }\n```\n\nSee https://example.org and **this**.')};
      await chat.ready();
      await chat.askAndWait('go');
      assert.equal(await page.locator('.markdown h1').innerText(), 'Plan');
      assert.equal(await page.locator('.markdown ol li').count(), 2);
      assert.equal(await page.$eval('.markdown td:last-child', (cell) => getComputedStyle(cell).textAlign), 'right');
      assert.equal(await page.locator('.code figcaption span').innerText(), 'cpp');
      await until('colours', async () => await page.locator('.code .hljs-keyword').count() > 0);
      const link = page.locator('.markdown a');
      assert.equal(await link.getAttribute('href'), 'https://example.org');
      assert.equal(await link.getAttribute('rel'), 'noopener noreferrer');
      assert.equal(await link.getAttribute('target'), '_blank');
    },
  },
  {
    name: 'blocks that are done are not rendered again, code is coloured when it closes',
    async run({chat, page, mock}) {
      mock.reply = {tokens: pieces('First paragraph.\n\n```python\nimport os\n```\n\n' + 'many words here '.repeat(60)), delayMs: 12};
      await chat.ready();
      await chat.ask('go');
      await until('a closed block', async () => await page.locator('.markdown .block').count() >= 2);
      await page.$eval('.markdown .block', (element) => (element.dataset.mark = 'first'));
      await until('open code, not coloured', async () => await page.locator('.code code').count() === 1);
      await until('closed code, coloured while the answer goes on', async () => await page.locator('.code .hljs-keyword').count() === 1);
      assert.equal(await page.locator('.send.stop').count(), 1);
      await chat.idle();
      assert.equal(await page.locator('.markdown .block').first().getAttribute('data-mark'), 'first');
      assert.equal(await page.locator('.markdown .block').count(), 3);
    },
  },
  {
    name: 'a link defined at the end works where it is used',
    async run({chat, page, mock}) {
      mock.reply = {tokens: pieces('See [the page][1].\n\nMore.\n\n[1]: https://example.org/x\n')};
      await chat.ready();
      await chat.askAndWait('go');
      assert.equal(await page.locator('.markdown a').getAttribute('href'), 'https://example.org/x');
    },
  },
  {
    name: 'maths is fetched when it is needed, prices stay prices',
    async run({chat, page, mock}) {
      const loaded = [];
      page.on('request', (request) => loaded.push(new URL(request.url()).pathname));
      mock.reply = {text: 'It costs $5 or $10.'};
      await chat.ready();
      await chat.askAndWait('price');
      assert.equal(await chat.text('.answer .markdown'), 'It costs $5 or $10.');
      assert.ok(!loaded.includes('/math.js'));
      mock.reply = {tokens: pieces('So $a^2 + b^2 = c^2$ and\n\n$$\n\\frac{1}{2}\n$$\n\nand \\(x\\) and \\[y\\] and $\\notacommand{$.')};
      await chat.askAndWait('maths');
      await until('MathML', async () => await page.locator('.answer:last-child math').count() === 4);
      assert.equal(await page.locator('math mfrac').count(), 1);
      assert.ok((await chat.text('.answer:last-child .markdown')).endsWith('$\\notacommand{$.'));
      assert.ok(loaded.includes('/math.js'));
    },
  },
];
