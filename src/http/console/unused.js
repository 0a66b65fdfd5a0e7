// The report of keys that are not used, and of keys with scopes that are not used.

import { html, useMemo, useState } from './html.js';
import { RevokeMany } from './revoke_many.js';
import { DAY, date, number, plural } from './format.js';
import { useKeys } from './keys.js';
import { AccountLink, useNamesOf } from './names.js';
import { to } from './route.js';
import { can, session } from './session.js';
import { AccountUsage } from './usage.js';
import { Ago, Button, Chips, Empty, ErrorBox, Loading, Notice, Pager, View } from './ui.js';

const NO_IDS = [];
const PERIODS = [30, 90, 180];
const PER_PAGE = 50;

// Returns why a key cannot be chosen here, or null.
function exemption(key) {
  if (key.id === session().self.id) {
    return 'This page uses the key.';
  }
  return key.scopes.includes('*') ? 'Root keys are revoked one by one.' : null;
}

export function Unused({ account, query }) {
  const report = query.get('report') === 'scopes' ? 'scopes' : 'keys';
  const days = PERIODS.find((it) => it === Number(query.get('days'))) ?? PERIODS[1];
  return html`<${UnusedReport} key=${`${report} ${days}`} report=${report} days=${days} account=${account} />`;
}

function UnusedReport({ report, days, account }) {
  const filter = useMemo(() => (report === 'scopes' ? { unusedScopes: true }
    : { unusedSince: new Date(Date.now() - days * DAY).toISOString() }), [report, days]);
  const inputs = [account, report, days];
  const { keys, loading, full, error, reload } = useKeys({ account, limit: 1000, ...filter }, inputs);
  const note = keys.length > 0 && `${plural(keys.length, 'key')}${loading ? ', loading more…' : ''}`;
  return html`
    <${View} title="Unused" note=${note}>
      ${account !== 'all' && html`<${AccountUsage} account=${account} />`}
      <${Tabs} report=${report} days=${days} account=${account} />
      <${ErrorBox} error=${error} retry=${reload} />
      ${full && html`<${Notice} kind="warning"><p>The report shows the oldest ${number(keys.length)} keys. Revoke these, then load it again.</p><//>`}
      ${keys.length === 0 && (loading ? html`<${Loading} />` : !error && html`<${NoKeys} report=${report} days=${days} />`)}
      ${keys.length > 0 && html`<${Report} key=${inputs.join(' ')} keys=${keys} report=${report} account=${account} reload=${reload} />`}
    <//>`;
}

function Tabs({ report, days, account }) {
  const tab = (query, current, name) => html`
    <a href=${to('unused', null, { account, ...query })} aria-current=${current ? 'page' : null}>${name}</a>`;
  return html`
    <nav class="tabs" aria-label="Reports">
      <span>Not used for</span>
      ${PERIODS.map((it) => tab({ days: it }, report === 'keys' && it === days, `${it} days`))}
      <span class="gap"></span>
      ${tab({ report: 'scopes' }, report === 'scopes', 'Scopes not used in 30 days')}
    </nav>`;
}

function NoKeys({ report, days }) {
  return report === 'scopes'
    ? html`<${Empty} title="Every scope is used"><p>In the last 30 days, requests needed each scope of each key.</p><//>`
    : html`<${Empty} title="No unused keys"><p>No key is older than ${days} days and unused since.</p><//>`;
}

function Report({ keys, report, account, reload }) {
  const [page, setPage] = useState(0);
  const [chosen, setChosen] = useState(new Set());
  const [revoking, setRevoking] = useState(null);
  const may = account === 'all' ? can('accounts:write') : can('api-keys:write', 'accounts:write');
  const revokes = may && report === 'keys';
  const pages = Math.max(1, Math.ceil(keys.length / PER_PAGE));
  const shown = Math.min(page, pages - 1);
  const rows = keys.slice(shown * PER_PAGE, (shown + 1) * PER_PAGE);
  const choose = (some, wanted) => setChosen((last) => {
    const next = new Set(last);
    some.forEach((it) => (wanted ? next.add(it.id) : next.delete(it.id)));
    return next;
  });
  const selected = keys.filter((it) => chosen.has(it.id));
  const done = (changed) => {
    setRevoking(null);
    if (changed) {
      setChosen(new Set());
      reload();
    }
  };
  return html`
    ${revokes && html`
      <div class="selection">
        <${Button} kind="danger" disabled=${selected.length === 0} onClick=${() => setRevoking(selected)}>Revoke selected…<//>
        <span role="status">${selected.length > 0 ? `${plural(selected.length, 'key')} selected` : html`<span class="muted">No key selected</span>`}</span>
        ${selected.length > 0 && html`<${Button} onClick=${() => setChosen(new Set())}>Clear<//>`}
      </div>`}
    <${Table} rows=${rows} report=${report} account=${account} chosen=${revokes ? chosen : null} choose=${choose} />
    <${Pager} page=${shown} pages=${pages} onPage=${setPage} />
    ${revoking && html`<${RevokeMany} keys=${revoking} onClose=${done} />`}`;
}

// `chosen` is null where nothing can be chosen.
function Table({ rows, report, account, chosen, choose }) {
  const free = rows.filter((it) => !exemption(it));
  const all = free.length > 0 && free.every((it) => chosen?.has(it.id));
  const some = free.some((it) => chosen?.has(it.id));
  const names = useNamesOf(account === 'all' ? rows.map((it) => it.accountId) : NO_IDS, rows[0]?.id);
  return html`
    <div class="table unused" tabindex="0" role="region" aria-label="Unused keys">
      <table>
        <thead><tr>
          ${chosen && html`<th scope="col" class="check"><input type="checkbox" aria-label="Select all keys of this page" checked=${all}
            indeterminate=${some && !all} disabled=${free.length === 0} onChange=${(event) => choose(free, event.target.checked)} /></th>`}
          <th scope="col">Name</th><th scope="col">Prefix</th>${account === 'all' && html`<th scope="col">Account</th>`}
          <th scope="col">${report === 'scopes' ? 'Unused scopes' : 'Scopes'}</th><th scope="col">Last used</th>
          <th scope="col">Expires</th><th scope="col">Created</th>
        </tr></thead>
        <tbody>${rows.map((it) => html`
          <${Row} key=${it.id} keyRecord=${it} report=${report} account=${account} names=${names} chosen=${chosen} choose=${choose} />`)}</tbody>
      </table>
    </div>`;
}

function Row({ keyRecord: key, report, account, names, chosen, choose }) {
  const why = exemption(key);
  const id = `why-${key.id}`;
  return html`
    <tr>
      ${chosen && html`<td class="check"><input type="checkbox" aria-label=${`Select ${key.name}`} checked=${chosen.has(key.id)}
        disabled=${Boolean(why)} aria-describedby=${why ? id : null} onChange=${(event) => choose([key], event.target.checked)} /></td>`}
      <th scope="row" data-title="Name"><span><a href=${to('keys', key.id, { account })}>${key.name}</a>
        ${chosen && why && html`<small class="of" id=${id}>${why}</small>`}</span></th>
      <td data-title="Prefix"><code>${key.keyPrefix}…</code></td>
      ${account === 'all' && html`<td data-title="Account"><${AccountLink} id=${key.accountId} names=${names} /></td>`}
      <td data-title=${report === 'scopes' ? 'Unused' : 'Scopes'}>${report === 'scopes'
        ? html`<${Chips} names=${key.unusedScopes ?? []} label="Unused scopes" />` : html`<${Chips} names=${key.scopes} most=${2} label="Scopes" />`}</td>
      <td data-title="Last used"><${Ago} time=${key.lastUsedAt} none="Never used" /></td>
      <td data-title="Expires">${key.expiresAt ? html`<${Ago} time=${key.expiresAt} />` : html`<span class="never">Never expires</span>`}</td>
      <td data-title="Created"><time datetime=${key.createdAt}>${date(key.createdAt)}</time></td>
    </tr>`;
}
