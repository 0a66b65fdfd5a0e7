// The address of a view lies in the fragment: `#/keys/key_1?account=acct_2`. It never reaches the
// server.

import { useEffect, useState } from './vendor/htm-preact.js';

function parse() {
  const [path, query] = location.hash.replace(/^#\/?/, '').split('?');
  const parts = path.split('/').filter(Boolean).map(decodeURIComponent);
  return { view: parts[0] ?? 'keys', id: parts[1] ?? null, query: new URLSearchParams(query ?? '') };
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
