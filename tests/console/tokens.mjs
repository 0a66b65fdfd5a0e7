// Whether keys can be exchanged for tokens, as account holders and operators see it, and that it happened.

export async function tokens(t) {
  const server = await t.server('public_url = "https://keys.example.com"\n');
  const account = await server.done('POST', 'accounts', { name: 'Initech', tokenExchange: true });
  const scopes = ['orders:read', 'api-keys:read', 'events:read'];
  const key = await server.done('POST', `accounts/${account.id}/api-keys`, { name: 'Till', scopes });
  for (let i = 0; i < 3; i += 1) {
    await exchange(server, key.key);
  }
  // A stop records what would be recorded at the end of the hour.
  await server.stop();
  await server.startAgain();
  const allow = (tokenExchange) => server.done('PUT', `accounts/${account.id}`, { tokenExchange });

  const holder = await t.tab(server);
  await t.step('the account holder sees that its keys can be exchanged', async () => {
    await holder.signIn(key.key);
    await holder.click('link', 'Till');
    await holder.see(/Exchange for tokens\s+Allowed/);
    await holder.see(/Key exchanged for tokens\s+3 exchanges/);
    await t.inspect(holder, 'key that can be exchanged');
    await holder.click('DisclosureTriangle', /Till/);
    await holder.see(/Exchange of the account's keys for tokens: Allowed/);
    await holder.page.keyboard.press('Escape');
  });
  await t.step('the account holder sees that the operator does not allow it any more', async () => {
    await allow(false);
    await holder.click('link', 'Keys');
    await holder.heading('Keys');
    await holder.click('link', 'Till');
    await holder.see(/Exchange for tokens\s+Not allowed/);
  });

  const operator = await t.tab(server);
  await t.step('the operator sees it of the account and of its keys', async () => {
    await operator.signIn(server.rootKey);
    await operator.goto(`#/accounts/${account.id}`);
    await operator.see(/Exchange for tokens\s+Not allowed/);
    await operator.goto(`#/keys/${key.id}?account=${account.id}`);
    await operator.heading('Till');
    await operator.see(/Exchange for tokens\s+Not allowed/);
    await allow(true);
    await operator.goto(`#/accounts/${account.id}`);
    await operator.see(/Exchange for tokens\s+Allowed/);
    await t.inspect(operator, 'account whose keys can be exchanged');
  });
  await t.step('the operator finds the exchanges in the audit log', async () => {
    await operator.goto('#/audit');
    await operator.heading('Audit log');
    await operator.choose('Type of event', 'api_key.exchanged');
    await operator.see(/Key exchanged for tokens\s+3 exchanges/);
  });
}

async function exchange(server, key) {
  const grant = 'urn:ietf:params:oauth:grant-type:token-exchange';
  const answer = await fetch(`${server.origin}/api/v1/token`, {
    method: 'POST', headers: { 'X-API-Key': key }, body: new URLSearchParams({ grant_type: grant }),
  });
  if (answer.status !== 200) {
    throw new Error(`the exchange was answered ${answer.status}: ${await answer.text()}`);
  }
}
