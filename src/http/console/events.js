// Loads the audit log, the newest events first.

import { useCallback, useEffect, useRef, useState } from './html.js';
import { useReconnect } from './hooks.js';
import { session } from './session.js';

const PAGE = 50;
// The view keeps at most this many events while it follows the log.
const MOST = 2000;
const NONE = { events: [], cursor: null, loading: true };

// Returns `{ events, cursor, loading, error, older, reload, add }` for the filter of a list.
export function useEvents(query, inputs) {
  const [state, setState] = useState(NONE);
  const [round, setRound] = useState(0);
  const aborter = useRef(null);
  const load = useCallback((before, signal) => {
    const more = { ...query, order: 'desc', limit: PAGE, cursor: before.cursor };
    setState((last) => ({ ...last, loading: true, error: undefined }));
    session().api.get('events', more, { signal }).then(
      (page) => signal.aborted || setState((last) => ({
        events: merged(before.cursor ? last.events : [], page.data), cursor: page.nextCursor, loading: false,
      })),
      (error) => signal.aborted || setState((last) => ({ ...last, loading: false, error })),
    );
  }, inputs);
  useEffect(() => {
    aborter.current = new AbortController();
    setState((last) => ({ ...last, ...(round === 0 && NONE) }));
    load({ cursor: null }, aborter.current.signal);
    return () => aborter.current.abort();
  }, [load, round]);
  const reload = useCallback(() => setRound((it) => it + 1), []);
  const add = useCallback((fresh) => setState((last) => {
    const events = merged(fresh, last.events);
    return events.length <= MOST ? { ...last, events } : { ...last, events: events.slice(0, MOST), cursor: null, cut: true };
  }), []);
  useReconnect(state.error, reload);
  return { ...state, older: () => load(state, aborter.current.signal), reload, add };
}

// Returns both lists as one, the newest first, each event once.
function merged(some, others) {
  const all = new Map([...others, ...some].map((it) => [it.seq, it]));
  return [...all.values()].sort((a, b) => b.seq - a.seq);
}
