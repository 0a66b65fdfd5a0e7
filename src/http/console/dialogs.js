// The dialog of the page. It is no part of the view that opened it, so that a table which drops a row,
// or a change of the view, does not close a dialog that shows a key.

import { useEffect } from './vendor/htm-preact.js';
import { useListener } from './hooks.js';

const listeners = new Set();
let shown = null;

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

// The end of the session removes the dialog, and with it a key that it shows.
export function DialogHost() {
  useListener(subscribe);
  useEffect(() => () => {
    shown = null;
  }, []);
  return shown;
}
