// Refused requests, and a console that is switched off.

export async function refusals(t) {
  const server = await t.server();
  const tab = await t.tab(server);
  const root = await server.createKey('Operator', ['*']);
  await t.step('a form shows at its fields what the server does not accept', async () => {
    await tab.signIn(root.key);
    tab.watch.expect(422, '/api/v1/api-keys');
    await tab.click('button', 'Create key');
    await tab.fill('textbox', 'Name', 'Refused');
    await tab.click('checkbox', /^read\s+Read order data$/);
    await tab.click('DisclosureTriangle', /More settings/);
    await tab.fill('textbox', 'Allowed addresses', '203.0.113.0/24\n203.0.113.999');
    await tab.click('button', 'Create key');
    await tab.find('alert', /Correct the marked fields\.[^]*Request\s+\w+/);
    const field = await tab.find('textbox', 'Allowed addresses');
    t.check(await field.evaluate((it) => it.ariaInvalid) === 'true', 'the field is not marked');
    t.check(await tab.focused() === 'Allowed addresses', `the focus is at ${await tab.focused()}`);
    await tab.see('203.0.113.999');
    await t.inspect(tab, 'refused form');
    await tab.fill('textbox', 'Allowed addresses', '203.0.113.0/24');
    await tab.click('button', 'Create key');
    await tab.heading('Store the key now');
    await tab.see('The key is accepted only from its allowed addresses.');
    await tab.click('checkbox', 'I have stored the key');
    await tab.click('button', 'Close');
  });
  await t.step('a change of another person is not overwritten', async () => {
    const shared = await server.createKey('Shared', ['orders:read']);
    await tab.goto(`#/keys/${shared.id}`);
    await tab.heading('Shared');
    await tab.click('button', 'Edit');
    await tab.fill('textbox', 'Name', 'Mine');
    await server.done('PATCH', `api-keys/${shared.id}`, { name: 'Theirs' });
    tab.watch.expect(412, shared.id);
    await tab.click('button', 'Save');
    await tab.see('The key was changed after this form was opened');
    await t.inspect(tab, 'stale form');
    await tab.click('button', 'Load the key again');
    const field = await tab.find('textbox', 'Name');
    t.check(await field.evaluate((it) => it.value) === 'Theirs', 'the form does not show the change');
    await tab.click('button', 'Cancel');
  });
  await t.step('what a key may not do is not offered, and a refusal has a detail and the request', async () => {
    const reader = await server.createKey('Reader', ['api-keys:read', 'api-keys:write']);
    const other = await t.tab(server);
    await other.signIn(reader.key);
    for (const view of ['Audit log', 'Accounts']) {
      t.check(!await other.has('link', view), `a key without the scope sees ${view}`);
    }
    await server.done('PATCH', `api-keys/${reader.id}`, { scopes: ['api-keys:read'] });
    other.watch.expect(403, '/api/v1/api-keys');
    await other.click('button', 'Create key');
    await other.fill('textbox', 'Name', 'Not allowed');
    await other.click('checkbox', /^api-keys:read/);
    await other.click('button', 'Create key');
    const { body } = await server.call('POST', 'api-keys', { name: 'Not allowed', scopes: ['api-keys:read'] }, reader.key);
    const box = await other.find('alert', /Request/);
    const text = await box.evaluate((it) => it.innerText);
    t.check(text.toLowerCase().includes(body.detail.toLowerCase()), `the refusal "${body.detail}" is shown as: ${text}`);
    t.check(/Request \w+ · \w+/.test(text), `the refusal does not name the request: ${text}`);
    await t.inspect(other, 'refusal');
  });
  await t.step('console = false', async () => {
    const silent = await t.server('console = false\n');
    for (const path of ['/console', '/console/', '/console/app.js']) {
      const { status } = await fetch(silent.origin + path, { redirect: 'manual' });
      t.check(status === 404, `${path} is answered ${status} with console = false`);
    }
  });
}
