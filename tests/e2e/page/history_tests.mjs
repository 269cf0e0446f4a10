// Conversations: kept, found, renamed, deleted, carried from one browser to another.
import assert from 'node:assert/strict';
import {readFile} from 'node:fs/promises';
import {until} from './harness.mjs';

const titles = (page) => page.locator('.entry-title').allInnerTexts();

async function threeConversations(chat) {
  await chat.ready();
  for (const text of ['Apples', 'Bears', 'Cellos']) {
    await chat.page.keyboard.press('Control+k');
    await chat.askAndWait(text);
  }
}

export const historyTests = [
  {
    name: 'a reload keeps conversations and opens the one in the address',
    async run({chat, page}) {
      await threeConversations(chat);
      assert.deepEqual(await titles(page), ['Cellos', 'Bears', 'Apples']);
      await page.getByRole('button', {name: 'Bears', exact: true}).click();
      await until('the conversation', async () => (await chat.text('.bubble')) === 'Bears');
      await page.reload();
      await until('the list', async () => (await titles(page)).length === 3);
      await until('the same conversation', async () => (await chat.text('.bubble')) === 'Bears');
      assert.equal(await chat.text('.answer .markdown'), 'Hello there.');
      assert.match(await chat.text('.answer .stats'), /96 cached · stop$/);
      await page.goBack();
      await until('back to the one before', async () => (await chat.text('.bubble')) === 'Cellos');
    },
  },
  {
    name: 'a page closed in the middle of an answer keeps what had come',
    async run({chat, page, mock}) {
      mock.reply = {text: Array.from({length: 900}, (_, index) => `w${index}`).join(' '), delayMs: 10};
      await chat.ready();
      await chat.ask('go');
      await until('a stored part', async () => ((await chat.stored())[0]?.messages[1]?.content ?? '').includes('w50'));
      await page.reload();
      await until('the part', async () => (await chat.text('.answer .markdown')).startsWith('w0 w1'));
      assert.match(await chat.text('.answer .outcome'), /closed before/);
      await until('the server to see it', () => mock.aborted === 1);
    },
  },
  {
    name: 'rename by button and by double click',
    async run({chat, page}) {
      await threeConversations(chat);
      await page.getByRole('button', {name: 'Bears', exact: true}).hover();
      await chat.button('Rename Bears').click();
      await page.getByLabel('Title').fill('Brown bears');
      await page.keyboard.press('Enter');
      await until('the new title', async () => (await titles(page)).includes('Brown bears'));
      await page.getByRole('button', {name: 'Apples', exact: true}).dblclick();
      await page.getByLabel('Title').fill('Pears');
      await page.keyboard.press('Escape');
      await page.reload();
      await until('the titles', async () => (await titles(page)).sort().join() === 'Apples,Brown bears,Cellos');
    },
  },
  {
    name: 'delete one, undo, delete again',
    async run({chat, page}) {
      await threeConversations(chat);
      await page.getByRole('button', {name: 'Bears', exact: true}).hover();
      await chat.button('Delete Bears').click();
      assert.deepEqual(await titles(page), ['Cellos', 'Apples']);
      await chat.button('Undo').click();
      await until('it back', async () => (await titles(page)).join() === 'Cellos,Bears,Apples');
      await page.getByRole('button', {name: 'Bears', exact: true}).hover();
      await chat.button('Delete Bears').click();
      await until('it gone from storage', async () => (await chat.stored()).length === 2);
    },
  },
  {
    name: 'search finds titles and texts',
    async run({chat, page, mock}) {
      mock.reply = (body) => ({text: body.messages[0].content === 'Bears' ? 'They like honey.' : 'Nothing.'});
      await threeConversations(chat);
      await page.locator('.top-bar').click();
      await page.keyboard.press('/');
      await page.keyboard.type('cell');
      await until('one title', async () => (await titles(page)).join() === 'Cellos');
      await page.fill('#search', 'HONEY');
      await until('one text', async () => (await titles(page)).join() === 'Bears');
      await page.fill('#search', 'zebra');
      await until('nothing', async () => (await chat.text('.rail-list')) === 'Nothing found');
      await page.fill('#search', '');
      await until('all', async () => (await titles(page)).length === 3);
    },
  },
  {
    name: 'conversations stand below their day',
    async run({chat, page}) {
      await threeConversations(chat);
      await page.evaluate(() => new Promise((resolve) => {
        const request = indexedDB.open('donar', 1);
        request.onsuccess = () => {
          const store = request.result.transaction('heads', 'readwrite').objectStore('heads');
          store.getAll().onsuccess = (event) => {
            const day = new Date();
            for (const head of event.target.result) {
              if (head.title === 'Apples') store.put({...head, updated: day.setDate(day.getDate() - 1)});
            }
            store.transaction.oncomplete = resolve;
          };
        };
      }));
      await page.reload();
      await until('two days', async () => (await page.locator('.rail-list h2').allInnerTexts()).join() === 'Today,Yesterday');
    },
  },
  {
    name: 'export, delete all, import brings everything back',
    async run({chat, page}) {
      await threeConversations(chat);
      const before = await chat.stored();
      const download = page.waitForEvent('download');
      await chat.button('Export conversations').click();
      const file = await (await download).path();
      assert.match((await download).suggestedFilename(), /^donar-conversations-\d{4}-\d\d-\d\d\.json$/);
      assert.equal(JSON.parse(await readFile(file, 'utf8')).conversations.length, 3);

      await chat.button('Delete all conversations').click();
      await chat.button('Cancel').click();
      assert.equal((await titles(page)).length, 3);
      await chat.button('Delete all conversations').click();
      await chat.button('Delete all').click();
      await until('an empty list', async () => (await titles(page)).length === 0 && (await chat.stored()).length === 0);
      assert.equal(await page.locator('.turn').count(), 0);

      await page.setInputFiles('input[type=file]', file);
      await until('all back', async () => (await titles(page)).join() === 'Cellos,Bears,Apples');
      assert.deepEqual(await chat.stored(), before);
      await page.setInputFiles('input[type=file]', file);
      await until('no doubles', async () => (await chat.text('.toast')).includes('3 here already'));
      assert.equal((await titles(page)).length, 3);
    },
  },
  {
    name: 'a file that is no export is refused with the reason',
    async run({chat, page}) {
      await chat.ready();
      for (const [content, reason] of [
        ['{', 'not JSON'], ['{"a":1}', 'not exported by Donar'],
        ['{"format":"donar-conversations","version":1,"conversations":[{"id":"x","messages":[{"id":"m"}]}]}', 'conversation 1, message 1'],
      ]) {
        await page.setInputFiles('input[type=file]', {name: 'x.json', mimeType: 'application/json', buffer: Buffer.from(content)});
        await until(reason, async () => (await chat.text('.toast')).includes(reason));
      }
      assert.equal((await titles(page)).length, 0);
    },
  },
  {
    name: 'a second tab sees what the first one does',
    async run({chat, page, context}) {
      await chat.ready();
      await chat.askAndWait('Apples');
      const second = await context.newPage();
      await second.goto(page.url());
      await until('the conversation there', async () => await second.locator('.answer').count() === 1);
      await chat.askAndWait('Pears');
      await until('the new turn there', async () => await second.locator('.answer').count() === 2);
    },
  },
];
