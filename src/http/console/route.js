// The address of a view lies in the fragment: `#/keys/key_1?account=acct_2`. It never reaches the
// server. A fragment can come from a link of another person, so only what can be an identifier is taken
// as one: a request to the server has no other parts of it in its path.

import { useEffect, useState } from './html.js';

const ID = /^[A-Za-z0-9_]+$/;

const idOf = (text) => (ID.test(text ?? '') ? text : null);

function parse() {
  const [path, search] = location.hash.replace(/^#\/?/, '').split('?');
  const [view, id] = path.split('/').filter(Boolean);
  const query = new URLSearchParams(search ?? '');
  if (!idOf(query.get('account'))) {
    query.delete('account');
  }
  return { view: idOf(view) ?? 'keys', id: idOf(decoded(id)), query };
}

// A percent sign that encodes nothing is no part of an identifier.
function decoded(text) {
  try {
    return decodeURIComponent(text ?? '');
  } catch {
    return null;
  }
}

// Returns the fragment of a view. Members of `query` without a value are left out.
export function to(view, id = null, query = {}) {
  const path = id ? `${view}/${encodeURIComponent(id)}` : view;
  const search = new URLSearchParams(Object.entries(query).filter(([, value]) => value)).toString();
  return `#/${path}${search ? `?${search}` : ''}`;
}

export const go = (...target) => {
  location.hash = to(...target);
};

// Changes the query of the present view without a new entry in the history.
export function replaceQuery(query) {
  const { view, id } = parse();
  history.replaceState(null, '', to(view, id, query));
  dispatchEvent(new HashChangeEvent('hashchange'));
}

export function useRoute() {
  const [route, setRoute] = useState(parse);
  useEffect(() => {
    const changed = () => setRoute(parse());
    addEventListener('hashchange', changed);
    return () => removeEventListener('hashchange', changed);
  }, []);
  return route;
}
