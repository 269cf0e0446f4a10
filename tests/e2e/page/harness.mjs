// Browser, pages and waiting for the page tests. Every page starts with empty storage, and a test fails on anything the
// browser complains about: script errors, broken policy, a call to another host.
import {existsSync} from 'node:fs';
import {createRequire} from 'node:module';
import {fileURLToPath} from 'node:url';

const kWeb = fileURLToPath(new URL('../../../web/package.json', import.meta.url));
const kFlags = [
  '--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
  '--disable-component-update', '--disable-sync',
];
const kWaitMs = 30_000;

export async function launch() {
  let chromium;
  try {
    ({chromium} = createRequire(kWeb)('playwright-core'));
  } catch {
    throw new Error('playwright-core is missing: run "npm ci" in web/');
  }
  const executablePath = process.env.CHROMIUM ?? '/usr/bin/chromium';
  if (!existsSync(executablePath)) throw new Error(`${executablePath} is missing: apt-get install chromium, or set CHROMIUM`);
  return chromium.launch({executablePath, args: kFlags, timeout: 60_000});
}

export async function until(what, condition, waitMs = kWaitMs) {
  const end = Date.now() + waitMs;
  let last;
  for (;;) {
    try {
      last = await condition();
      if (last) return last;
    } catch (error) {
      last = error;
    }
    if (Date.now() > end) throw new Error(`waited ${waitMs / 1000} s for ${what}; last: ${last instanceof Error ? last.message : JSON.stringify(last)}`);
    await new Promise((resolve) => setTimeout(resolve, 25));
  }
}

// A page with the steps that many tests share.
export class Chat {
  constructor(page, url) {
    this.page = page;
    this.url = url;
    this.complaints = [];
    page.on('pageerror', (error) => this.complaints.push(`script error: ${error.message}`));
    page.on('console', (message) => {
      // The browser notes every refused connection and 4xx by itself: tests cause those on purpose.
      if (message.type() === 'error' && !message.text().startsWith('Failed to load resource')) this.complaints.push(message.text());
    });
    page.on('request', (request) => {
      const host = new URL(request.url());
      if (/^https?:$/.test(host.protocol) && host.origin !== new URL(url).origin) this.complaints.push(`called ${request.url()}`);
    });
  }

  async open(hash = '') {
    await this.page.goto(this.url + hash);
    await this.page.waitForSelector('#composer');
  }

  async ready() {
    await this.open();
    await this.page.waitForSelector('.health.ready');
  }

  async ask(text) {
    await this.page.fill('#composer', text);
    await this.page.press('#composer', 'Enter');
  }

  async askAndWait(text) {
    const before = await this.page.locator('.answer').count();
    await this.ask(text);
    await until('the answer to start', async () => await this.page.locator('.answer').count() > before);
    await this.idle();
  }

  async idle(waitMs) {
    await until('the answer to end', async () => await this.page.locator('.send.stop').count() === 0, waitMs);
  }

  answer(index = -1) {
    const all = this.page.locator('.answer');
    return index < 0 ? all.last() : all.nth(index);
  }

  async text(selector) {
    return (await this.page.locator(selector).last().innerText()).trim();
  }

  button(name) {
    return this.page.getByRole('button', {name, exact: true});
  }

  // What IndexedDB holds, as the page will find it after a reload.
  async stored() {
    return this.page.evaluate(() => new Promise((resolve, reject) => {
      const request = indexedDB.open('donar', 1);
      request.onerror = () => reject(request.error);
      request.onsuccess = () => {
        const all = request.result.transaction('bodies').objectStore('bodies').getAll();
        all.onsuccess = () => {
          request.result.close();
          resolve(all.result);
        };
      };
    }));
  }
}
