// The session: where the key is kept, and when it is forgotten.

import { isInMemory } from './heap.mjs';
import { until } from './wait.mjs';

const MINUTE = 60_000;
const REMEMBER = 'Keep the key in this tab over a reload';

export async function session(t) {
  const server = await t.server();
  const tab = await t.tab(server, addClock);
  const { key } = await server.createKey('Grace Hopper', ['*']);

  await t.step('a wrong key is refused', async () => {
    tab.watch.expect(401, '/api/v1/');
    await tab.goto();
    await tab.fill('textbox', 'API key', 'rg_wrong');
    await tab.click('button', 'Open');
    await tab.see(/Request \w+/);
    await t.inspect(tab, 'refused sign-in');
  });

  await t.step('a reload asks for the key again', async () => {
    await tab.signIn(key);
    await isKept(t, tab, false);
    await tab.page.reload();
    await tab.heading('keyward console');
  });

  await t.step('on request, the tab keeps the key over a reload', async () => {
    await tab.enter(key, { keep: true });
    await isKept(t, tab, true);
    await tab.page.reload();
    await tab.heading('Keys');
    await openOwner(tab);
    await t.inspect(tab, 'owner');
    await tab.click('switch', REMEMBER);
    await isKept(t, tab, false);
    await tab.click('switch', REMEMBER);
    await isKept(t, tab, true);
  });

  await t.step('14 minutes without input do not end the session, 15 do', async () => {
    await tab.page.keyboard.press('Shift');
    await passTime(tab, 14 * MINUTE);
    await tab.heading('Keys');
    await passTime(tab, MINUTE);
    await isForgotten(t, tab, key, 'The key was forgotten after 15 minutes without input');
    await t.inspect(tab, 'sign-in after the end of the session');
  });

  await t.step('input extends the session', async () => {
    await tab.enter(key);
    await passTime(tab, 14 * MINUTE);
    await tab.page.keyboard.press('Shift');
    await passTime(tab, 14 * MINUTE);
    await tab.heading('Keys');
    await passTime(tab, MINUTE);
    await isForgotten(t, tab, key, 'The key was forgotten after 15 minutes without input');
  });

  await t.step('a kept key is forgotten, too', async () => {
    await tab.enter(key, { keep: true });
    await passTime(tab, 15 * MINUTE, { now: false }); // The browser discarded the tab.
    await tab.page.reload();
    await isForgotten(t, tab, key, 'The key was forgotten after 15 minutes without input');
  });

  await t.step('Forget the key', async () => {
    await tab.enter(key, { keep: true });
    await tab.click('link', 'Grace Hopper');
    await tab.heading('Grace Hopper');
    await openOwner(tab);
    await tab.page.keyboard.press('Escape');
    await tab.gone(/Forget the key/);
    await openOwner(tab);
    await tab.click('heading', 'Grace Hopper');
    await tab.gone(/Forget the key/);
    await openOwner(tab);
    await tab.click('button', 'Forget the key');
    await isForgotten(t, tab, key, 'keyward console');
    const [address, title] = await tab.page.evaluate(() => [location.hash, document.title]);
    t.check(address === '' && title === 'keyward', `after the end of the session, the address ends in ${address}, and the title is ${title}`);
    await until('the key is gone from the memory', async () => !await isInMemory(tab, key));
  });

  await t.step('a key that was typed and not used is forgotten', async () => {
    await tab.fill('textbox', 'API key', 'rg_typed');
    await passTime(tab, 15 * MINUTE);
    const field = await tab.find('textbox', 'API key');
    await until('the field is empty', async () => await field.evaluate((it) => it.value) === '');
  });

  await t.step('a crafted fragment neither breaks the page nor changes a request', async () => {
    await tab.enter(key);
    tab.watch.expect(422, '/api/v1/events?type=toString'); // The server knows no such type.
    const asked = [];
    tab.page.on('request', (request) => asked.push(request.url()));
    const crafted = ['#/keys/..%2faccounts%2fself', '#/keys/%', '#/constructor', '#/keys?account=..%2f..%2fx', '#/audit?type=toString&since=2026-99-99&until=x'];
    for (const fragment of crafted) {
      await tab.goto(fragment);
      await tab.heading(fragment.includes('audit') ? 'Audit log' : 'Keys');
    }
    t.check(asked.every((it) => !/%2f|\.\.|99/i.test(new URL(it).pathname + new URL(it).search)), `the page asked for ${asked}`);
    await tab.goto('#/keys');
  });

  await t.step('the end of the key ends the session, with the detail of the server', async () => {
    const brief = await server.createKey('Brief', ['api-keys:read']);
    await openOwner(tab);
    await tab.click('button', 'Forget the key');
    await tab.enter(brief.key, { keep: true });
    await server.done('DELETE', `api-keys/${brief.id}`);
    const { body } = await server.call('GET', 'api-keys/self', undefined, brief.key);
    await tab.click('link', 'Unused');
    await isForgotten(t, tab, brief.key, new RegExp(body.detail.slice(1), 'i'));
  });
}

// Puts a clock in front of the browser's. It also collects the timers that repeat, so that the test
// can run them at once.
async function addClock(page) {
  await page.evaluateOnNewDocument(() => {
    const [now, start, stop] = [Date.now, setInterval, clearInterval];
    const timers = new Map();
    Date.now = () => now() + (window.ahead ?? 0);
    window.setInterval = (action, ...rest) => {
      const id = start(action, ...rest);
      timers.set(id, action);
      return id;
    };
    window.clearInterval = (id) => {
      timers.delete(id);
      stop(id);
    };
    window.runTimers = () => [...timers.values()].forEach((it) => it());
  });
  page.ahead = 0;
}

// Lets time pass, also for the documents that the tab opens later.
async function passTime({ page }, millis, { now = true } = {}) {
  page.ahead += millis;
  const set = (ahead) => {
    window.ahead = ahead;
  };
  await page.evaluateOnNewDocument(set, page.ahead);
  if (now) {
    await page.evaluate(set, page.ahead);
    await page.evaluate(() => window.runTimers());
  }
}

const openOwner = (tab) => tab.click('DisclosureTriangle', /Grace Hopper/);

async function isKept(t, tab, wanted) {
  const { session, local, cookie } = JSON.parse(await tab.traces());
  const kept = Object.keys(session).sort();
  t.check(JSON.stringify(kept) === JSON.stringify(wanted ? ['keyward.key', 'keyward.lastInput'] : []), `the tab keeps ${kept}`);
  t.check(Object.keys(local).length === 0 && cookie === '', `the browser keeps ${JSON.stringify(local)} ${cookie}`);
}

async function isForgotten(t, tab, key, message) {
  await tab.see(message);
  await tab.heading('keyward console');
  await until('the key is forgotten', async () => !(await tab.traces()).includes(key));
  await isKept(t, tab, false);
}
