// The dialog that revokes a key.

import { html, useState } from './html.js';
import { TextField } from './fields.js';
import { useTask } from './hooks.js';
import { Loaded } from './key_dialog.js';
import { isOwnKey } from './rights.js';
import { end, session, tellPerson } from './session.js';
import { Actions, Ago, Button, Dialog, ErrorBox, Notice } from './ui.js';

// Calls `onClose` with null after the revocation, or with nothing.
export function Revoke({ keyRecord, onClose }) {
  const [busy, setBusy] = useState(false);
  const close = busy ? undefined : () => onClose();
  return html`
    <${Dialog} title=${`Revoke ${keyRecord.name}`} onClose=${close}>
      <${Loaded} id=${keyRecord.id} content=${({ key }) => html`
        <${Form} keyRecord=${key} onBusy=${setBusy} onClose=${onClose} />`} />
    <//>`;
}

function Form({ keyRecord, onBusy, onClose }) {
  const [typed, setTyped] = useState('');
  const [reason, setReason] = useState('');
  const { run, busy, error } = useTask();
  const own = isOwnKey(keyRecord);
  const named = typed.trim().normalize() === keyRecord.name.trim().normalize();
  const submit = (event) => {
    event.preventDefault();
    if (named) {
      run(async () => {
        onBusy(true);
        try {
          await revoke(keyRecord, reason.trim());
        } finally {
          onBusy(false);
        }
        finish(own, keyRecord, onClose);
      });
    }
  };
  return html`
    <form noValidate onSubmit=${submit}>
      <${LastUse} keyRecord=${keyRecord} />
      <p>Every credential of the key is refused at once, and for ever. ${own && html`<strong>This page uses this key: the session ends.</strong>`}</p>
      <${TextField} label=${html`Type <strong class="typed">${keyRecord.name}</strong> to confirm`} value=${typed} onChange=${setTyped}
        spellcheck="false" autofocus />
      <${TextField} label=${html`Reason <span class="muted">(optional)</span>`} value=${reason} onChange=${setReason} maxlength="200"
        help="The audit log shows it, to the account too." faults=${reasonFaults(error)} />
      <${ErrorBox} error=${error} atFields=${['reason']} />
      <${Actions}>
        <${Button} disabled=${busy} onClick=${() => onClose()}>Cancel<//>
        <${Button} kind="danger" type="submit" busy=${busy} disabled=${!named}>Revoke key<//>
      <//>
    </form>`;
}

const reasonFaults = (error) => (error?.faults ?? []).filter((it) => it.pointer === '/reason');

function LastUse({ keyRecord }) {
  if (!keyRecord.lastUsedAt) {
    return html`<${Notice}><p>This key was never used.</p><//>`;
  }
  return html`
    <${Notice} kind="warning">
      <p><strong>Used <${Ago} time=${keyRecord.lastUsedAt} />.</strong> A program that still uses this key fails from now on.</p>
    <//>`;
}

// After a lost answer the person tries again; a key that is gone then is what the person wanted.
async function revoke(keyRecord, reason) {
  try {
    await session().api.delete(`api-keys/${keyRecord.id}`, { reason });
  } catch (error) {
    if (error.status !== 404) {
      throw error;
    }
  }
}

function finish(own, keyRecord, onClose) {
  onClose(null);
  if (own) {
    end(`The key ${keyRecord.name}, which this page used, was revoked.`);
    return;
  }
  tellPerson(`The key ${keyRecord.name} was revoked.`, 'success');
  // The row with the button that opened the dialog, and now gets the focus back, goes away.
  setTimeout(() => document.getElementById('content')?.focus());
}
