// The page of one account, for the operator.

import { html } from './html.js';
import { DeleteAccount, SwitchAccount } from './account_actions.js';
import { AccountState } from './accounts.js';
import { ConsoleLink } from './console_link.js';
import { openDialog } from './dialogs.js';
import { exchangeText } from './exchange.js';
import { dateTime, duration, number } from './format.js';
import { useLoad } from './hooks.js';
import { go, to } from './route.js';
import { can, session } from './session.js';
import { Button, Chips, Copy, Empty, ErrorBox, Loading, View } from './ui.js';
import { AccountUsage } from './usage.js';

export function AccountPage({ id }) {
  const { data: account, error, reload } = useLoad((signal) => session().api.get(`accounts/${id}`, {}, { signal }), [id]);
  if (!account) {
    return html`<${Absent} id=${id} error=${error} reload=${reload} />`;
  }
  return html`
    <a class="back" href=${to('accounts')}>← Accounts</a>
    <${View} title=${account.name} note=${html`<${AccountState} account=${account} />`}
      actions=${html`<${Buttons} account=${account} reload=${reload} />`}>
      <${ErrorBox} error=${error} retry=${reload} />
      <${Facts} account=${account} />
      <${AccountUsage} account=${account.id} />
    <//>`;
}

function Absent({ id, error, reload }) {
  if (!error) {
    return html`<${Loading} />`;
  }
  return html`
    <a class="back" href=${to('accounts')}>← Accounts</a>
    <${View} title="Account">
      ${error.status === 404 ? html`<${Empty} title="No account with this id"><p>It was deleted, or never existed.</p>
        <p><a href=${to('audit', null, { subject: id })}>Its events in the audit log</a></p><//>`
        : html`<${ErrorBox} error=${error} retry=${reload} />`}
    <//>`;
}

const open = (Opened, account, done) => openDialog((close) => html`
  <${Opened} account=${account} onClose=${(changed, gone) => {
    close();
    if (changed) {
      done(gone);
    }
  }} />`);

// The operator's own account has no limits and cannot be stopped.
const isOwn = (account) => account.id === session().account.id;

function Buttons({ account, reload }) {
  const active = account.status === 'active';
  const changes = can('accounts:write') && !isOwn(account);
  return html`
    ${!isOwn(account) && html`<${Button} kind="primary" onClick=${() => go('keys', null, { account: account.id })}>Open its keys<//>`}
    ${changes && active && html`<${Button} onClick=${() => open(ConsoleLink, account)}>Console link…<//>`}
    ${changes && html`<${Button} onClick=${() => open(SwitchAccount, account, reload)}>${active ? 'Suspend…' : 'Activate…'}<//>`}
    ${changes && html`<${Button} kind="danger" onClick=${() => open(DeleteAccount, account, (gone) => (gone ? go('accounts') : reload()))}>Delete…<//>`}`;
}

const rate = (limit) => (limit ? `${number(limit.limit)} per ${duration(limit.windowSeconds).replace(/^1 /, '')}` : 'None');
const ofServer = (value, text) => (value === null ? 'Server default' : text(value));

function Facts({ account }) {
  const facts = [
    ['Id', html`<code>${account.id}</code> <${Copy} text=${account.id} label="Copy id" />`],
    ['External id', account.externalId ? html`<code>${account.externalId}</code>` : 'None'],
    ['Created', dateTime(account.createdAt)],
    !isOwn(account) && ['Key limit', ofServer(account.maxKeys, number)],
    !isOwn(account) && ['Longest lifetime of a key', ofServer(account.maxKeyLifetimeSeconds, duration)],
    !isOwn(account) && ['Default lifetime of a key', ofServer(account.defaultKeyLifetimeSeconds, duration)],
    !isOwn(account) && ['Rate limit of all keys together', rate(account.rateLimit)],
    !isOwn(account) && ['Rate limit of each key without its own', rate(account.keyRateLimit)],
    ['Exchange for tokens', exchangeText(account)],
    ['Scopes', account.allowedScopes ? html`<${Chips} names=${account.allowedScopes} label="Allowed scopes" />` : 'All scopes'],
    Object.keys(account.metadata).length > 0
      && ['Metadata', html`<pre tabindex="0" role="region" aria-label="Metadata">${JSON.stringify(account.metadata, null, 2)}</pre>`],
  ].filter(Boolean);
  return html`
    <section class="card" aria-label="Settings">
      <dl class="facts">${facts.map(([name, value]) => html`<div key=${name}><dt>${name}</dt><dd>${value}</dd></div>`)}</dl>
      ${can('events:read') && html`<p class="links"><a href=${to('audit', null, { account: account.id })}>Events of this account</a></p>`}
    </section>`;
}
