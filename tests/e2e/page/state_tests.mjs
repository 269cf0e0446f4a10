// What a reader sees when things are slow, full or broken.
import assert from 'node:assert/strict';
import {until} from './harness.mjs';

const kBytes = 4_700_000_000;

export const stateTests = [
  {
    name: 'empty: what the model is, and three prompts that ask',
    async run({chat, page, mock}) {
      await chat.ready();
      await until('the facts', async () => (await chat.text('.facts')) === '135M parameters · Q4_1 weights · 8,192 tokens of context');
      assert.equal(await page.locator('.prompt').count(), 3);
      await page.locator('.prompt').first().click();
      await until('the answer', async () => (await chat.text('.answer .markdown')) === 'Hello there.');
      assert.match(mock.requests[0].body.messages[0].content, /sky/);
    },
  },
  {
    name: 'loading: phase, bytes, GB/s and a bar, then ready by itself',
    async run({chat, page, mock}) {
      mock.info.status = 'loading';
      mock.info.loading = {phase: 'weights', done_bytes: kBytes / 2, total_bytes: kBytes, seconds: 1};
      await chat.open();
      await until('the progress', async () => (await chat.text('.load-text')) === 'weights · 2.35 GB of 4.70 GB · 2.35 GB/s · 1 s left');
      assert.equal(await page.getAttribute('[role=progressbar]', 'aria-valuenow'), '50');
      mock.info.status = 'ready';
      mock.info.loading = null;
      await until('ready', async () => await page.locator('.health.ready').count() === 1 && await page.locator('.prompt').count() === 3);
    },
  },
  {
    name: 'a question asked while the model loads goes out when it is ready',
    async run({chat, page, mock}) {
      mock.info.status = 'loading';
      mock.info.loading = {phase: 'weights', done_bytes: 1, total_bytes: kBytes, seconds: 1};
      mock.reply = () => mock.info.status === 'loading' ? {status: 503, message: 'the model is loading', headers: {'Retry-After': '60'}}
                                                        : {text: 'Here I am.'};
      await chat.open();
      await page.waitForSelector('.health.loading');
      await chat.ask('there?');
      await until('the note', async () => (await chat.text('.waiting')).includes('goes out when it is ready'));
      mock.info.status = 'ready';
      await until('the answer', async () => (await chat.text('.answer .markdown')) === 'Here I am.');
    },
  },
  {
    name: 'a model that failed to load says why',
    async run({chat, mock}) {
      mock.info.status = 'failed';
      mock.info.error = 'model.safetensors: tensor "lm_head.weight" has shape [1,2], expected [3,4]';
      await chat.open();
      await until('the reason', async () => (await chat.text('.welcome-error')).includes('lm_head.weight'));
    },
  },
  {
    name: 'queued: a full server is asked again until it answers',
    async run({chat, mock}) {
      let tries = 0;
      mock.info.waiting = 7;
      mock.reply = () => ++tries < 3 ? {status: 429, message: 'too many requests', headers: {'Retry-After': '1'}} : {text: 'At last.'};
      await chat.ready();
      await chat.ask('go');
      await until('the queue', async () => /^Queued The server is full, 7 waiting\. Trying again/.test(await chat.text('.waiting')));
      await until('the answer', async () => (await chat.text('.answer .markdown')) === 'At last.');
      assert.equal(tries, 3);
    },
  },
  {
    name: 'queued: Esc gives up',
    async run({chat, page, mock}) {
      mock.reply = {status: 429, message: 'too many requests', headers: {'Retry-After': '30'}};
      await chat.ready();
      await chat.ask('go');
      await until('the queue', async () => (await chat.text('.waiting')).startsWith('Queued'));
      await page.keyboard.press('Escape');
      await chat.idle();
      assert.equal(mock.requests.length, 1);
    },
  },
  {
    name: 'in line: an accepted request shows who else waits',
    async run({chat, mock}) {
      mock.reply = {text: 'Done.', firstMs: 2500};
      mock.info.waiting = 3;
      mock.info.running = 16;
      await chat.ready();
      await chat.ask('go');
      await until('the line', async () => (await chat.text('.waiting')).includes('3 waiting, 16 running'));
      mock.info.waiting = 0;
      await until('its turn', async () => (await chat.text('.waiting')).startsWith('Reading'));
      await chat.idle();
    },
  },
  {
    name: 'an error inside the stream is shown with what had come, retry asks again',
    async run({chat, mock}) {
      mock.reply = {text: 'one two three four', errorAfter: 2, message: 'the engine ran out of blocks'};
      await chat.ready();
      await chat.askAndWait('go');
      assert.equal(await chat.text('.answer .markdown'), 'one two');
      assert.match(await chat.text('.outcome.error'), /the engine ran out of blocks/);
      mock.reply = {text: 'All of it.'};
      await chat.button('Retry').click();
      await until('the answer', async () => (await chat.text('.answer .markdown')) === 'All of it.');
      await chat.idle();
      assert.equal(await chat.page.locator('.outcome').count(), 0);
      assert.deepEqual(mock.requests[1].body.messages, [{role: 'user', content: 'go'}]);
    },
  },
  {
    name: 'a connection that breaks off is an error, not a short answer',
    async run({chat, mock}) {
      mock.reply = {text: 'one two three four', dropAfter: 2, delayMs: 50};
      await chat.ready();
      await chat.askAndWait('go');
      assert.match(await chat.text('.outcome.error'), /before the answer was complete/);
      mock.reply = {text: ' three four'};
      await chat.button('Continue').click();
      await until('the rest', async () => (await chat.text('.answer .markdown')) === 'one two three four');
    },
  },
  {
    name: 'a refused request shows the server\'s own words',
    async run({chat, mock}) {
      mock.reply = {status: 400, message: 'max_tokens must be at least 1'};
      await chat.ready();
      await chat.askAndWait('go');
      assert.match(await chat.text('.outcome.error'), /^max_tokens must be at least 1/);
    },
  },
  {
    name: 'a server that goes away and comes back',
    async run({chat, page, mock}) {
      mock.reply = {text: 'word '.repeat(500), delayMs: 20};
      await chat.ready();
      await chat.ask('go');
      await until('some words', async () => (await chat.text('.answer .markdown')).includes('word word'));
      const {port} = mock;
      await mock.stop();
      await until('the banner', async () => (await chat.text('.banner.bad')).includes(`No answer from 127.0.0.1:${port}`));
      await until('the error', async () => await page.locator('.outcome.error').count() === 1);
      assert.equal(await page.locator('.health.gone').count(), 1);
      mock.reply = {text: 'Back again.'};
      await mock.start(port);
      await until('the banner to go by itself', async () => await page.locator('.banner').count() === 0, 15_000);
      await chat.button('Retry').click();
      await until('the answer', async () => (await chat.text('.answer .markdown')) === 'Back again.');
    },
  },
  {
    name: 'a server without /donar/info works by /health and /v1/models',
    async run({chat, mock}) {
      mock.infoExists = false;
      await chat.ready();
      await until('the context', async () => (await chat.text('.context-text')) === '0 of 8,192');
      await chat.askAndWait('go');
      assert.equal(await chat.text('.answer .markdown'), 'Hello there.');
      assert.ok(mock.foreign.every((path) => path === '/donar/info'), mock.foreign.join());
      assert.equal(mock.foreign.length, 1, 'asked once');
      mock.foreign = [];
    },
  },
  {
    name: 'a model without a chat template says what to do',
    async run({chat, mock}) {
      mock.info.chat = false;
      await chat.ready();
      await until('the banner', async () => (await chat.text('.banner')).includes('--chat-template'));
    },
  },
  {
    name: 'a browser that refuses storage: the page works and says that nothing is kept',
    async run({chat, page, mock}) {
      await page.addInitScript(() => {
        const refuse = () => {
          throw new DOMException('refused', 'SecurityError');
        };
        Object.defineProperty(window, 'indexedDB', {get: refuse});
        Object.defineProperty(window, 'localStorage', {get: refuse});
      });
      await chat.ready();
      await until('the notice', async () => (await chat.text('.toast')).includes('not kept'));
      await chat.askAndWait('one');
      await chat.askAndWait('two');
      assert.equal(await chat.text('.answer:last-child .markdown'), 'Hello there.');
      assert.equal(mock.requests[1].body.messages.length, 3);
      await page.keyboard.press('Control+k');
      await chat.askAndWait('other');
      await page.getByRole('button', {name: 'one', exact: true}).click();
      await until('the first conversation', async () => await page.locator('.turn').count() === 4);
    },
  },
  {
    name: 'another model behind the same address is noticed',
    async run({chat, mock}) {
      await chat.ready();
      mock.info.model = 'Other-8B';
      mock.models = [{id: 'Other-8B', max_model_len: 4096}];
      await until('its name', async () => (await chat.text('.model-name')) === 'Other-8B' && (await chat.text('.context-text')).endsWith('of 4,096'));
    },
  },
  {
    name: 'draining: a banner says so',
    async run({chat, mock}) {
      await chat.ready();
      mock.info.status = 'draining';
      await until('the banner', async () => (await chat.text('.banner')).includes('shutting down'));
    },
  },
];
