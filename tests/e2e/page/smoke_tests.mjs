// A real question to a real server: DONAR_URL says where it listens.
import assert from 'node:assert/strict';
import {until} from './harness.mjs';

export const smokeTests = (url) => [{
  name: `smoke: a real server at ${url} answers a real question`,
  options: {url: url.endsWith('/') ? url : `${url}/`},
  async run({chat, page}) {
    await chat.open();
    await until('a ready model', async () => await page.locator('.health.ready').count() === 1, 120_000);
    await until('a model name', async () => await page.locator('.model-name[title]:not([title=""]), .model select').count() === 1);
    const policy = await page.evaluate(async () => (await fetch('.')).headers.get('Content-Security-Policy'));
    assert.match(policy ?? '', /default-src 'self'/);
    assert.doesNotMatch(policy, /unsafe/);
    await chat.button('Settings').click();
    await page.fill('#field-max_tokens', '48');
    await page.fill('#field-temperature', '0');
    await page.keyboard.press('Escape');
    await chat.ask('What is the capital of France?');
    await until('the first words', async () => (await chat.text('.answer .markdown')).length > 0, 120_000);
    await chat.idle(120_000);
    assert.equal(await page.locator('.outcome.error').count(), 0, await page.locator('.answer').innerText());
    assert.match(await chat.text('.answer .stats'), /^TTFT \d+(\.\d)? m?s · [\d,.]+ tok\/s · \d+ tokens · [\d,]+ cached · (stop|length)$/);
    await until('the context', async () => /^[1-9][\d,]* of [\d,]+$/.test(await chat.text('.context-text')));
    const first = await chat.text('.answer .markdown');
    await chat.button('Regenerate').click();
    await until('a second answer', async () => (await chat.text('.answer .alternatives')) === '2/2', 120_000);
    await chat.idle(120_000);
    assert.equal(await chat.text('.answer .markdown'), first, 'temperature 0 gives the same answer');
    // Cut by its length, then continued; with logprobs.
    await page.keyboard.press('Control+k');
    await chat.button('Settings').click();
    await page.fill('#field-max_tokens', '8');
    await page.getByLabel('Logprobs on hover').check();
    await page.keyboard.press('Escape');
    await chat.ask('Explain in three sentences why the sky is blue.');
    await until('the cut', async () => (await chat.text('.answer .outcome')).includes('cut at its length limit'), 120_000);
    await until('eight tokens', async () => await page.locator('.token').count() === 8);
    const cut = await chat.text('.tokens-text');
    await chat.button('Continue').click();
    await until('sixteen', async () => /· 16 tokens ·/.test(await chat.text('.answer .stats')), 120_000);
    assert.ok((await chat.text('.tokens-text')).startsWith(cut));
    // Stop: the server must be free again at once.
    await page.evaluate(() => localStorage.removeItem('donar.settings'));
    await page.reload();
    await until('ready', async () => await page.locator('.health.ready').count() === 1, 20_000);
    await chat.ask('Count from one to one thousand in words.');
    await until('the first words', async () => (await chat.text('.answer:last-child .markdown')).length > 0, 120_000);
    await page.keyboard.press('Escape');
    await chat.idle();
    await until('no request running on the server', async () => page.evaluate(async () => {
      const response = await fetch('donar/info');
      return !response.ok || (await response.json()).running === 0;
    }));
  },
}];
