// Asking, stopping, going on, and everything that can be done to a turn.
import assert from 'node:assert/strict';
import {until} from './harness.mjs';

const kStats = /^TTFT \d+(\.\d)? m?s · 187 tok\/s · 6 tokens · 96 cached · stop$/;
const kLong = Array.from({length: 400}, (_, index) => `word${index}`).join(' ');

export const answerTests = [
  {
    name: 'a question gets a streamed answer with its numbers',
    async run({chat, page, mock}) {
      mock.reply = {text: 'The sky is blue by scattering.', delayMs: 120};
      await chat.ready();
      await chat.ask('Why is the sky blue?');
      await until('the first words', async () => (await chat.text('.answer .markdown')).startsWith('The sky'));
      assert.ok(!(await chat.text('.answer .markdown')).includes('scattering'), 'the beginning shows before the end is there');
      assert.equal(await page.getAttribute('.column', 'aria-busy'), 'true');
      await chat.idle();
      assert.equal(await chat.text('.answer .markdown'), 'The sky is blue by scattering.');
      assert.match(await chat.text('.answer .stats'), kStats);
      assert.equal(await chat.text('.bubble'), 'Why is the sky blue?');
      assert.equal(await page.getAttribute('.column', 'aria-busy'), 'false');
      assert.equal(await page.getAttribute('.column', 'aria-live'), 'polite');
      const {body} = mock.requests[0];
      assert.deepEqual(body.messages, [{role: 'user', content: 'Why is the sky blue?'}]);
      assert.equal(body.model, 'SmolLM2-135M-Instruct');
      assert.equal(body.stream, true);
      assert.deepEqual(body.stream_options, {include_usage: true});
    },
  },
  {
    name: 'the second question carries the conversation',
    async run({chat, mock}) {
      await chat.ready();
      await chat.askAndWait('one');
      await chat.askAndWait('two');
      assert.deepEqual(mock.requests[1].body.messages.map(({role, content}) => `${role}: ${content}`),
          ['user: one', 'assistant: Hello there.', 'user: two']);
    },
  },
  {
    name: 'the live speed and the context show while an answer streams',
    async run({chat, page, mock}) {
      mock.reply = {text: kLong, delayMs: 10};
      await chat.ready();
      await chat.ask('go');
      await until('a live speed', async () => /^\d+(\.\d)? tok\/s$/.test(await chat.text('.speed')));
      await until('a sparkline', async () => (await page.getAttribute('.speed polyline', 'points')).split(' ').length > 2);
      const used = async () => Number((await chat.text('.context-text')).split(' ')[0].replace(',', ''));
      const before = await used();
      await until('the context to grow', async () => await used() > before + 10);
      await chat.button('Stop').click();
      await until('the speed to go', async () => await page.locator('.speed').count() === 0);
    },
  },
  {
    name: 'stop keeps what has come and ends the request on the server',
    async run({chat, mock}) {
      mock.reply = {text: kLong, delayMs: 20};
      await chat.ready();
      await chat.ask('go');
      await until('some words', async () => (await chat.text('.answer .markdown')).includes('word5'));
      await chat.button('Stop').click();
      await chat.idle();
      const kept = await chat.text('.answer .markdown');
      assert.ok(kept.startsWith('word0 word1') && !kept.includes('word399'), kept);
      await until('the server to see it', () => mock.aborted === 1);
      assert.match(await chat.text('.answer .stats'), /tokens · stopped$/);
      await until('it to be stored', async () => (await chat.stored())[0]?.messages[1]?.finish === 'stopped');
      mock.reply = {text: ' and the rest'};
      await chat.button('Continue').click();
      await chat.idle();
      assert.equal(await chat.text('.answer .markdown'), `${kept} and the rest`);
    },
  },
  {
    name: 'regenerate keeps the alternatives, arrows switch them, a reload remembers',
    async run({chat, page, mock}) {
      let round = 0;
      mock.reply = () => ({text: `answer ${++round}`});
      await chat.ready();
      await chat.askAndWait('go');
      for (const expected of ['2/2', '3/3']) {
        await chat.button('Regenerate').click();
        await until(expected, async () => (await chat.text('.answer .alternatives')) === expected);
        await chat.idle();
      }
      assert.equal(await chat.text('.answer .markdown'), 'answer 3');
      assert.deepEqual(mock.requests[2].body.messages, [{role: 'user', content: 'go'}]);
      await chat.button('Previous alternative').click();
      assert.equal(await chat.text('.answer .markdown'), 'answer 2');
      assert.equal(await chat.text('.answer .alternatives'), '2/3');
      await until('the choice to be stored', async () => {
        const [conversation] = await chat.stored();
        return Object.values(conversation.selected).includes(conversation.messages[2].id);
      });
      await page.reload();
      await until('the same alternative', async () => (await chat.text('.answer .markdown')) === 'answer 2');
      await chat.askAndWait('and?');
      assert.deepEqual(mock.requests[3].body.messages.map(({content}) => content), ['go', 'answer 2', 'and?']);
    },
  },
  {
    name: 'editing a question makes a branch and keeps the old one',
    async run({chat, page, mock}) {
      mock.reply = (body) => ({text: `about ${body.messages.at(-1).content}`});
      await chat.ready();
      await chat.askAndWait('cats');
      await chat.askAndWait('more');
      await page.locator('.question').first().hover();
      await page.locator('.question').first().getByRole('button', {name: 'Edit'}).click();
      await page.getByLabel('Edit message').fill('dogs');
      await page.keyboard.press('Enter');
      await until('the new answer', async () => (await chat.text('.answer .markdown')) === 'about dogs');
      await chat.idle();
      assert.equal(await page.locator('.turn').count(), 2);
      assert.deepEqual(mock.requests[2].body.messages, [{role: 'user', content: 'dogs'}]);
      await chat.button('Previous alternative').click();
      assert.equal(await page.locator('.turn').count(), 4, 'the old branch with its second question');
      assert.equal(await page.locator('.bubble').first().innerText(), 'cats');
    },
  },
  {
    name: 'an edit can be given up',
    async run({chat, page, mock}) {
      await chat.ready();
      await chat.askAndWait('cats');
      await page.press('#composer', 'ArrowUp');
      await page.getByLabel('Edit message').fill('dogs');
      await page.keyboard.press('Escape');
      assert.equal(await chat.text('.bubble'), 'cats');
      assert.equal(mock.requests.length, 1);
    },
  },
  {
    name: 'deleting a turn takes what follows, and can be undone',
    async run({chat, page}) {
      await chat.ready();
      await chat.askAndWait('one');
      await chat.askAndWait('two');
      await page.locator('.question').nth(1).hover();
      await page.locator('.question').nth(1).getByRole('button', {name: 'Delete'}).click();
      assert.equal(await page.locator('.turn').count(), 2);
      await chat.button('Undo').click();
      assert.equal(await page.locator('.turn').count(), 4);
      await page.locator('.answer').nth(1).getByRole('button', {name: 'Delete'}).click();
      assert.equal(await page.locator('.turn').count(), 3);
      await page.locator('.question').nth(1).hover();
      await chat.button('Answer').click();
      await until('an answer again', async () => await page.locator('.turn').count() === 4);
    },
  },
  {
    name: 'an answer and a code block are copied as they were written',
    async run({chat, page, mock, context}) {
      await context.grantPermissions(['clipboard-read', 'clipboard-write']);
      mock.reply = {tokens: ['Some **bold**\n\n', '```py\n', 'a = 1\n', 'b = 2\n', '```\n']};
      await chat.ready();
      await chat.askAndWait('go');
      await page.locator('.answer').getByRole('button', {name: 'Copy', exact: true}).last().click();
      assert.equal(await page.evaluate(() => navigator.clipboard.readText()), 'Some **bold**\n\n```py\na = 1\nb = 2\n```\n');
      await page.locator('.code button').click();
      await until('the note', async () => (await chat.text('.code button')) === 'Copied');
      assert.equal(await page.evaluate(() => navigator.clipboard.readText()), 'a = 1\nb = 2\n');
    },
  },
  {
    name: 'an answer cut by its length goes on where it stopped',
    async run({chat, mock}) {
      mock.reply = {text: 'The first half', finish: 'length'};
      await chat.ready();
      await chat.askAndWait('go');
      assert.match(await chat.text('.answer .outcome'), /cut at its length limit/);
      mock.reply = {text: ' and the second.'};
      await chat.button('Continue').click();
      await until('the rest', async () => (await chat.text('.answer .markdown')) === 'The first half and the second.');
      await chat.idle();
      const {body} = mock.requests[1];
      assert.equal(body.continue_final_message, true);
      assert.equal(body.add_generation_prompt, false);
      assert.deepEqual(body.messages.at(-1), {role: 'assistant', content: 'The first half'});
      assert.match(await chat.text('.answer .stats'), /· 6 tokens · 96 cached · stop$/);
    },
  },
  {
    name: 'reasoning folds, from its own field and from tags, and is not sent again',
    async run({chat, page, mock}) {
      mock.reply = {reasoning: 'Let me think about it', text: 'Forty two.', delayMs: 30};
      await chat.ready();
      await chat.ask('go');
      await until('the thought while it runs', async () => /^Thinking/.test(await chat.text('.thought summary')));
      await chat.idle();
      assert.match(await chat.text('.thought summary'), /^Thought for \d+(\.\d)? m?s$/);
      assert.equal(await chat.text('.answer .markdown'), 'Forty two.');
      assert.equal(await page.locator('.thought-text').isVisible(), false);
      await page.locator('.thought summary').click();
      assert.equal(await chat.text('.thought-text'), 'Let me think about it');
      mock.reply = {tokens: ['<th', 'ink>\n', 'hmm ', 'hmm\n', '</thi', 'nk>', '\n\nYes', '.'], delayMs: 20};
      await chat.askAndWait('again');
      assert.equal(await chat.text('.answer:last-child .markdown'), 'Yes.');
      await page.locator('.thought summary').last().click();
      assert.equal(await chat.text('.answer:last-child .thought-text'), 'hmm hmm');
      await chat.askAndWait('third');
      assert.deepEqual(mock.requests[2].body.messages.map(({content}) => content), ['go', 'Forty two.', 'again', 'Yes.', 'third']);
    },
  },
  {
    name: 'tool calls are cards with readable arguments',
    async run({chat, mock}) {
      mock.reply = {finish: 'tool_calls', toolCalls: [
        {name: 'get_weather', arguments: '{"city":"Zürich","days":3}'}, {name: 'move_arm', arguments: '{"joint":2}'}]};
      await chat.ready();
      await chat.askAndWait('weather?');
      const cards = await chat.page.locator('.tool').allInnerTexts();
      assert.equal(cards.length, 2);
      assert.equal(cards[0].replace(/\s+/g, ' '), 'get_weather { "city": "Zürich", "days": 3 }');
      assert.match(cards[1], /move_arm/);
    },
  },
  {
    name: 'logprobs: asked for by the setting, shown on hover and by arrow keys',
    async run({chat, page, mock}) {
      await chat.ready();
      await chat.button('Settings').click();
      await page.getByLabel('Logprobs on hover').check();
      await page.keyboard.press('Escape');
      mock.reply = {text: 'Alpha beta gamma'};
      await chat.askAndWait('go');
      assert.equal(mock.requests[0].body.logprobs, true);
      assert.equal(mock.requests[0].body.top_logprobs, 5);
      assert.equal(await page.locator('.token').count(), 3);
      await page.locator('.token').nth(1).hover();
      assert.match(await chat.text('.tokens-card'), /beta\s+44\.9 %\s+␣other\s+30\.1 %/);
      await page.locator('.token').first().focus();
      await page.keyboard.press('ArrowRight');
      await page.keyboard.press('ArrowRight');
      assert.match(await chat.text('.tokens-card .chosen'), /gamma/);
      await chat.button('Show as text').click();
      assert.equal(await chat.text('.answer .markdown'), 'Alpha beta gamma');
    },
  },
  {
    name: 'an answer goes on in the background while another conversation is read',
    async run({chat, page, mock}) {
      mock.reply = {text: kLong, delayMs: 5};
      await chat.ready();
      await chat.ask('long one');
      await until('it to start', async () => (await chat.text('.answer .markdown')).includes('word3'));
      await page.keyboard.press('Control+k');
      assert.equal(await page.locator('.turn').count(), 0);
      mock.reply = {text: 'Short.'};
      await chat.askAndWait('short one');
      assert.equal(await chat.text('.answer .markdown'), 'Short.');
      await page.getByRole('button', {name: 'long one', exact: true}).click();
      await until('the whole of it', async () => (await chat.text('.answer .markdown')).endsWith('word399'), 20_000);
      await chat.idle();
      assert.match(await chat.text('.answer .stats'), /400 tokens · 96 cached · stop$/);
    },
  },
  {
    name: 'the view sticks to the end unless the reader moved up',
    async run({chat, page, mock}) {
      mock.reply = {text: Array.from({length: 300}, (_, index) => `Paragraph ${index}.\n\n`).join(''), delayMs: 5};
      await chat.ready();
      await chat.ask('go');
      const distance = () => page.$eval('.scroller', (element) => element.scrollHeight - element.clientHeight - element.scrollTop);
      await until('more than a screen', () => page.$eval('.scroller', (element) => element.scrollHeight > element.clientHeight + 400));
      assert.ok(await distance() < 40, 'sticks');
      assert.equal(await page.locator('.latest').count(), 0);
      await page.mouse.move(700, 400);
      await page.mouse.wheel(0, -300);
      await until('the latest button', async () => await page.locator('.latest').count() === 1);
      const top = await page.$eval('.scroller', (element) => element.scrollTop);
      await until('more text', async () => (await distance()) > 500);
      assert.equal(await page.$eval('.scroller', (element) => element.scrollTop), top, 'stays where the reader is');
      await page.click('.latest');
      await until('the end', async () => await distance() < 40);
      assert.equal(await page.locator('.latest').count(), 0);
      await chat.idle();
      assert.ok(await distance() < 40);
    },
  },
];
