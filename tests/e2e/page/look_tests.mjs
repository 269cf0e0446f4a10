// Small screens, zoom, keyboard and contrast.
import assert from 'node:assert/strict';
import {readdirSync, readFileSync} from 'node:fs';
import {fileURLToPath} from 'node:url';
import {gzipSync} from 'node:zlib';
import {until} from './harness.mjs';

const kRich = 'A **table**:\n\n| one | two | three | four | five | six | seven |\n|---|---|---|---|---|---|---|\n| a long cell | b | c | d | e | f | g |\n\n' +
    '```python\nprint("a very long line of code that does not fit on a phone at all, not even close to it")\n```\n\n' +
    'averyveryverylongwordwithoutanyspaceinitthatmustbreaksomewhereorthepagegrowswiderthanthescreen `and_some_inline_code_that_is_long_too`\n';

const overflow = (page) => page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);

// WCAG contrast of every visible text against the background behind it.
const kContrast = () => {
  const channels = (color) => {
    const canvas = Object.assign(document.createElement('canvas'), {width: 1, height: 1}).getContext('2d', {willReadFrequently: true});
    canvas.fillStyle = color;
    canvas.fillRect(0, 0, 1, 1);
    const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data;
    return {r, g, b, a: a / 255};
  };
  const luminance = ({r, g, b}) => [r, g, b]
      .map((value) => (value /= 255) <= 0.03928 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4)
      .reduce((sum, value, index) => sum + value * [0.2126, 0.7152, 0.0722][index], 0);
  const behind = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const color = channels(getComputedStyle(at).backgroundColor);
      if (color.a > 0.99) return color;
    }
    return channels('white');
  };
  const bad = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    if (walker.currentNode.data.trim() === '' || !element.checkVisibility({opacityProperty: true, visibilityProperty: true})) continue;
    if (element.closest(':disabled, .visually-hidden')) continue;
    const style = getComputedStyle(element);
    const [front, back] = [luminance(channels(style.color)), luminance(behind(element))];
    const ratio = (Math.max(front, back) + 0.05) / (Math.min(front, back) + 0.05);
    const large = parseFloat(style.fontSize) >= 24 || parseFloat(style.fontSize) >= 18.66 && Number(style.fontWeight) >= 700;
    if (ratio < (large ? 3 : 4.5)) bad.push(`${ratio.toFixed(2)} ${element.className || element.tagName}: ${walker.currentNode.data.slice(0, 30)}`);
  }
  return bad;
};

export const lookTests = [
  {
    name: 'a phone: nothing is wider than 360 px, the rail slides over and away',
    options: {viewport: {width: 360, height: 640}, hasTouch: true, isMobile: true},
    async run({chat, page, mock}) {
      mock.reply = {text: kRich, tokens: [kRich]};
      await chat.ready();
      assert.equal(await overflow(page), 0);
      await chat.askAndWait('Give me a table and a very_long_question_without_spaces_that_has_to_break_too_somehow_or_else');
      assert.equal(await overflow(page), 0);
      assert.equal(await page.locator('.rail').isVisible(), false);
      await chat.button('Conversations').tap();
      assert.equal(await page.locator('.rail').isVisible(), true);
      assert.equal(await page.locator('.entry').count(), 1);
      await chat.button('New chat Ctrl K').tap();
      assert.equal(await page.locator('.rail').isVisible(), false);
      assert.equal(await page.locator('.turn').count(), 0);
      await chat.button('Settings').tap();
      assert.equal(await overflow(page), 0);
      await page.fill('#field-temperature', '0.5');
      await chat.button('Close settings').tap();
      const box = await page.locator('.composer').boundingBox();
      assert.ok(box.y + box.height <= 640 && box.x >= 0 && box.x + box.width <= 360, JSON.stringify(box));
    },
  },
  {
    name: '200 % zoom: a 1280 px screen then has 640 px, all of it usable',
    options: {viewport: {width: 640, height: 400}, deviceScaleFactor: 2},
    async run({chat, page, mock}) {
      mock.reply = {tokens: [kRich]};
      await chat.ready();
      await chat.askAndWait('go');
      assert.equal(await overflow(page), 0);
      await chat.button('Settings').click();
      const last = page.locator('.curl pre');
      await last.scrollIntoViewIfNeeded();
      assert.equal(await last.isVisible(), true);
      await page.keyboard.press('Escape');
      assert.equal(await chat.button('Send').isVisible(), true);
    },
  },
  {
    name: 'keyboard: the shortcuts',
    async run({chat, page, mock}) {
      await chat.ready();
      await until('the composer to have focus', () => page.evaluate(() => document.activeElement.id === 'composer'));
      await page.keyboard.type('line one');
      await page.keyboard.press('Shift+Enter');
      await page.keyboard.type('line two');
      await page.keyboard.press('Enter');
      await chat.idle();
      assert.equal(mock.requests[0].body.messages[0].content, 'line one\nline two');
      await page.keyboard.press('ArrowUp');
      await until('the editor', () => page.evaluate(() => document.activeElement.ariaLabel === 'Edit message'));
      await page.keyboard.type(' three');
      await page.keyboard.press('Enter');
      await until('the new branch', () => mock.requests.length === 2);
      await chat.idle();
      assert.equal(mock.requests[1].body.messages[0].content, 'line one\nline two three');
      mock.reply = {text: 'word '.repeat(300), delayMs: 20};
      await page.keyboard.type('more');
      await page.keyboard.press('Enter');
      await until('a stream', async () => (await chat.text('.answer:last-child .markdown')).includes('word word'));
      await page.keyboard.press('Escape');
      await until('the abort', () => mock.aborted === 1);
      await chat.idle();
      await page.keyboard.press('Control+k');
      assert.equal(await page.locator('.turn').count(), 0);
      assert.equal(await page.evaluate(() => document.activeElement.id), 'composer');
      await page.keyboard.type('a/b');
      assert.equal(await page.inputValue('#composer'), 'a/b', 'a slash in a text is a slash');
      await page.locator('.top-bar').click();
      await page.keyboard.press('/');
      await until('the search to have focus', () => page.evaluate(() => document.activeElement.id === 'search'));
    },
  },
  {
    name: 'keyboard: Tab reaches every control of a turn, and the focus is visible',
    async run({chat, page, mock}) {
      mock.reply = {tokens: ['```sh\n', 'ls\n', '```\n']};
      await chat.ready();
      await chat.askAndWait('go');
      await page.locator('.new-chat').focus();
      const reached = new Set();
      for (let step = 0; step < 40; step++) {
        const {label, outline} = await page.evaluate(() => {
          const element = document.activeElement;
          const style = getComputedStyle(element.closest('.search') ?? element);
          return {label: element === document.body ? 'BODY' : element.ariaLabel || element.textContent.trim() || element.tagName, outline: parseFloat(style.outlineWidth) > 0 && style.outlineStyle !== 'none'};
        });
        if (label !== 'BODY') assert.ok(outline || reached.size === 0, `${label} shows its focus`);
        reached.add(label);
        await page.keyboard.press('Tab');
      }
      for (const label of ['Search conversations', 'go', 'Rename go', 'Delete go', 'Export conversations', 'Settings', 'Edit', 'Copy', 'Regenerate', 'Delete', 'Message']) {
        assert.ok(reached.has(label), `${label} is reached; reached: ${[...reached].join(', ')}`);
      }
      // All by keyboard: open the drawer, set a value, come back.
      await chat.button('Settings').focus();
      await page.keyboard.press('Enter');
      await until('focus inside the drawer', () => page.evaluate(() => document.activeElement.closest('.drawer') !== null));
      await page.keyboard.press('Escape');
      await until('focus back', () => page.evaluate(() => document.activeElement.ariaLabel === 'Settings'));
    },
  },
  ...['light', 'dark'].map((colorScheme) => ({
    name: `${colorScheme}: every text has the contrast of WCAG AA`,
    options: {colorScheme},
    async run({chat, page, mock}) {
      await chat.ready();
      assert.deepEqual(await page.evaluate(kContrast), []);
      mock.reply = {reasoning: 'hm', tokens: [
        `${kRich}\n> quoted\n\n\`\`\`cpp\n// comment\n#include <x>\nclass A { int f() { return 42; } };\nauto s = "text";\n\`\`\`\n\n\`\`\`diff\n-old\n+new\n\`\`\`\n\n[link](https://example.org)`]};
      await chat.askAndWait('go');
      await until('colours', async () => await page.locator('.hljs-comment').count() > 0);
      mock.reply = {status: 400, message: 'refused'};
      await chat.askAndWait('again');
      await chat.button('Settings').click();
      await page.fill('#field-top_p', '9');
      assert.deepEqual(await page.evaluate(kContrast), []);
    },
  })),
  {
    name: 'the colour switch goes against the system and is remembered',
    options: {colorScheme: 'light'},
    async run({chat, page}) {
      const background = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
      await chat.ready();
      const light = await background();
      await chat.button('Colours: system').click();
      assert.equal(await background(), light);
      await chat.button('Colours: light').click();
      const dark = await background();
      assert.notEqual(dark, light);
      await page.reload();
      assert.equal(await background(), dark);
      await page.emulateMedia({colorScheme: 'dark'});
      await chat.button('Colours: dark').click();
      assert.equal(await background(), dark, 'the system is dark now');
      await page.emulateMedia({colorScheme: 'light'});
      assert.equal(await background(), light);
    },
  },
  {
    name: 'the bundle keeps to its budget and names no other host',
    async run() {
      const dist = fileURLToPath(new URL('../../../web/dist/', import.meta.url));
      let total = 0;
      for (const file of readdirSync(dist)) {
        const content = readFileSync(dist + file);
        total += gzipSync(content, {level: 9}).length;
        if (/\.(html|css)$/.test(file)) assert.doesNotMatch(content.toString(), /https?:|\/\/[a-z]|<style|style=|<script>|data:/);
      }
      assert.ok(total <= 250_000, `${total} bytes`);
    },
  },
];
