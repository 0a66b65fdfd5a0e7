// The console link: a customer manages the keys of its account, without a key of its own before.

import { until } from './wait.mjs';

export async function link(t) {
  const server = await t.server();
  const account = await server.done('POST', 'accounts', { name: 'Initech', externalId: 'cust_42' });
  const operator = await t.tab(server);
  let url;
  await t.step('the operator makes a link', async () => {
    await operator.signIn((await server.createKey('Ada Lovelace', ['*'])).key);
    await operator.goto(`#/accounts/${account.id}`);
    await operator.click('button', 'Console link…');
    await operator.heading('Console link for Initech');
    await t.inspect(operator, 'console link');
    const standard = await operator.find('radio', 'Default of the server');
    t.check(await standard.evaluate((it) => it.checked), 'the default of the server is not preselected');
    await operator.fill('textbox', 'Name of the person', 'Peter Gibbons');
    await operator.click('button', 'Make the link');
    await operator.heading('Send the link now');
    await t.inspect(operator, 'console link, made');
    await operator.click('button', 'Copy link');
    await operator.see('Copied ✓');
    url = new URL(await operator.clipboard());
    await operator.click('checkbox', 'I have copied the link');
    await operator.click('button', 'Close');
    await operator.noDialog();
    const key = url.hash.slice('#key='.length);
    await until('the link is gone from the page', async () => !(await operator.traces()).includes(key));
    t.check(url.origin === server.origin && url.pathname === '/console/' && key.startsWith('rg_'), `the link is ${url.origin}${url.pathname}`);
  });

  const customer = await t.tab(server);
  await t.step('the customer opens the link', async () => {
    await customer.page.goto(url.href);
    await customer.heading('Keys');
    await customer.see(/Peter Gibbons\s+Initech/);
    await customer.see(/opened by a link, which works once\. It ends in 1[45]:[0-5][0-9]/);
    await customer.find('switch', 'Keep it in this tab over a reload');
    const key = url.hash.slice('#key='.length);
    t.check(!(await customer.traces()).includes(key), 'the key of the link is in the page');
    t.check(!customer.page.url().includes('key='), 'the address contains the key');
    const inspector = await customer.page.createCDPSession();
    const { entries } = await inspector.send('Page.getNavigationHistory');
    const kept = entries.filter((it) => it.url.includes(key));
    t.check(kept.length === 0, `the history contains the key ${kept.length} times`);
    t.check(await server.verify(key) === 'ROTATED', `the key of the link is still ${await server.verify(key)}`);
    for (const view of ['Accounts']) {
      t.check(!await customer.has('link', view), `the customer sees ${view}`);
    }
    await t.inspect(customer, 'keys of a customer');
  });

  await t.step('the link works once', async () => {
    const thief = await t.tab(server);
    thief.watch.expect(401, '/api/v1/api-keys/self');
    await thief.page.goto(url.href);
    await thief.see(/This link works only once and for a short time\..*Ask for a new link\./);
    t.check(!(await thief.text()).includes('keyward keys create'), 'a customer gets the hint for operators');
    t.check(!thief.page.url().includes('key='), 'the address contains the key of a used link');
    await t.inspect(thief, 'used link');
    await customer.page.bringToFront();
    customer.watch.expect(401, '/api/v1/api-keys/self');
    await customer.page.evaluate((hash) => { location.hash = hash; }, url.hash);
    await customer.see('This link works only once');
    await customer.see(/Peter Gibbons\s+Initech/); // A used link does not end the session.
    await customer.click('button', 'Close');
    await customer.gone(/This link works only once/);
    await customer.click('link', 'Unused');
    await customer.heading('Unused');
    await customer.click('link', 'Keys');
  });

  await t.step('another key in the address is not rotated', async () => {
    const ordinary = await server.createKey('No link', ['api-keys:read']);
    const other = await t.tab(server);
    await other.goto(`#key=${ordinary.key}`);
    await other.see('This is no console link.');
    t.check(await server.verify(ordinary.key) === 'VALID', 'the page rotated a key that is no link');
    await customer.page.bringToFront();
  });

  await t.step('a link that is opened in a session begins another one', async () => {
    const second = await server.done('POST', `accounts/${account.id}/console-links`, { name: 'Milton Waddams' });
    const tab = await t.tab(server);
    await tab.signIn((await server.createKey('Bill Lumbergh', ['*'])).key);
    await tab.click('button', 'Create key');
    await tab.heading('Create key');
    await tab.page.evaluate((hash) => { location.hash = hash; }, new URL(second.url).hash);
    await tab.noDialog();
    await tab.see(/Milton Waddams\s+Initech/);
    await tab.gone(/Bill Lumbergh/);
    t.check(!await tab.has('link', 'Accounts'), 'the page keeps a part of the session before');
    await customer.page.bringToFront();
  });

  await manage(t, customer, server);

  await t.step('the end of the link ends the session', async () => {
    const { data } = await server.done('GET', `api-keys?account=${account.id}&q=Peter`);
    t.demand(data.length === 1, `the account has ${data.length} keys of the link`);
    await server.done('DELETE', `api-keys/${data[0].id}`);
    customer.watch.expect(401, '/api/v1/');
    await customer.click('link', 'Unused');
    await customer.heading('keyward console');
    await customer.see(/revoked/i);
    await t.inspect(customer, 'ended link');
  });
}

async function manage(t, tab, server) {
  let first;
  await t.step('the customer creates a key', async () => {
    await tab.click('button', 'Create key');
    await tab.fill('textbox', 'Name', 'TPS reports');
    await tab.click('button', 'Read only of all resources');
    await tab.click('button', 'Create key');
    first = await store(tab);
    t.check(await server.verify(first) === 'VALID', 'the new key does not work');
  });
  await t.step('the customer rotates the key', async () => {
    await tab.act('TPS reports', 'Rotate');
    await tab.heading('Rotate TPS reports');
    await tab.click('radio', 'Now');
    await tab.click('button', 'Rotate');
    const second = await store(tab);
    t.check(await server.verify(first) === 'ROTATED', 'the old credential works after a rotation without grace');
    t.check(await server.verify(second) === 'VALID', 'the new credential does not work');
    first = second;
  });
  await t.step('the customer revokes the key', async () => {
    await tab.act('TPS reports', 'Revoke');
    await tab.fill('textbox', 'Type TPS reports to confirm', 'TPS reports');
    await tab.click('button', 'Revoke key');
    await tab.noDialog();
    await until('the row is gone', async () => (await tab.rows()).every((it) => it[0] !== 'TPS reports'));
    t.check(await server.verify(first) === 'REVOKED', 'the revoked key works');
  });
}

async function store(tab) {
  await tab.heading('Store the key now');
  await tab.click('button', 'Copy key');
  await tab.see('Copied ✓');
  const key = await tab.clipboard();
  await tab.click('checkbox', 'I have stored the key');
  await tab.click('button', 'Close');
  await tab.noDialog();
  return key;
}
