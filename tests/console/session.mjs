// The session: where the key is kept, and when it is forgotten.

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
    await openOwner(tab);
    await tab.click('button', 'Forget the key');
    await isForgotten(t, tab, key, 'keyward console');
  });

  await t.step('the end of the key ends the session, with the detail of the server', async () => {
    const brief = await server.createKey('Brief', ['api-keys:read']);
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
