// The names of keys and accounts that events mention only by their identifier.

import { html, useEffect, useState } from './html.js';
import { to } from './route.js';
import { can, isOperator, session } from './session.js';

// So many unknown identifiers of a page are looked up, a few at the same time.
const MOST_LOOKUPS = 40;
const AT_ONCE = 4;

const ENDS = ['api_key.revoked', 'account.deleted', 'account.purged'];

// One map for each session, because another key may see other names.
const known = new WeakMap();

// Returns the names that are known, by identifier. The empty text stands for a name that cannot be had.
// Its member `gone` holds the identifiers of objects that have no page any more.
export function knownNames() {
  const { api, self, account } = session();
  if (!known.has(api)) {
    const names = new Map([[self.id, self.name], [account.id, account.name]]);
    known.set(api, Object.assign(names, { gone: new Set() }));
  }
  return known.get(api);
}

export const isKey = (id) => id?.startsWith('key_') ?? false;
export const isAccount = (id) => id?.startsWith('acct_') ?? false;

// Takes names from the events themselves. Later events replace earlier ones.
function learn(events, names) {
  for (const { type, subject, actor, data } of [...events].sort((a, b) => a.seq - b.seq)) {
    const name = data?.after?.name ?? data?.before?.name ?? data?.name;
    if (typeof name === 'string' && (isKey(subject) || isAccount(subject))) {
      names.set(subject, name);
    }
    if (ENDS.includes(type)) {
      names.gone.add(subject);
    }
    if (actor.keyName) {
      names.set(actor.keyId, actor.keyName);
    }
  }
}

function unknown(ids, names) {
  const found = (it) => can('api-keys:read', 'accounts:read') && (isKey(it) || (isAccount(it) && isOperator()));
  return [...new Set(ids)].filter((it) => found(it) && !names.has(it)).slice(0, MOST_LOOKUPS);
}

// A search finds nothing where an address would answer 404, which browsers report as a fault of the page.
async function lookUp(id, signal) {
  const path = isKey(id) ? 'api-keys' : 'accounts';
  const account = isKey(id) && isOperator() ? 'all' : null;
  const { data } = await session().api.get(path, { q: id, account, limit: 1 }, { signal });
  return data[0]?.name ?? '';
}

// Returns the names of what these events mention. Renders again when further names are known.
export function useNames(events) {
  learn(events, knownNames());
  return useNamesOf(events.flatMap((it) => [it.subject, it.actor.keyId, it.accountId]), events);
}

// Does the same for identifiers, which are looked up again when `input` changes.
export function useNamesOf(ids, input) {
  const [, setRound] = useState(0);
  const names = knownNames();
  useEffect(() => {
    const aborter = new AbortController();
    const rest = unknown(ids, names);
    const work = async () => {
      for (let id = rest.pop(); id && !aborter.signal.aborted; id = rest.pop()) {
        const name = await lookUp(id, aborter.signal);
        names.set(id, name);
        if (!name) {
          names.gone.add(id);
        }
        setRound((it) => it + 1);
      }
    };
    // A name that cannot be had is no fault of the view: it shows the identifier.
    Array.from({ length: AT_ONCE }, () => work().catch(() => {}));
    return () => aborter.abort();
  }, [input]);
  return names;
}

// The name of an account, with a link to it.
export const AccountLink = ({ id, names }) => html`
  <a href=${to('accounts', id)} title=${id}>${names.get(id) || html`<code>${`${id.slice(0, 5)}…${id.slice(-6)}`}</code>`}</a>`;
