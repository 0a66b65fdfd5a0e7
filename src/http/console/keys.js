// The table of keys: search, filter, sort.

import { html, useCallback, useEffect, useMemo, useState } from './html.js';
import { number, plural } from './format.js';
import { useNow, useReconnect } from './hooks.js';
import { replaceQuery, to } from './route.js';
import { mayWriteKeys } from './rights.js';
import { session } from './session.js';
import { AccountSwitch } from './account_switch.js';
import { AccountLink, useNamesOf } from './names.js';
import { Ago, Button, Chips, Empty, ErrorBox, Loading, Notice, Pager, Status, View, statusOf } from './ui.js';
import { CreateKey } from './create_key.js';
import { openDialog } from './dialogs.js';
import { KeyMenu } from './key_actions.js';

// The page keeps at most this many keys. Beyond it, the search asks the server.
const MOST_KEYS = 20_000;
const PER_PAGE = 50;
const STATUSES = ['active', 'expiring', 'rotating', 'expired', 'disabled'];
const COLUMNS = [
  { id: 'name', title: 'Name', value: (key) => key.name.toLowerCase() },
  { id: 'prefix', title: 'Prefix', value: (key) => key.keyPrefix },
  { id: 'scopes', title: 'Scopes', value: (key) => key.scopes.length },
  { id: 'status', title: 'Status', value: (key, now) => STATUSES.indexOf(statusOf(key, now)) },
  { id: 'used', title: 'Last used', value: (key) => key.lastUsedAt ?? '' },
  { id: 'expires', title: 'Expires', value: (key) => key.expiresAt ?? '9999' },
  { id: 'created', title: 'Created', value: (key) => key.createdAt },
];

// Loads all keys a page at a time and shows those that are there already.
export function useKeys(query, inputs) {
  const [state, setState] = useState({ keys: [], loading: true });
  const [round, setRound] = useState(0);
  useEffect(() => {
    const aborter = new AbortController();
    const load = async () => {
      let keys = [];
      for await (const page of session().api.pages('api-keys', query, { signal: aborter.signal })) {
        keys = keys.concat(page.data);
        const more = Boolean(page.nextCursor);
        const full = more && MOST_KEYS <= keys.length;
        setState({ keys, loading: more && !full, full });
        if (full) {
          break;
        }
      }
    };
    setState((last) => ({ ...last, loading: true, error: undefined }));
    load().catch((error) => aborter.signal.aborted || setState((last) => ({ ...last, loading: false, error })));
    return () => aborter.abort();
  }, [...inputs, round]);
  const reload = useCallback(() => setRound((it) => it + 1), []);
  useReconnect(state.error, reload);
  return { ...state, reload };
}

function matches(key, { text, status, scope }, now) {
  const searched = text.trim();
  const wanted = searched.toLowerCase();
  const found = !wanted || key.name.toLowerCase().includes(wanted)
    || [key.id, key.keyPrefix, ...key.previousKeys.map((it) => it.keyPrefix)].some((it) => it.startsWith(searched));
  return found && (!status || statusOf(key, now) === status) && (!scope || key.scopes.includes(scope));
}

function compare({ id, descending }, now) {
  const { value } = COLUMNS.find((it) => it.id === id);
  const direction = descending ? -1 : 1;
  return (a, b) => {
    const [left, right] = [value(a, now), value(b, now)];
    return left === right ? 0 : direction * (left < right ? -1 : 1);
  };
}

// Opens the form for the key of a person when the address asks for it, which it then does no more.
function useOwnKeyForm(query, reload) {
  const wanted = query.get('create') === 'person';
  useEffect(() => {
    if (wanted) {
      replaceQuery({});
      openCreate(null, reload, true);
    }
  }, [wanted]);
}

export function Keys({ account, query }) {
  const [filter, setFilter] = useState({
    text: query.get('q') ?? '', status: query.get('status') ?? '', scope: query.get('scope') ?? '',
  });
  const [sort, setSort] = useState({ id: 'created', descending: true });
  const [page, setPage] = useState(0);
  const now = useNow(15_000);
  const server = { account, order: 'desc', limit: 1000 };
  const { keys, loading, full, error, reload } = useKeys(server, [account]);
  useOwnKeyForm(query, reload);
  const found = useMemo(
    () => keys.filter((it) => matches(it, filter, now)).sort(compare(sort, now)),
    [keys, filter, sort, now],
  );
  const change = (part) => {
    const next = { ...filter, ...part };
    setFilter(next);
    setPage(0);
    replaceQuery({ account, q: next.text.trim(), status: next.status, scope: next.scope });
  };
  const pages = Math.max(1, Math.ceil(found.length / PER_PAGE));
  const shown = Math.min(page, pages - 1);
  const rows = found.slice(shown * PER_PAGE, (shown + 1) * PER_PAGE);
  const create = mayWriteKeys(account)
    && html`<${Button} kind="primary" onClick=${() => openCreate(account, reload)}>Create key<//>`;
  return html`
    <${View} title="Keys" actions=${create}
      note=${keys.length > 0 && summary(found.length, keys.length, loading)}>
      <${Filters} filter=${filter} change=${change} account=${account} />
      <${ErrorBox} error=${error} retry=${reload} />
      ${full && html`<${Notice} kind="warning"><p>The page shows the newest ${number(MOST_KEYS)} keys. To find older ones,
        use <code>keyward keys list</code> or the API.</p><//>`}
      ${keys.length === 0 && (loading ? html`<${Loading} />` : !error && html`<${NoKeys} create=${create} />`)}
      ${keys.length > 0 && (rows.length > 0
        ? html`<${Table} rows=${rows} sort=${sort} setSort=${setSort} account=${account} reload=${reload} />`
        : html`<${Empty} title="No key matches"><p>Change the search or the filters above.</p><//>`)}
      <${Pager} page=${shown} pages=${pages} onPage=${setPage} />
    <//>`;
}

const openCreate = (account, reload, own) => openDialog((close) => html`
  <${CreateKey} account=${account} own=${own} onClose=${(made) => {
    close();
    if (made) {
      reload();
    }
  }} />`);

function summary(found, all, loading) {
  const count = found === all ? plural(all, 'key') : `${number(found)} of ${plural(all, 'key')}`;
  return loading ? `${count}, loading more…` : count;
}

function Filters({ filter, change, account }) {
  return html`
    <form class="filters" role="search" onSubmit=${(event) => event.preventDefault()}>
      <input type="search" aria-label="Search keys" placeholder="Name, prefix or id"
        value=${filter.text} onInput=${(event) => change({ text: event.target.value })} />
      <select aria-label="Status" value=${filter.status} onChange=${(event) => change({ status: event.target.value })}>
        <option value="">Any status</option>
        ${STATUSES.map((it) => html`<option value=${it}>${it}</option>`)}
      </select>
      <select aria-label="Scope" value=${filter.scope} onChange=${(event) => change({ scope: event.target.value })}>
        <option value="">Any scope</option>
        ${session().scopes.map((it) => html`<option value=${it.name}>${it.name}</option>`)}
      </select>
      <${AccountSwitch} account=${account} />
    </form>`;
}

function NoKeys({ create }) {
  return html`
    <${Empty} title="No keys yet">
      <p>A key lets a program call the API. Give each program a key of its own, with the fewest scopes that do the job.</p>
      ${create}
    <//>`;
}

function Table({ rows, sort, setSort, account, reload }) {
  const turn = (id) => setSort({ id, descending: sort.id === id ? !sort.descending : id === 'used' || id === 'created' });
  const direction = (id) => (sort.id !== id ? 'none' : sort.descending ? 'descending' : 'ascending');
  const names = useNamesOf(account === 'all' ? rows.map((it) => it.accountId) : [], rows[0].id);
  return html`
    <div class="table" tabindex="0" role="region" aria-label="Keys">
      <table>
        <thead><tr>
          ${COLUMNS.map(({ id, title }) => html`
            <th scope="col" aria-sort=${direction(id)}>
              <button type="button" class="sort" onClick=${() => turn(id)}>${title}</button></th>`)}
          ${account === 'all' && html`<th scope="col">Account</th>`}
          <th scope="col"><span class="offscreen">Actions</span></th>
        </tr></thead>
        <tbody>${rows.map((it) => html`<${Row} key=${it.id} keyRecord=${it} account=${account} names=${names} reload=${reload} />`)}</tbody>
      </table>
    </div>`;
}

function Row({ keyRecord, account, names, reload }) {
  return html`
    <tr>
      <th scope="row" data-title="Name"><a href=${to('keys', keyRecord.id, { account })}>${keyRecord.name}</a></th>
      <td data-title="Prefix"><code>${keyRecord.keyPrefix}…</code></td>
      <td data-title="Scopes"><${Chips} names=${keyRecord.scopes} most=${2} label="Scopes" /></td>
      <td data-title="Status"><${Status} keyRecord=${keyRecord} /></td>
      <td data-title="Last used"><${Ago} time=${keyRecord.lastUsedAt} /></td>
      <td data-title="Expires"><${Ago} time=${keyRecord.expiresAt} /></td>
      <td data-title="Created"><${Ago} time=${keyRecord.createdAt} /></td>
      ${account === 'all' && html`<td data-title="Account"><${AccountLink} id=${keyRecord.accountId} names=${names} /></td>`}
      <td class="row-actions"><${KeyMenu} keyRecord=${keyRecord} reload=${reload} /></td>
    </tr>`;
}
