// Revokes many keys, one after the other.

import { html, useEffect, useRef, useState } from './html.js';
import { number, plural } from './format.js';
import { session } from './session.js';
import { Actions, Button, Dialog, useId } from './ui.js';

const REASON = 'unused';
// After these answers every further request would fail in the same way.
const FINAL = [0, 401];

// Calls `onClose(changed)` at the end.
export function RevokeMany({ keys, onClose }) {
  const [typed, setTyped] = useState('');
  const [state, setState] = useState(null); // { done, failures, ended }
  const stopped = useRef(false);
  const id = useId('count');
  useEffect(() => () => {
    stopped.current = true;
  }, []);
  const start = async (event) => {
    event.preventDefault();
    if (typed.trim() !== String(keys.length) || state) {
      return;
    }
    const failures = [];
    setState({ done: 0, failures });
    let done = 0;
    for (const key of keys) {
      const error = stopped.current ? null : await revoke(key);
      if (stopped.current) {
        break;
      }
      if (error) {
        failures.push({ key, error });
      }
      done += 1;
      setState({ done, failures: [...failures] });
      if (error && FINAL.includes(error.status)) {
        break;
      }
    }
    setState({ done, failures: [...failures], ended: true });
  };
  if (state) {
    const end = () => onClose(state.done > 0);
    return html`
      <${Dialog} title=${state.ended ? 'Revoked' : 'Revoking…'} onClose=${state.ended ? end : undefined}>
        <${Progress} keys=${keys} state=${state} />
        <${Actions}>${state.ended ? html`<${Button} kind="primary" onClick=${end}>Close<//>`
          : html`<${Button} onClick=${() => {
            stopped.current = true;
          }}>Stop<//>`}<//>
      <//>`;
  }
  return html`
    <${Dialog} title=${`Revoke ${plural(keys.length, 'key')}`} onClose=${() => onClose(false)}>
      <form onSubmit=${start}>
        <p>A revoked key stops at once and cannot be restored. Each program that still uses one of these keys is refused.</p>
        <ul class="names" tabindex="0" aria-label="Keys to revoke">${keys.map((it) => html`<li key=${it.id}>${it.name} <code>${it.keyPrefix}…</code></li>`)}</ul>
        <label for=${id}>To confirm, type the number of keys, <strong>${keys.length}</strong></label>
        <input id=${id} inputmode="numeric" autocomplete="off" autofocus value=${typed} onInput=${(event) => setTyped(event.target.value)} />
        <${Actions}>
          <${Button} onClick=${() => onClose(false)}>Cancel<//>
          <${Button} kind="danger" type="submit" disabled=${typed.trim() !== String(keys.length)}>Revoke ${plural(keys.length, 'key')}<//>
        <//>
      </form>
    <//>`;
}

// Returns the error, if there is one. A key that is gone already needs no revocation.
async function revoke(key) {
  try {
    await session().api.delete(`api-keys/${key.id}`, { reason: REASON });
    return null;
  } catch (error) {
    return error.status === 404 ? null : error;
  }
}

function Progress({ keys, state }) {
  const { done, failures, ended } = state;
  const left = keys.length - done;
  return html`
    <div role="status">
      <p>${plural(done - failures.length, 'key')} revoked${failures.length > 0 && `, ${number(failures.length)} failed`}${
        ended && left > 0 && `, ${number(left)} not tried`}.</p>
      ${!ended && html`<progress value=${done} max=${keys.length} aria-label="Progress"></progress>`}
    </div>
    ${failures.length > 0 && html`
      <div class="notice error">
        <ul class="failures">${failures.map(({ key, error }) => html`
          <li key=${key.id}><strong>${key.name}</strong>: ${error.detail ?? error.message}
            ${error.status === 0 && ' It may have been revoked all the same.'}
            ${error.requestId && html`<br /><small>Request <code>${error.requestId}</code></small>`}</li>`)}</ul>
      </div>`}`;
}
