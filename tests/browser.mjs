// Tests Swagger UI as a person uses it. Opens /docs/ of a running server in a real browser.
// Authorizes through the dialog and executes every operation, unedited, in the order of the page.
//
//   KEYWARD_URL    the address of the server, as http://127.0.0.1:8080; the server has a `public_url`
//   KEYWARD_KEY    its root key; the browser rotates it, so use a server only for this test
//   SCREENSHOT     the file for a picture of the page (optional)
//   CHROMIUM       the browser (optional; /usr/bin/chromium)
//   NODE_PATH      where puppeteer-core is installed

import { withBrowser } from './console/browser.mjs';

const { KEYWARD_URL: base, KEYWARD_KEY: rootKey, SCREENSHOT: screenshot } = process.env;
if (!base || !rootKey) {
  throw new Error('KEYWARD_URL and KEYWARD_KEY are needed');
}
const origin = new URL(base).origin;

// Operations that change a key or an account are prefilled with an identifier that does not exist. An unedited
// operation must not change the key that the user is logged in with, except the operations on `self`.
const REFUSED = new Map([
  'updateApiKey', 'patchApiKey', 'revokeApiKey', 'rotateApiKey', 'completeRotation',
  'updateAccount', 'patchAccount', 'deleteAccount', 'createConsoleLink',
].map((name) => [name, 404]));
// Operations that the operator's account and its only key refuse.
REFUSED.set('revokeOwnApiKey', 409);
REFUSED.set('deleteOwnAccount', 409);

const faults = [];
const consoleErrors = [];
const wantedRefusals = new Set();
const stopped = new Set(); // Addresses of answers that this script cut off itself.

const apiDocument = await (await fetch(`${origin}/openapi.json`)).json();
const documented = new Map();
const endless = new Set(); // Event streams: such an answer continues until the client stops it.
for (const item of Object.values(apiDocument.paths)) {
  for (const operation of Object.values(item)) {
    if (operation.operationId) {
      documented.set(operation.operationId, Object.keys(operation.responses));
      if (operation.responses['200']?.content?.['text/event-stream']) {
        endless.add(operation.operationId);
      }
    }
  }
}

await withBrowser(async (browser) => {
  const page = await browser.newPage();
  await page.setViewport({ width: 1280, height: 1600 });
  page.setDefaultTimeout(30_000);
  await watch(page);

  await page.goto(`${origin}/docs`, { waitUntil: 'networkidle0' });
  check(page.url() === `${origin}/docs/`, `/docs leads to ${page.url()}`);
  await page.waitForSelector('.opblock');
  const names = await page.$$eval('.opblock', (blocks) => blocks.map((it) => it.id.replace(/^operations-.*-/, '')));
  console.log(`browser: ${names.length} operations are shown`);
  check(20 <= names.length, `only ${names.length} operations are shown`);
  for (const name of documented.keys()) {
    check(names.includes(name), `${name} is documented but not shown`);
  }

  await authorize(page, rootKey);
  const self = await (await fetch(`${origin}/api/v1/api-keys/self`, { headers: { 'X-API-Key': rootKey } })).json();
  const allowed = await fetch(`${origin}/api/v1/accounts/self`, {
    method: 'PATCH',
    headers: { 'X-API-Key': rootKey, 'Content-Type': 'application/json' },
    body: JSON.stringify({ tokenExchange: true }),
  });
  check(allowed.ok, `the exchange of keys for tokens was not allowed: ${allowed.status}`);

  for (const [at, name] of names.entries()) {
    const { status, text } = await execute(page, at, name);
    console.log(`browser: ${status} ${name}`);
    const wanted = REFUSED.get(name);
    check(wanted ? status === wanted : 200 <= status && status < 300, `${name} was answered ${status}: ${text}`);
    const codes = documented.get(name) ?? [];
    const known = codes.includes(String(status)) || codes.includes(`${Math.floor(status / 100)}XX`);
    check(known, `${name} was answered ${status}, which is not documented`);
    const answer = text.startsWith('{') ? JSON.parse(text) : {};
    if (answer.id === self.id && answer.key) {
      await authorize(page, answer.key); // The key was rotated: continue with its new credential.
    }
  }

  const stored = await page.evaluate(() => JSON.stringify({ ...localStorage, ...sessionStorage }) + document.cookie);
  check(!stored.includes('rg_'), 'the browser keeps the key');

  if (screenshot) {
    await page.evaluate(() => window.scrollTo(0, 0));
    await page.screenshot({ path: screenshot });
    console.log(`browser: a picture is at ${screenshot}`);
  }
});

for (const { text, url } of consoleErrors) {
  const wanted = text.startsWith('Failed to load resource') && wantedRefusals.has(url);
  check(wanted, `an error in the console: ${text} (${url})`);
}
if (faults.length) {
  for (const fault of faults) {
    console.error(`browser: ${fault}`);
  }
  console.error(`browser: FAILED with ${faults.length} faults`);
  process.exit(1);
}
console.log('browser: all checks passed');

function check(good, fault) {
  if (!good) {
    faults.push(fault);
  }
}

// The page must send no request to another host. The console must contain no errors, except the expected refusals.
async function watch(page) {
  await page.setRequestInterception(true);
  page.on('request', (request) => {
    const url = new URL(request.url());
    if (url.origin === origin || url.protocol === 'data:') {
      request.continue();
    } else {
      faults.push(`the page asks another host: ${url}`);
      request.abort();
    }
  });
  page.on('requestfailed', (request) => {
    if (!stopped.has(request.url())) {
      faults.push(`no answer to ${request.method()} ${request.url()}`);
    }
  });
  page.on('pageerror', (error) => faults.push(`an error on the page: ${error}`));
  page.on('console', (message) => {
    if (message.type() === 'error') {
      consoleErrors.push({ text: message.text(), url: message.location().url });
    }
  });
}

// Authorizes through the dialog of the button *Authorize*.
async function authorize(page, key) {
  await page.click('.auth-wrapper .btn.authorize');
  await page.waitForSelector('.dialog-ux .auth-container');
  const labels = await page.$eval('.dialog-ux', (it) => it.innerText);
  for (const word of ['X-API-Key', 'initial-root-key', 'keyward root-key reset']) {
    check(labels.includes(word), `the dialog does not name ${word}`);
  }
  const logout = await page.$('.dialog-ux .auth-btn-wrapper button[aria-label="Remove authorization"]');
  if (logout) {
    await logout.click();
  }
  const input = await page.waitForSelector('.dialog-ux .auth-container input');
  await input.type(key);
  await page.click('.dialog-ux .auth-btn-wrapper button[type="submit"]');
  await page.waitForSelector('.dialog-ux .auth-btn-wrapper button[aria-label="Remove authorization"]');
  await page.click('.dialog-ux .btn-done');
  await page.waitForSelector('.dialog-ux', { hidden: true });
}

// Waits until the element stops moving. The mouse would miss an element that moves while the page opens a block.
async function settled(element) {
  await element.evaluate((it) => new Promise((resolve) => {
    let last;
    const look = () => {
      const { top, left } = it.getBoundingClientRect();
      if (last === `${top} ${left}`) {
        resolve();
      } else {
        last = `${top} ${left}`;
        setTimeout(look, 50);
      }
    };
    look();
  }));
}

// Opens the operation, presses *Execute* and reads the shown result.
async function execute(page, at, name) {
  const block = (await page.$$('.opblock'))[at];
  await (await block.$('.opblock-summary-control')).click();
  const button = await block.waitForSelector('.btn.execute'); // *Try it out* is on from the start.
  const answered = page.waitForResponse((it) => it.request().resourceType() === 'fetch');
  await settled(button);
  await button.click();
  const response = await answered;
  if (REFUSED.get(name) === response.status()) {
    wantedRefusals.add(response.url());
  }
  if (endless.has(name)) {
    const type = response.headers()['content-type'];
    check(type === 'text/event-stream', `${name} was answered with ${type}`);
    stopped.add(response.url());
    await page.evaluate(() => window.stop()); // The same as the browser's stop button; the page waits for the end.
    await (await block.$('.opblock-summary-control')).click();
    return { status: response.status(), text: '' };
  }
  const text = await response.text().catch(() => '');
  const shown = await block.waitForSelector('.live-responses-table .response .response-col_status');
  const status = Number.parseInt(await shown.evaluate((it) => it.innerText), 10);
  check(status === response.status(), `${name}: ${status} is shown for ${response.status()}`);
  await (await block.$('.opblock-summary-control')).click();
  return { status, text };
}
