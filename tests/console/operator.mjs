// The operator: accounts of customers, their keys, and keys that are not used.

import { until } from './wait.mjs';

const NAME = 'Initech GmbH';

export async function operator(t) {
  const server = await t.server();
  const globex = await server.done('POST', 'accounts', { name: 'Globex', externalId: 'cust_43' });
  const tab = await t.tab(server);
  await t.step('the root key leads to a key of one\'s own', async () => {
    await tab.signIn(server.rootKey);
    await tab.see('You use the root key.');
    await t.inspect(tab, 'hint to a key of one\'s own');
  });
  const person = await server.createKey('Margaret Hamilton', ['*']);
  await t.step('sign in with a key of one\'s own', async () => {
    await tab.page.reload();
    await tab.enter(person.key);
    await tab.see('Margaret Hamilton');
    t.check(!(await tab.text()).includes('You use the root key'), 'a key of a person gets the hint');
  });
  await t.step('create an account', async () => {
    await tab.click('link', 'Accounts');
    await tab.heading('Accounts');
    await t.inspect(tab, 'accounts');
    await tab.click('button', 'Create account');
    await tab.heading('Create account');
    await tab.fill('textbox', 'Name', NAME);
    await tab.fill('textbox', 'External id', 'cust_42');
    await tab.click('DisclosureTriangle', /More settings/);
    await tab.fill('spinbutton', 'Key limit', '25');
    await t.inspect(tab, 'create account');
    await tab.click('button', 'Create account');
  });
  const customer = await storeFirstKey(t, tab);
  const { data: [initech] } = await server.done('GET', 'accounts?q=cust_42');
  await t.step('search the accounts', async () => {
    await tab.heading(NAME);
    await tab.see(/Key limit\s+25/);
    await t.inspect(tab, 'account');
    await tab.click('link', '← Accounts');
    await tab.fill('searchbox', 'Search accounts', 'initech g');
    await until('only the account is listed', async () => {
      const rows = await tab.rows();
      return rows.length === 1 && rows[0][0] === NAME;
    });
    await tab.fill('searchbox', 'Search accounts', 'no such account');
    await tab.heading('No account matches');
    await tab.fill('searchbox', 'Search accounts', 'initech g');
    await tab.click('link', NAME);
  });
  await actInside(t, tab, initech);
  await t.step('suspend the account and activate it again', async () => {
    t.check(await server.verify(customer) === 'VALID', 'the key of the account does not work');
    await tab.click('link', 'Accounts');
    await tab.click('link', NAME);
    await tab.click('button', 'Suspend…');
    await tab.see(/The account has 2 keys\. Each of them is refused at once/);
    await t.inspect(tab, 'suspend');
    await tab.click('button', 'Suspend and stop 2 keys');
    await tab.noDialog();
    await tab.see('Suspended');
    t.check(await server.verify(customer) === 'ACCOUNT_SUSPENDED', `the key of the suspended account is ${await server.verify(customer)}`);
    await tab.click('button', 'Activate…');
    await tab.click('button', 'Activate');
    await tab.noDialog();
    t.check(await server.verify(customer) === 'VALID', 'the key of the account does not work again');
  });
  await unused(t, tab);
  await t.step('the audit log shows who did it, in the account', async () => {
    await tab.goto(`#/audit?account=${initech.id}`);
    await tab.see(/Account changed[^]*suspended[^]*Margaret Hamilton/);
    t.check(!(await tab.text()).includes('Globex'), 'the log of an account shows another one');
  });
  t.demand(globex.id !== initech.id, 'there is only one account');
}

async function storeFirstKey(t, tab) {
  let key;
  await t.step('store the first key of the account', async () => {
    await tab.heading('Store the key now');
    await t.inspect(tab, 'first key of an account');
    await tab.click('button', 'Copy key');
    await tab.see('Copied ✓');
    key = await tab.clipboard();
    await tab.click('checkbox', 'I have stored the key');
    await tab.click('button', 'Close');
    await tab.noDialog();
    await until('the key is gone from the page', async () => !(await tab.traces()).includes(key));
  });
  return key;
}

async function actInside(t, tab, account) {
  await t.step('act inside the account, and return', async () => {
    await tab.click('button', 'Open its keys');
    await tab.heading('Keys');
    await tab.see(`You act in the account ${NAME}`);
    t.check((await tab.rows()).length === 1, `the account has the keys ${await tab.rows()}`);
    await tab.click('button', 'Create key');
    await tab.fill('textbox', 'Name', 'Made by the operator');
    await tab.click('button', 'Read only of all resources');
    t.check(!await tab.has('checkbox', /^\*/), 'an account is offered a root key');
    await tab.click('button', 'Create key');
    await tab.heading('Store the key now');
    await tab.click('checkbox', 'I have stored the key');
    await tab.click('button', 'Close');
    const row = await tab.row('Made by the operator');
    t.check(Boolean(row), 'the key is not in the account');
    await t.inspect(tab, 'keys of an account');
    const { data } = await tab.server.done('GET', `api-keys?account=${account.id}`);
    t.check(data.length === 2, `the account has ${data.length} keys`);
    await tab.click('link', 'Back to your account');
    await until('the own keys are listed', async () => (await tab.rows()).some((it) => it[0] === 'Margaret Hamilton'));
    await tab.choose('Account', 'all');
    await tab.see('You see all accounts');
    await until('the keys of all accounts are listed', async () => {
      const names = (await tab.rows()).map((it) => it[0].split('\n')[0]);
      return names.includes('Margaret Hamilton') && names.includes('Made by the operator');
    });
    await t.inspect(tab, 'keys of all accounts');
    await tab.click('link', 'Back to your account');
  });
}

async function unused(t, tab) {
  const days = 100;
  await t.step('revoke several unused keys', async () => {
    const keys = [];
    for (const name of ['Old cron job', 'Old report', 'Old trial']) {
      keys.push(await tab.server.createKey(name, ['orders:read']));
    }
    await tab.page.evaluateOnNewDocument((ahead) => { // Keys of today are not unused yet.
      const now = Date.now;
      Date.now = () => now() + ahead;
    }, days * 86_400_000);
    await tab.page.reload();
    await tab.enter((await tab.server.createKey('Grace Hopper', ['*'])).key);
    await tab.click('link', 'Unused');
    await tab.heading('Unused');
    await until('the unused keys are listed', async () => (await tab.all('checkbox', /^Select Old/)).length === 3);
    const own = await tab.find('checkbox', 'Select Grace Hopper');
    t.check(await own.evaluate((it) => it.disabled), 'the key of the session can be chosen');
    await tab.see(/Grace Hopper\s*This page uses the key\./);
    const button = await tab.find('button', 'Revoke selected…');
    t.check(await button.evaluate((it) => it.disabled), 'nothing is chosen, but it can be revoked');
    await tab.click('checkbox', 'Select Old cron job');
    await tab.click('checkbox', 'Select Old trial');
    await tab.see('2 keys selected');
    await t.inspect(tab, 'unused');
    await tab.click('button', 'Revoke selected…');
    await tab.heading('Revoke 2 keys');
    await t.inspect(tab, 'revoke several');
    const revoke = await tab.find('button', 'Revoke 2 keys');
    t.check(await revoke.evaluate((it) => it.disabled), 'the number of keys is not asked for');
    await tab.fill('textbox', 'To confirm, type the number of keys, 2', '2');
    await tab.click('button', 'Revoke 2 keys');
    await tab.see('2 keys revoked');
    await tab.page.keyboard.press('Escape');
    await tab.noDialog();
    await until('only the kept key is listed', async () => (await tab.all('checkbox', /^Select Old/)).length === 1);
    const verdicts = await Promise.all(keys.map((it) => tab.server.verify(it.key)));
    t.check(verdicts.join() === 'REVOKED,VALID,REVOKED', `the keys are ${verdicts}`);
  });
}
