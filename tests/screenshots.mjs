// Makes the pictures of the console for the README.
//
//   node tests/screenshots.mjs [FOLDER]
//
//   FOLDER           where the pictures go (optional; docs)
//   KEYWARD_BINARY   the keyward binary
//   CHROMIUM         the browser (optional; /usr/bin/chromium)
//   NODE_PATH        where puppeteer-core and axe-core are installed

import { mkdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { withBrowser } from './console/browser.mjs';
import { schemeOf } from './console/looks.mjs';
import { age, fill } from './console/sample.mjs';
import { Story } from './console/story.mjs';

const MOST_BYTES = 150_000;
const MARGIN = 16;
const DESK = { width: 1280, height: 800 };
const NARROW = { width: 380, height: 800 };

const { KEYWARD_BINARY: binary } = process.env;
if (!binary) {
  throw new Error('KEYWARD_BINARY is needed');
}
const folder = process.argv[2] ?? 'docs';
mkdirSync(folder, { recursive: true });

const faults = [];
await withBrowser(async (browser) => {
  const story = new Story('pictures', browser, binary);
  await story.run(pictures);
  faults.push(...story.faults);
});
if (faults.length) {
  console.error(`pictures: FAILED: ${faults.join('\n')}`);
  process.exit(1);
}

async function pictures(t) {
  const server = await t.server();
  const { key } = await fill(server);
  const tab = await t.tab(server, age);
  const take = async (name, scheme = 'light', viewport = DESK) => {
    await tab.page.emulateMediaFeatures(schemeOf(scheme));
    await tab.page.setViewport(viewport);
    await tab.page.evaluate(() => {
      document.activeElement?.blur();
      scrollTo(0, 0);
    });
    await tab.page.mouse.move(0, 0);
    const file = join(folder, `console-${name}.png`);
    const dialog = await tab.page.$('dialog[open] > article');
    await tab.page.screenshot({ path: file, ...(dialog && { clip: await around(dialog) }) });
    const { size } = statSync(file);
    t.check(size < MOST_BYTES, `${file} has ${size} bytes`);
    console.log(`pictures: ${file}, ${Math.round(size / 1000)} kB`);
    await tab.page.setViewport(DESK);
  };
  await t.step('the table of keys', async () => {
    await tab.signIn(key);
    await tab.see('11 keys');
    await take('keys');
    await take('keys-dark', 'dark');
    await take('narrow', 'light', NARROW);
  });
  await t.step('a new key', async () => {
    await tab.click('button', 'Create key');
    await tab.fill('textbox', 'Name', 'Returns desk');
    await tab.click('button', 'Read only of all resources');
    await take('create', 'light', { width: 1280, height: 1300 });
    await tab.click('button', 'Create key');
    await tab.heading('Store the key now');
    await take('reveal-dark', 'dark');
    await tab.click('checkbox', 'I have stored the key');
    await tab.click('button', 'Close');
  });
  await t.step('a key in rotation', async () => {
    await tab.click('link', 'Invoice export');
    await tab.see('All callers have moved');
    await tab.see('Numbers by day');
    await take('key', 'light', { width: 1280, height: 1100 });
    await take('key-dark', 'dark', { width: 1280, height: 1100 });
  });
  await t.step('the audit log', async () => {
    await tab.click('link', 'Audit log');
    await tab.see('of the chain checked');
    await take('audit');
    await take('audit-dark', 'dark');
  });
}

// The page behind a dialog is blurred, and would make the file large.
async function around(element) {
  const { x, y, width, height } = await element.boundingBox();
  return { x: x - MARGIN, y: Math.max(0, y - MARGIN), width: width + 2 * MARGIN, height: height + 2 * MARGIN };
}
