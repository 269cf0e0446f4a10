// First paint on loopback, and the frames of a 10,000-token answer at 500 tok/s. Prints figures, judges nothing.
import {Chat, launch} from './harness.mjs';
import {MockServer} from './mock_server.mjs';

const kTokens = 10_000;
const kPerSecond = 500;
const kSection = `## Section\n\nSome **bold** words and \`code\` in a paragraph that is about as long as paragraphs are.\n\n- one\n- two\n- three\n\n` +
    '```cpp\nint main() {\n  return 0;  // done\n}\n```\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n';

const browser = await launch();
const mock = new MockServer();
await mock.start();
const quantile = (values, share) => values.sort((a, b) => a - b)[Math.floor((values.length - 1) * share)];

const paints = [];
for (let round = 0; round < 5; round++) {
  const page = await (await browser.newContext()).newPage();
  const chat = new Chat(page, mock.url);
  await chat.ready();
  paints.push(await page.evaluate(() => performance.getEntriesByName('first-contentful-paint')[0].startTime));
  await page.context().close();
}
console.log(`first contentful paint: median ${quantile(paints, 0.5).toFixed(0)} ms of ${paints.length} cold loads`);

for (const [name, text] of [['mixed Markdown', kSection], ['one code block', '  x = x + 1;\n'], ['one paragraph', 'word after word ']]) {
  const page = await (await browser.newContext({viewport: {width: 1280, height: 800}})).newPage();
  const chat = new Chat(page, mock.url);
  const tokens = text.repeat(kTokens).match(/[\s\S]{1,4}/g).slice(0, kTokens);
  if (name === 'one code block') tokens.unshift('```c\n');
  const perWrite = 10;
  mock.reply = {tokens, perWrite, delayMs: perWrite * 1000 / kPerSecond};
  await chat.ready();
  await page.evaluate(() => {
    window.frames_ = [];
    window.long_ = 0;
    let last = performance.now();
    const step = (now) => {
      window.frames_.push(now - last);
      last = now;
      requestAnimationFrame(step);
    };
    requestAnimationFrame(step);
    new PerformanceObserver((list) => (window.long_ += list.getEntries().length)).observe({entryTypes: ['longtask']});
  });
  const cdp = await page.context().newCDPSession(page);
  await cdp.send('Performance.enable');
  const busy = async () => (await cdp.send('Performance.getMetrics')).metrics.find((metric) => metric.name === 'TaskDuration').value;
  const before = await busy();
  const start = Date.now();
  await chat.ask('go');
  await page.waitForTimeout(500);
  await chat.idle(120_000);
  const seconds = (Date.now() - start) / 1000;
  const {frames, long} = await page.evaluate(() => ({frames: window.frames_, long: window.long_}));
  console.log(`${name}: ${kTokens} tokens in ${seconds.toFixed(1)} s, frames ${(frames.length / seconds).toFixed(0)}/s, ` +
      `median ${quantile(frames, 0.5).toFixed(1)} ms, p99 ${quantile(frames, 0.99).toFixed(1)} ms, main thread busy ${(((await busy()) - before) / seconds * 100).toFixed(0)} %, ` +
      `tasks above 50 ms: ${long}`);
  await page.context().close();
}
await browser.close();
await mock.stop();
