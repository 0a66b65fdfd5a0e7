// What the dialogs of one key share.

import { html, useLayoutEffect, useRef } from './html.js';
import { useLoad } from './hooks.js';
import { AT_FIELDS } from './key_form.js';
import { session } from './session.js';
import { Button, ErrorBox, Loading, Notice } from './ui.js';

// Loads the key again, because the row of a table can be old, and renders `content({ key, reload })`.
export function Loaded({ id, content }) {
  const { data, error, loading, reload } = useLoad((signal) => session().api.get(`api-keys/${id}`, {}, { signal }), [id]);
  const ready = !error && !loading;
  const frame = useRef(null);
  // When the dialog opened, it had only its closing button.
  useLayoutEffect(() => {
    const first = frame.current?.querySelector('[autofocus], input:checked, .form-actions button');
    first?.focus();
  }, [ready]);
  if (error) {
    return html`<${ErrorBox} error=${error} retry=${reload} />`;
  }
  return ready ? html`<div ref=${frame}>${content({ key: data, reload })}</div>` : html`<${Loading} />`;
}

// The error of a change. If another person changed the key in between, it offers to load it again.
export function Stale({ error, reload }) {
  if (error?.status !== 412) {
    return html`<${ErrorBox} error=${error} atFields=${AT_FIELDS} />`;
  }
  return html`
    <${Notice} kind="warning">
      <p>The key was changed after this form was opened, perhaps by another person. Nothing was saved.</p>
      <${Button} onClick=${reload}>Load the key again<//>
    <//>`;
}
