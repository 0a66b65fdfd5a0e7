// The console with the keyboard only.

import { until } from './wait.mjs';

const MOST_TABS = 80;

export async function keyboard(t) {
  const server = await t.server();
  const { key } = await server.createKey('Katherine Johnson', ['*']);
  const tab = await t.tab(server);
  const press = (...keys) => keys.reduce((before, it) => before.then(() => tab.page.keyboard.press(it)), Promise.resolve());

  await t.step('sign in', async () => {
    await tab.goto();
    await tab.heading('keyward console');
    await until('the field of the key has the focus', async () => await tab.focused() === 'API key');
    await tab.page.keyboard.type(key);
    await press('Enter');
    await tab.heading('Keys');
  });

  await t.step('skip to the content', async () => {
    await tab.page.evaluate(() => document.activeElement.blur());
    await press('Tab');
    t.check(await tab.focused() === 'Skip to the content', `the first stop is ${await tab.focused()}`);
    const link = await tab.find('link', 'Skip to the content');
    t.check(await link.evaluate((it) => 0 <= it.getBoundingClientRect().top), 'the skip link with the focus is not visible');
    await press('Enter');
    t.check(await tab.page.evaluate(() => document.activeElement.id) === 'content', 'the skip link leads elsewhere');
    await press('Tab');
    t.check(await tab.focused() === 'Create key', `after the skip link the first stop is ${await tab.focused()}`);
  });

  await t.step('Escape closes the dialog, and the focus returns', async () => {
    await press('Enter');
    await tab.heading('Create key');
    await until('the name has the focus', async () => await tab.focused() === 'Name');
    await press('Escape');
    await tab.noDialog();
    t.check(await tab.focused() === 'Create key', `after the dialog, the focus is at ${await tab.focused()}`);
  });

  await t.step('create a key', async () => {
    await press('Enter');
    await tab.heading('Create key');
    await until('the name has the focus', async () => await tab.focused() === 'Name');
    await tab.page.keyboard.type('Nightly report');
    await tabTo(tab, /^read\s+Read order data$/);
    await press('Space');
    await tab.see('1 scope chosen');
    await tabTo(tab, /^90 days$/);
    await press('ArrowLeft');
    await tab.see('The key expires on');
    await press('Enter');
    await tab.heading('Store the key now');
    await until('the focus is at the button that copies', async () => await tab.focused() === 'Copy key');
    await press('Enter');
    await tab.see('Copied ✓');
    await tabTo(tab, /^I have stored the key$/);
    await press('Space', 'Tab');
    t.check(await tab.focused() === 'Close', `after the check box, the focus is at ${await tab.focused()}`);
    await press('Enter');
    await tab.noDialog();
    t.check(await tab.focused() === 'Create key', `after the dialog, the focus is at ${await tab.focused()}`);
    const row = await tab.row('Nightly report');
    await until('the key ends in 30 days', async () => /in (29|30) days/.test(await row.evaluate((it) => it.innerText)));
  });

  await t.step('sort, and use the menu of a row', async () => {
    await tabTo(tab, /^Name$/);
    await press('Enter');
    const header = await tab.find('columnheader', /Name/);
    await until('the table is sorted', async () => await header.evaluate((it) => it.ariaSort) === 'ascending');
    await tabTo(tab, /^Actions for Nightly report$/);
    await press('Enter');
    await until('the menu has the focus', async () => await tab.focused() === 'Rotate…');
    await press('ArrowDown', 'ArrowDown', 'ArrowDown');
    t.check(await tab.focused() === 'Revoke…', `the last entry is ${await tab.focused()}`);
    await press('Enter');
    await tab.heading('Revoke Nightly report');
    await until('the name has the focus', async () => /^Type Nightly report/.test(await tab.focused()));
    await press('Escape');
    await tab.noDialog();
    t.check(await tab.focused() === 'Actions for Nightly report', `after the dialog, the focus is at ${await tab.focused()}`);
  });
}

// Presses the tabulator until an element with this name has the focus.
async function tabTo(tab, name) {
  const passed = [];
  for (let count = 0; count < MOST_TABS; count += 1) {
    const at = await tab.focused();
    if (name.test(at)) {
      return;
    }
    passed.push(at);
    await tab.page.keyboard.press('Tab');
  }
  throw new Error(`the keyboard does not reach ${name}; it passes ${passed.join(', ')}`);
}
