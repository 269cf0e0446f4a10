// The settings drawer, the API key, and what of it reaches the server.
import assert from 'node:assert/strict';
import {spawnSync} from 'node:child_process';
import {until} from './harness.mjs';

const kValues = {
  temperature: ['0.7', 0.7], top_p: ['0.9', 0.9], top_k: ['40', 40], min_p: ['0.05', 0.05], max_tokens: ['128', 128], seed: ['42', 42],
  stop: ['END\n###', ['END', '###']], presence_penalty: ['0.1', 0.1], frequency_penalty: ['-0.2', -0.2], repetition_penalty: ['1.1', 1.1],
};

async function fillAll(chat) {
  await chat.button('Settings').click();
  for (const [name, [text]] of Object.entries(kValues)) await chat.page.fill(`#field-${name}`, text);
  await chat.page.fill('#field-system', 'You\'re a "robot".');
}

export const settingsTests = [
  {
    name: 'every setting reaches the request, stays after a reload, and reset takes it away',
    async run({chat, page, mock}) {
      await chat.ready();
      await chat.askAndWait('plain');
      assert.deepEqual(Object.keys(mock.requests[0].body).sort(), ['messages', 'model', 'stream', 'stream_options']);
      await fillAll(chat);
      await page.reload();
      await page.waitForSelector('.health.ready');
      await chat.askAndWait('go');
      const {body} = mock.requests[1];
      for (const [name, [, value]] of Object.entries(kValues)) assert.deepEqual(body[name], value, name);
      assert.deepEqual(body.messages[0], {role: 'system', content: 'You\'re a "robot".'});
      await chat.button('Settings').click();
      await chat.button('Reset').click();
      await page.keyboard.press('Escape');
      await chat.askAndWait('again');
      assert.deepEqual(Object.keys(mock.requests[2].body).sort(), ['messages', 'model', 'stream', 'stream_options']);
    },
  },
  {
    name: 'each setting shows its API name and default; a wrong value is named and not sent',
    async run({chat, page, mock}) {
      mock.info.generation_config = {temperature: 0.2};
      await chat.ready();
      await chat.button('Settings').click();
      for (const name of Object.keys(kValues)) {
        assert.ok((await page.locator('.drawer code').allInnerTexts()).includes(name), name);
        assert.match(await page.locator(`#field-${name}-hint`).innerText(), /^default /);
      }
      assert.match(await chat.text('#field-temperature-hint'), /^default 0\.2, from the model/);
      await page.fill('#field-top_p', '3');
      assert.match(await chat.text('#field-top_p-hint'), /^Not sent: must be at most 1/);
      assert.equal(await page.getAttribute('#field-top_p', 'aria-invalid'), 'true');
      await page.keyboard.press('Escape');
      await chat.askAndWait('go');
      assert.equal('top_p' in mock.requests[0].body, false);
    },
  },
  {
    name: 'the curl line sends what the page would send',
    async run({chat, page, mock}) {
      await chat.ready();
      await fillAll(chat);
      await page.fill('#composer', 'It\'s "quoted" $HOME `x` \\n?');
      const line = await chat.text('.curl pre');
      assert.ok(line.startsWith(`curl -N ${mock.url}v1/chat/completions`), line);
      // A stand-in for curl prints its -d argument, after a real shell has taken the line apart.
      const stub = 'curl() { while [ $# -gt 0 ]; do [ "$1" = -d ] && printf %s "$2"; shift; done; }\n';
      const shell = spawnSync('bash', ['-c', stub + line], {encoding: 'utf8'});
      await page.keyboard.press('Escape');
      await page.press('#composer', 'Enter');
      await until('the request', () => mock.requests.length === 1);
      assert.deepEqual(JSON.parse(shell.stdout), mock.requests[0].body);
    },
  },
  {
    name: 'a server with an API key: asked for, kept, sent, never in the curl line',
    async run({chat, page, mock}) {
      mock.apiKey = 'secret-7';
      await chat.open();
      await until('the banner', async () => (await chat.text('.banner')).includes('API key'));
      await chat.button('Enter the key').click();
      await until('the field to have focus', () => page.evaluate(() => document.activeElement.id === 'api-key'));
      await page.keyboard.type('secret-7');
      await page.keyboard.press('Enter');
      await page.keyboard.press('Tab');
      await until('the banner to go', async () => await page.locator('.banner').count() === 0);
      assert.ok((await chat.text('.curl pre')).includes('$DONAR_API_KEY'));
      assert.ok(!(await chat.text('.curl pre')).includes('secret-7'));
      await page.reload();
      await page.waitForSelector('.model-name[title="SmolLM2-135M-Instruct"]');
      await chat.askAndWait('go');
      assert.equal(mock.requests[0].headers.authorization, 'Bearer secret-7');
    },
  },
  {
    name: 'several models: the chosen one is asked, and remembered',
    async run({chat, page, mock}) {
      mock.models = [{id: 'org/model-a', max_model_len: 1000}, {id: 'org/model-b', max_model_len: 2000}];
      await chat.ready();
      await page.getByLabel('Model').selectOption('org/model-b');
      await until('its context', async () => (await chat.text('.context-text')) === '0 of 2,000');
      await page.reload();
      await page.waitForSelector('.health.ready');
      await chat.askAndWait('go');
      assert.equal(mock.requests[0].body.model, 'org/model-b');
    },
  },
  {
    name: 'the context bar counts what is typed',
    async run({chat, page}) {
      await chat.ready();
      await until('nothing used', async () => (await chat.text('.context-text')) === '0 of 8,192');
      await page.fill('#composer', 'one two three four five six seven');
      await until('the typed tokens', async () => Number((await chat.text('.context-text')).split(' ')[0]) >= 7);
    },
  },
];
