// Pictures of every state, to be looked at: node tests/e2e/page/shots.mjs [folder]. Light, dark and narrow.
import {mkdirSync} from 'node:fs';
import {Chat, launch, until} from './harness.mjs';
import {MockServer} from './mock_server.mjs';

const folder = process.argv[2] ?? '/tmp/donar-shots';
const kAnswer = `Here is the idea in short: **predict**, then **correct**.

## Steps

1. Predict the state with the model.
2. Compare with the measurement \`z\`.
   - small noise: trust it
   - large noise: trust the model
3. Repeat.

| Sensor | Rate | Noise |
|:--|--:|--:|
| IMU | 200 Hz | 0.02 |
| GPS | 5 Hz | 1.50 |

\`\`\`cpp
// One step of a one-dimensional filter.
struct Kalman { double x = 0, p = 1; };

void correct(Kalman& k, double z, double r) {
  const double gain = k.p / (k.p + r);
  k.x += gain * (z - k.x);
  k.p *= 1 - gain;
}
\`\`\`

The gain is $K = \\frac{P}{P + R}$, and in general

$$
K_k = P_{k|k-1} H^\\top (H P_{k|k-1} H^\\top + R)^{-1}
$$

> A filter is only as good as its noise model.

See [the paper](https://example.org).`;
const kTokens = (text) => text.match(/[\s\S]{1,5}/g);

const scenes = {
  async empty({chat}) {
    await chat.ready();
    await until('facts', async () => (await chat.text('.facts')).includes('context'));
  },
  async loading({chat, mock}) {
    mock.info.status = 'loading';
    mock.info.loading = {phase: 'weights', done_bytes: 2.9e9, total_bytes: 4.7e9, seconds: 1.2};
    await chat.open();
    await chat.page.waitForSelector('.load-text');
  },
  async failed({chat, mock}) {
    mock.info.status = 'failed';
    mock.info.error = 'model-00002-of-00004.safetensors: tensor "model.layers.7.mlp.up_proj.weight" has shape [4096, 14336], expected [14336, 4096]';
    await chat.open();
    await chat.page.waitForSelector('.welcome-error');
  },
  async answer({chat, mock}) {
    mock.reply = {tokens: kTokens(kAnswer)};
    await chat.ready();
    await chat.askAndWait('How does a Kalman filter fuse two noisy sensors? Show it with a small example.');
    await until('maths', async () => await chat.page.locator('math').count() === 2);
  },
  async streaming({chat, mock}) {
    mock.reply = {tokens: kTokens(kAnswer.repeat(4)), delayMs: 12};
    await chat.ready();
    await chat.ask('How does a Kalman filter fuse two noisy sensors?');
    await chat.page.waitForTimeout(4000);
  },
  async branches({chat, mock}) {
    mock.reply = {text: 'A short answer that was written again.', reasoning: 'The reader wants something short.', delayMs: 30};
    await chat.ready();
    for (const text of ['A conversation from before with quite a long title that does not fit', 'Another']) {
      await chat.page.keyboard.press('Control+k');
      await chat.askAndWait(text);
    }
    await chat.page.locator('.answer').last().getByRole('button', {name: 'Regenerate'}).click();
    await chat.idle();
    await chat.page.locator('.thought summary').first().click();
    mock.reply = {text: 'And then it was cut', finish: 'length'};
    await chat.askAndWait('Go on');
    mock.reply = {finish: 'tool_calls', toolCalls: [{name: 'get_weather', arguments: '{"city":"Zürich","days":3}'}]};
    await chat.askAndWait('What is the weather?');
  },
  async editing({chat}) {
    await chat.ready();
    await chat.askAndWait('Where is the robot?');
    await chat.page.press('#composer', 'ArrowUp');
  },
  async errors({chat, mock}) {
    mock.reply = {text: 'It began well and then it', errorAfter: 5, message: 'the engine ran out of KV blocks: lower max_tokens or --max-num-seqs'};
    await chat.ready();
    await chat.askAndWait('Tell me something');
    mock.reply = {status: 429, message: 'the queue is full', headers: {'Retry-After': '20'}};
    mock.info.waiting = 12;
    await chat.page.waitForTimeout(5200);
    await chat.ask('And again');
    await chat.page.waitForTimeout(800);
  },
  async gone({chat, mock}) {
    await chat.ready();
    await chat.askAndWait('Are you there?');
    await mock.stop();
    await chat.ask('Still there?');
    await until('the banner', async () => await chat.page.locator('.banner.bad').count() === 1);
    await mock.start();
  },
  async settings({chat, page}) {
    await chat.ready();
    await chat.askAndWait('Hello');
    await chat.button('Settings').click();
    await page.fill('#field-temperature', '0.7');
    await page.fill('#field-top_p', '4');
    await page.getByLabel('Logprobs on hover').check();
  },
  async settings_end({chat, page}) {
    await chat.ready();
    await page.fill('#composer', 'What is a quaternion?');
    await chat.button('Settings').click();
    await page.locator('.curl pre').scrollIntoViewIfNeeded();
  },
  async logprobs({chat, page, mock}) {
    await chat.ready();
    await chat.button('Settings').click();
    await page.getByLabel('Logprobs on hover').check();
    await page.keyboard.press('Escape');
    mock.reply = {text: 'The quick brown fox jumps over the lazy dog and then it looks around for something else to jump over.'};
    await chat.askAndWait('Write a sentence');
    await page.locator('.token').nth(4).hover();
  },
  async delete_all({chat}) {
    await chat.ready();
    await chat.askAndWait('Hello');
    if (!await chat.page.locator('.rail').isVisible()) await chat.button('Conversations').click();
    await chat.button('Delete all conversations').click();
  },
  async rail({chat, page}) {
    await chat.ready();
    for (const text of ['Apples', 'Bears']) {
      await page.keyboard.press('Control+k');
      await chat.askAndWait(text);
    }
    if (!await page.locator('.rail').isVisible()) await chat.button('Conversations').click();
    await page.locator('.entry').first().hover();
  },
};

mkdirSync(folder, {recursive: true});
const browser = await launch();
const looks = {
  light: {viewport: {width: 1280, height: 800}, colorScheme: 'light'},
  dark: {viewport: {width: 1280, height: 800}, colorScheme: 'dark'},
  narrow: {viewport: {width: 360, height: 720}, colorScheme: 'light'},
};
for (const [look, options] of Object.entries(looks)) {
  for (const [name, scene] of Object.entries(scenes)) {
    const mock = new MockServer();
    await mock.start();
    const context = await browser.newContext({reducedMotion: 'reduce', ...options});
    const page = await context.newPage();
    const chat = new Chat(page, mock.url);
    try {
      await scene({chat, page, mock});
      await page.waitForTimeout(200);
      await page.screenshot({path: `${folder}/${look}-${name}.png`});
    } catch (error) {
      console.log(`${look} ${name}: ${error.message}`);
    }
    await context.close();
    await mock.stop();
  }
}
await browser.close();
console.log(`pictures lie in ${folder}`);
