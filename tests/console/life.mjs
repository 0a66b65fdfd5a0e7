// The life of a key: create, use, rotate, edit, revoke, and what the audit log tells about it.

import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { audit, follow } from './audit.mjs';
import { isInMemory } from './heap.mjs';
import { until } from './wait.mjs';

const NAME = 'Invoice export, production';
const RENAMED = 'Invoice export';

export async function life(t) {
  const server = await t.server();
  const operator = await server.createKey('Ada Lovelace', ['*']);
  const tab = await t.tab(server);
  await t.step('sign in', async () => {
    await tab.goto();
    await tab.heading('keyward console');
    await t.inspect(tab, 'sign-in');
    await tab.enter(operator.key);
    t.check(!(await tab.traces()).includes(operator.key), 'the key of the session is in the page');
    await tab.see('Ada Lovelace');
    await t.inspect(tab, 'keys');
  });
  const first = await create(t, tab);
  await use(t, tab, first);
  const newest = await rotate(t, tab, first);
  await endGrace(t, tab, first, newest);
  await edit(t, tab);
  await revoke(t, tab, newest);
  await audit(t, tab, operator);
  await follow(t, tab);
}

async function create(t, tab) {
  await t.step('create a key', async () => {
    await tab.click('button', 'Create key');
    await tab.heading('Create key');
    await t.inspect(tab, 'create');
    const ninety = await tab.find('radio', '90 days');
    t.check(await ninety.evaluate((it) => it.checked), '90 days are not preselected');
    await tab.fill('textbox', 'Name', NAME);
    await tab.click('button', 'Read only of all resources');
    await tab.see('5 scopes chosen');
    await tab.click('checkbox', /^write\s+Create and update orders$/);
    await tab.see('6 scopes chosen');
    await tab.click('DisclosureTriangle', /More settings/);
    await tab.fill('textbox', 'Allowed addresses', '127.0.0.1\n10.0.0.0/8');
    await tab.fill('spinbutton', 'Rate limit', '600');
    await t.inspect(tab, 'create, filled in');
    await tab.click('button', 'Create key');
    await tab.heading('Store the key now');
  });
  return reveal(t, tab, NAME, { tries: true });
}

// Stores the revealed key as a person does, and returns it. `tries` runs the line that is shown.
async function reveal(t, tab, name, { tries = false } = {}) {
  let key;
  await t.step('store the revealed key', async () => {
    await tab.see(`This is the only time that the key ${name} is shown`);
    await t.inspect(tab, 'reveal');
    const close = await tab.find('button', 'Close');
    t.check(await close.evaluate((it) => it.disabled), 'Close is possible before the key is stored');
    await tab.page.keyboard.press('Escape');
    await tab.page.keyboard.press('Escape');
    await tab.heading('Store the key now');
    await tab.click('button', 'Copy key');
    await tab.see('Copied ✓');
    key = await tab.clipboard();
    t.demand(/^rg_[0-9A-Za-z]{40,}$/.test(key), 'the clipboard contains no key');
    if (tries) {
      await runsInShell(t, tab, key);
      t.check(await isInMemory(tab, key), 'the search in the memory does not find a key that is shown');
    }
    await tab.click('checkbox', 'I have stored the key');
    await tab.click('button', 'Close');
    await tab.noDialog();
    await until('the key is gone from the page', async () => !(await tab.traces()).includes(key));
    await until('the key is gone from the memory', async () => !await isInMemory(tab, key));
  });
  return key;
}

async function runsInShell(t, tab, key) {
  const [curl] = await tab.see(/^curl .*$/m);
  const [variable] = await tab.see(/^export KEYWARD_KEY=.*$/m);
  const { stdout } = await promisify(execFile)('sh', ['-c', `${variable}\n${curl} --silent --max-time 20`]);
  t.check(JSON.parse(stdout).keyPrefix === key.slice(0, 12), `the curl line answers ${stdout}`);
  t.check(!curl.includes(key), 'the curl line, which the shell keeps, has the key');
  t.check(variable === `export KEYWARD_KEY=${key}`, 'the line of the variable has another key');
}

async function use(t, tab, key) {
  await t.step('the table and the page show the use', async () => {
    t.check(await tab.server.verify(key) === 'VALID', 'the new key is not valid');
    const row = await tab.row(NAME);
    await until('the row shows status and end', async () => /Active.*in 89 days|Active.*in 90 days/s.test(await row.evaluate((it) => it.innerText)));
    await tab.click('link', NAME);
    await tab.heading(NAME);
    await tab.see(/Last used\s+just now/);
    await tab.see(/600 per minute/);
    for (const part of ['orders:write', 'inventory:read', '10.0.0.0/8', key.slice(0, 12)]) {
      await tab.see(part);
    }
    t.check(!(await tab.text()).includes('products:write'), 'the key has a scope that was not chosen');
    await t.inspect(tab, 'key');
  });
}

// Rotates twice: the first time a caller stays with the old credential, the second time none does.
async function rotate(t, tab, first) {
  await t.step('rotate with 5 minutes', async () => {
    await tab.click('button', 'Rotate');
    await tab.heading(`Rotate ${NAME}`);
    const preselected = await tab.find('radio', 'Default of the server');
    t.check(await preselected.evaluate((it) => it.checked), 'the default of the server is not preselected');
    await tab.see('Both work for 5 minutes, unless the server is configured otherwise');
    await tab.click('radio', 'In 5 minutes');
    await tab.see('Both work until');
    await t.inspect(tab, 'rotate');
    await tab.click('button', 'Rotate');
    await tab.heading('Store the key now');
  });
  const second = await reveal(t, tab, NAME);
  await t.step('the countdown runs, and the old credential in use is shown', async () => {
    t.check(second !== first, 'the rotation returned the old credential');
    await tab.see('Rotation in progress');
    await tab.see('The key was not used since its rotation');
    const left = async () => {
      const [, minutes, seconds] = await tab.see(/ends in ([0-9]):([0-9]{2})/);
      return Number(minutes) * 60 + Number(seconds);
    };
    const start = await left();
    t.check(200 < start && start <= 300, `the countdown begins at ${start} seconds`);
    await until('the countdown runs', async () => await left() < start);
    t.check(await tab.server.verify(first) === 'VALID', 'the old credential does not work in its grace period');
    await tab.see('Its caller has not moved yet');
    await t.inspect(tab, 'key in rotation');
  });
  await t.step('rotate again', async () => {
    await tab.click('button', 'Rotate');
    await tab.see('1 older credential also still works'); // The grace is the default of the server.
    await tab.click('button', 'Rotate');
    await tab.heading('Store the key now');
  });
  const third = await reveal(t, tab, NAME);
  await t.step('all callers have moved', async () => {
    await tab.see('The key was not used since its rotation');
    t.check(await tab.server.verify(third) === 'VALID', 'the newest credential does not work');
    await tab.see('All callers have moved');
    t.check(await tab.server.verify(second) === 'VALID', 'the second credential does not work in its grace period');
    await tab.see('Its caller has not moved yet');
  });
  return third;
}

async function endGrace(t, tab, old, newest) {
  await t.step('end the grace now', async () => {
    await tab.click('button', 'End grace now');
    await tab.heading('End the grace now');
    t.check(await tab.focused() === 'Cancel', `the focus is at ${await tab.focused()}`);
    await tab.see(/An old credential was used .*Its caller will fail/);
    await t.inspect(tab, 'end of the grace');
    await tab.click('button', 'End grace now');
    await tab.noDialog();
    await tab.gone(/Rotation in progress/);
    t.check(await tab.server.verify(old) === 'ROTATED', 'the old credential works after the end of its grace');
    t.check(await tab.server.verify(newest) === 'VALID', 'the current credential does not work');
  });
}

async function edit(t, tab) {
  await t.step('edit the key', async () => {
    await tab.click('button', 'Edit');
    await tab.heading(`Edit ${NAME}`);
    await t.inspect(tab, 'edit');
    await tab.fill('textbox', 'Name', RENAMED);
    await tab.fill('spinbutton', 'Rate limit', '900');
    await tab.click('button', 'Save');
    await tab.noDialog();
    await tab.heading(RENAMED);
    await tab.see(/900 per minute/);
  });
}

async function revoke(t, tab, key) {
  await t.step('revoke the key', async () => {
    await tab.click('button', 'Revoke');
    await tab.heading(`Revoke ${RENAMED}`);
    tab.watch.expect(404, '/api/v1/api-keys/key_'); // After the revocation, the page asks for the key again.
    await tab.see(/Used just now\.|Used [0-9]+ seconds ago\./);
    await tab.see('A program that still uses this key fails from now on.');
    await t.inspect(tab, 'revoke');
    const button = await tab.find('button', 'Revoke key');
    for (const typed of ['', RENAMED.slice(0, -1), RENAMED.toUpperCase()]) {
      await tab.fill('textbox', `Type ${RENAMED} to confirm`, typed);
      t.check(await button.evaluate((it) => it.disabled), `the name "${typed}" confirms the revocation`);
    }
    await tab.page.keyboard.press('Enter');
    t.check(await tab.server.verify(key) === 'VALID', 'Enter revokes the key without its name');
    await tab.fill('textbox', `Type ${RENAMED} to confirm`, RENAMED);
    await tab.fill('textbox', 'Reason (optional)', 'The export has moved');
    await tab.click('button', 'Revoke key');
    await tab.noDialog();
    await tab.see(`The key ${RENAMED} was revoked.`);
    t.check(await tab.server.verify(key) === 'REVOKED', 'the revoked key works');
  });
}
