// A connection that breaks, and answers that are lost.

import { until } from './wait.mjs';

// A request is repeated after each of so many pauses.
const PAUSES = 5;

export async function connection(t) {
  const server = await t.server();
  const { key } = await server.createKey('Hedy Lamarr', ['*']);
  const tab = await t.tab(server, hurry);
  await t.step('the banner tells that the server is gone', async () => {
    await tab.signIn(key);
    const refused = tab.watch.expect('ERR_CONNECTION_REFUSED', server.origin);
    await server.stop();
    await tab.click('link', 'Accounts');
    await tab.click('link', 'Keys');
    const banner = await tab.find('alert', /No connection to the server/);
    t.check((await banner.evaluate((it) => it.innerText)).includes('Trying again'), 'the banner does not say what happens next');
    // The page repeats its requests for a while, and then only asks whether the server is there.
    await tab.find('alert', /The connection to the server failed[^]*Try again/);
    t.check(PAUSES < refused.seen, `the page repeated its requests only ${refused.seen} times`);
    await t.inspect(tab, 'lost connection');
  });
  await t.step('the page continues when the server is there again', async () => {
    await server.startAgain();
    await until('the banner is gone', async () => !await tab.has('alert', /No connection/));
    await tab.row('Hedy Lamarr'); // The list is loaded again.
    await tab.gone(/The connection to the server failed/);
    await server.createKey('Made after the restart', ['orders:read']);
    await tab.click('link', 'Unused');
    await tab.click('link', 'Keys');
    await tab.row('Made after the restart');
  });
  await lostAnswer(t, server, tab, {
    title: 'create a key whose answer is lost',
    path: '/api/v1/api-keys',
    open: async () => {
      await tab.click('button', 'Create key');
      await tab.fill('textbox', 'Name', 'Made only once');
      await tab.click('checkbox', /^read\s+Read order data$/);
    },
    button: 'Create key',
  });
  const { data: [made] } = await server.done('GET', 'api-keys?q=Made%20only%20once');
  await lostAnswer(t, server, tab, {
    title: 'rotate a key whose answer is lost',
    path: `/api/v1/api-keys/${made.id}/rotate`,
    open: () => tab.act('Made only once', 'Rotate'),
    button: 'Rotate',
  });
  await t.step('the server did each of both once', async () => {
    const { data } = await server.done('GET', 'api-keys?q=Made%20only%20once');
    t.check(data.length === 1, `the server has ${data.length} keys`);
    t.check(data[0].previousKeys.length === 1, `the key was rotated ${data[0].previousKeys.length} times`);
  });
}

// Shortens the pauses of the page.
const hurry = (page) => page.evaluateOnNewDocument((factor) => {
  const start = setTimeout;
  window.setTimeout = (action, millis, ...rest) => start(action, millis / factor, ...rest);
}, 20);

// Sends the request of the page itself, and lets the page see only a broken connection.
async function lostAnswer(t, server, tab, { title, path, open, button }) {
  await t.step(title, async () => {
    const sent = [];
    const meddle = async (request) => {
      const { pathname } = new URL(request.url());
      if (request.method() !== 'POST' || pathname !== path) {
        return request.continue();
      }
      sent.push(request.headers()['idempotency-key']);
      if (1 < sent.length) {
        return request.continue();
      }
      const answer = await fetch(request.url(), { method: 'POST', headers: request.headers(), body: request.postData() });
      t.check(answer.ok, `the request was answered ${answer.status}`);
      return request.abort('connectionreset');
    };
    await open();
    tab.watch.expect('ERR_CONNECTION_RESET', path);
    await tab.page.setRequestInterception(true);
    tab.page.on('request', meddle);
    await tab.click('button', button);
    await tab.heading('Store the key now');
    tab.page.off('request', meddle);
    await tab.page.setRequestInterception(false);
    t.check(sent.length === 2, `the page sent the request ${sent.length} times`);
    t.check(Boolean(sent[0]) && sent.every((it) => it === sent[0]), `the requests have the Idempotency-Keys ${sent}`);
    await tab.click('button', 'Copy key');
    await tab.see('Copied ✓');
    t.check(await server.verify(await tab.clipboard()) === 'VALID', 'the shown key is not valid');
    await tab.click('checkbox', 'I have stored the key');
    await tab.click('button', 'Close');
    await tab.noDialog();
  });
}
