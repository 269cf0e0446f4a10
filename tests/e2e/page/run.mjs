// The browser tests of the chat page, one command: node tests/e2e/page/run.mjs [part of a test's name]
// With DONAR_URL=http://127.0.0.1:8000 the smoke test asks that server a real question as well.
import {launch, Chat} from './harness.mjs';
import {MockServer} from './mock_server.mjs';
import {answerTests} from './answer_tests.mjs';
import {historyTests} from './history_tests.mjs';
import {lookTests} from './look_tests.mjs';
import {markdownTests} from './markdown_tests.mjs';
import {settingsTests} from './settings_tests.mjs';
import {smokeTests} from './smoke_tests.mjs';
import {stateTests} from './state_tests.mjs';

const filter = process.argv[2] ?? '';
const tests = [
  ...answerTests, ...historyTests, ...markdownTests, ...settingsTests, ...stateTests, ...lookTests,
  ...(process.env.DONAR_URL ? smokeTests(process.env.DONAR_URL) : []),
].filter(({name}) => name.includes(filter));

const browser = await launch();
let passed = 0;
let failed = 0;
for (const {name, run, options = {}} of tests) {
  const mock = new MockServer();
  await mock.start();
  const context = await browser.newContext({viewport: {width: 1280, height: 800}, reducedMotion: 'reduce', ...options});
  context.setDefaultTimeout(30_000);
  const chat = new Chat(await context.newPage(), options.url ?? mock.url);
  try {
    await run({chat, page: chat.page, mock, context});
    if (chat.complaints.length > 0) throw new Error(`the browser complained:\n  ${chat.complaints.join('\n  ')}`);
    if (mock.foreign.length > 0) throw new Error(`the page asked for ${mock.foreign.join(', ')}`);
    passed++;
    console.log(`ok    ${name}`);
  } catch (error) {
    failed++;
    console.log(`FAIL  ${name}\n${String(error.stack ?? error).replace(/^/gm, '      ')}`);
    if (process.env.SHOTS) await chat.page.screenshot({path: `${process.env.SHOTS}/fail-${failed}.png`}).catch(() => undefined);
  }
  await context.close();
  await mock.stop();
}
await browser.close();
if (tests.length === 0) {
  console.log(`no test is called "${filter}"`);
  failed = 1;
}
console.log(`${passed} passed, ${failed} failed`);
process.exitCode = failed === 0 ? 0 : 1;
