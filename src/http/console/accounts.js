// The accounts, for the operator: search, and the way to each.

import { html, useEffect, useState } from './html.js';
import { AccountPage } from './account.js';
import { CreateAccount } from './create_account.js';
import { openDialog } from './dialogs.js';
import { date, number } from './format.js';
import { useLoad } from './hooks.js';
import { go, replaceQuery, to } from './route.js';
import { can, session } from './session.js';
import { Button, Empty, ErrorBox, Loading, View } from './ui.js';

const PAGE = 50;
// A search waits so long for the next letter.
const TYPING = 250;

export function Accounts({ query, id }) {
  return id ? html`<${AccountPage} key=${id} id=${id} />` : html`<${AccountList} query=${query} />`;
}

function AccountList({ query }) {
  const [filter, setFilter] = useState({ q: query.get('q') ?? '', status: query.get('status') ?? '' });
  const list = useAccounts(filter);
  const change = (part) => {
    const next = { ...filter, ...part };
    setFilter(next);
    replaceQuery({ ...next, q: next.q.trim() });
  };
  const filtered = filter.q.trim() !== '' || filter.status !== '';
  const create = can('accounts:write') && html`<${Button} kind="primary" onClick=${openCreate}>Create account<//>`;
  return html`
    <${View} title="Accounts" note="Each customer has an account with keys of its own" actions=${create}>
      <form class="filters" role="search" onSubmit=${(event) => event.preventDefault()}>
        <input type="search" aria-label="Search accounts" placeholder="Name, external id or id" maxlength="100" value=${filter.q}
          onInput=${(event) => change({ q: event.target.value })} />
        <select aria-label="Status" value=${filter.status} onChange=${(event) => change({ status: event.target.value })}>
          <option value="">Any status</option><option value="active">active</option><option value="suspended">suspended</option>
        </select>
      </form>
      <${ErrorBox} error=${list.error} retry=${list.reload} />
      ${list.rows.length > 0 && html`<${Table} rows=${list.rows} />`}
      ${list.rows.length === 0 && (list.loading ? html`<${Loading} />` : !list.error && html`<${NoAccounts} filtered=${filtered} create=${create} />`)}
      ${list.cursor && html`<nav class="pager" aria-label="Pages"><${Button} busy=${list.loading} onClick=${list.more}>More accounts<//></nav>`}
    <//>`;
}

const openCreate = () => openDialog((close) => html`
  <${CreateAccount} onClose=${(made) => {
    close();
    if (made) {
      go('accounts', made.id);
    }
  }} />`);

// Loads a page, and further pages on request.
function useAccounts(filter) {
  const [wanted, setWanted] = useState(filter);
  const [rest, setRest] = useState({ rows: [], cursor: null });
  useEffect(() => {
    const timer = setTimeout(() => setWanted(filter), TYPING);
    return () => clearTimeout(timer);
  }, [filter.q, filter.status]);
  const page = (cursor, signal) => session().api.get('accounts', { ...wanted, q: wanted.q.trim(), limit: PAGE, cursor }, { signal });
  const first = useLoad(async (signal) => {
    const loaded = await page(null, signal);
    setRest({ rows: [], cursor: loaded.nextCursor });
    return loaded;
  }, [wanted]);
  const next = useLoad(async (signal) => {
    if (!rest.wanted) {
      return;
    }
    const loaded = await page(rest.cursor, signal);
    setRest((last) => ({ rows: [...last.rows, ...loaded.data], cursor: loaded.nextCursor }));
  }, [rest.wanted]);
  return {
    rows: [...(first.data?.data ?? []), ...rest.rows], cursor: rest.cursor, loading: first.loading || next.loading,
    error: first.error ?? next.error, reload: first.error ? first.reload : next.reload,
    more: () => setRest((last) => ({ ...last, wanted: last.cursor })),
  };
}

function NoAccounts({ filtered, create }) {
  return filtered ? html`<${Empty} title="No account matches"><p>Change the search or the filter above.</p><//>`
    : html`<${Empty} title="No accounts yet"><p>Create an account for each customer. It manages its own keys and sees its own events.</p>${create}<//>`;
}

export const AccountState = ({ account }) => html`
  <span class=${`status ${account.status === 'active' ? 'active' : 'expired'}`}>${account.status === 'active' ? 'Active' : 'Suspended'}</span>`;

function Table({ rows }) {
  return html`
    <div class="table" tabindex="0" role="region" aria-label="Accounts">
      <table>
        <thead><tr><th scope="col">Name</th><th scope="col">External id</th><th scope="col">Status</th>
          <th scope="col">Key limit</th><th scope="col">Created</th><th scope="col"><span class="offscreen">Actions</span></th></tr></thead>
        <tbody>${rows.map((it) => html`
          <tr key=${it.id}>
            <th scope="row" data-title="Name"><a href=${to('accounts', it.id)}>${it.name}</a></th>
            <td data-title="External id">${it.externalId ? html`<code>${it.externalId}</code>` : html`<span class="muted">–</span>`}</td>
            <td data-title="Status"><${AccountState} account=${it} /></td>
            <td data-title="Key limit">${it.maxKeys === null ? html`<span class="muted">Default</span>` : number(it.maxKeys)}</td>
            <td data-title="Created"><time datetime=${it.createdAt}>${date(it.createdAt)}</time></td>
            <td class="row-actions"><a href=${to('keys', null, { account: it.id })} aria-label=${`Keys of ${it.name}`}>Keys</a></td>
          </tr>`)}</tbody>
      </table>
    </div>`;
}
