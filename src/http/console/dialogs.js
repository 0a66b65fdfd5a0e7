// The dialog of the page. It is no part of the view that opened it, so that a table which drops a row,
// or a change of the view, does not close a dialog that shows a key.

import { useListener } from './hooks.js';
import { session, subscribe as subscribeSession } from './session.js';

const listeners = new Set();
let shown = null;
let owner; // The number of the session that opened it.

const subscribe = (listener) => {
  listeners.add(listener);
  return () => listeners.delete(listener);
};

function show(dialog) {
  shown = dialog;
  listeners.forEach((it) => it());
}

// Shows what `render(close)` returns until it calls `close`.
export const openDialog = (render) => show(render(() => show(null)));

// The end of the session, or another one, removes the dialog, and with it a key that it shows.
subscribeSession(() => {
  const now = session()?.number;
  if (now !== owner) {
    owner = now;
    show(null);
  }
});

export function DialogHost() {
  useListener(subscribe);
  return shown;
}
