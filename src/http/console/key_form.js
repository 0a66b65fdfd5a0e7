// The form of the settings of a key, for a new key and for a change.

import { html, useEffect, useState } from './html.js';
import { ExpiryField, expiryMembers } from './expiry.js';
import { AddressField, RateField, TextField, faultsIn, lines } from './fields.js';
import { connection } from './api.js';
import { useListener } from './hooks.js';
import { isOwnAccount } from './rights.js';
import { ScopePicker } from './scope_picker.js';
import { session } from './session.js';
import { Notice } from './ui.js';

// The members whose faults the form shows at a field.
export const AT_FIELDS = ['name', 'scopes', 'expiresAt', 'expiresIn', 'allowedIps', 'rateLimit'];
const IN_MORE = ['allowedIps', 'rateLimit'];

const MINUTE_WINDOW = { limit: '', windowSeconds: 60 };
const NAME_HELP = 'Name the program that uses the key, such as “Invoice export, production”.';
export const NEW_DRAFT = { name: '', scopes: [], addresses: '', rate: MINUTE_WINDOW };

export function draftOf(key) {
  const rate = key.rateLimit ? { ...key.rateLimit, limit: String(key.rateLimit.limit) } : MINUTE_WINDOW;
  const addresses = (key.allowedIps ?? []).join('\n');
  return { name: key.name, scopes: key.scopes, expiry: { choice: 'keep', date: '' }, addresses, rate, enabled: key.enabled };
}

// Returns the members of a request: those that differ from `before`.
export function changes(draft, before, latest) {
  const addresses = lines(draft.addresses);
  const { limit, windowSeconds } = draft.rate;
  const members = {
    name: () => ({ name: draft.name.trim() }),
    scopes: () => ({ scopes: draft.scopes }),
    expiry: () => expiryMembers(draft.expiry, latest),
    addresses: () => ({ allowedIps: addresses.length > 0 ? addresses : null }),
    rate: () => ({ rateLimit: limit === '' ? null : { limit: Number(limit), windowSeconds } }),
    enabled: () => ({ enabled: draft.enabled }),
  };
  const changed = Object.keys(draft).filter((it) => JSON.stringify(draft[it]) !== JSON.stringify(before[it]));
  return Object.assign({}, ...changed.map((it) => members[it]()));
}

// `keyRecord` is the key that is changed, or null for a new one.
export function KeyForm({ draft, setDraft, offered, account, latest, keyRecord = null, now, error, nameHelp = NAME_HELP }) {
  const set = (member) => (value) => setDraft((last) => ({ ...last, [member]: value }));
  const faults = (...members) => faultsIn(error, ...members);
  return html`
    <${TextField} label="Name" value=${draft.name} onChange=${set('name')} maxlength="100" autofocus
      help=${nameHelp} faults=${faults('name')} />
    <${ScopePicker} offered=${offered} value=${draft.scopes} onChange=${set('scopes')} faults=${faults('scopes')} />
    <${ExpiryField} value=${draft.expiry} onChange=${set('expiry')} latest=${latest} keyRecord=${keyRecord} now=${now}
      faults=${faults('expiresAt', 'expiresIn')} />
    ${keyRecord && html`
      <label class="switch"><input type="checkbox" role="switch" checked=${draft.enabled}
        onChange=${(event) => set('enabled')(event.target.checked)} /> Enabled</label>`}
    <${More} draft=${draft} set=${set} faults=${faults} account=${account} open=${Boolean(keyRecord)} />`;
}

function More({ draft, set, faults, account, open: opened }) {
  const [open, setOpen] = useState(opened && (draft.addresses !== '' || draft.rate.limit !== ''));
  const faulty = faults(...IN_MORE).length > 0;
  useEffect(() => {
    if (faulty) {
      setOpen(true);
    }
  }, [faulty]);
  const inherits = !opened && isOwnAccount(account.id) && session().self.allowedIps;
  const without = inherits ? 'Without any, the new key gets the list of your own key.'
    : 'Without any, the key is accepted from everywhere.';
  return html`
    <details class="more" open=${open || faulty} onToggle=${(event) => setOpen(event.target.open)}>
      <summary>More settings</summary>
      <${AddressField} value=${draft.addresses} onChange=${set('addresses')} faults=${faults('allowedIps')} without=${without} />
      <${RateField} value=${draft.rate} onChange=${set('rate')} faults=${faults('rateLimit')} />
    </details>`;
}

// Says that a request is repeated. The page's own banner is hidden behind a dialog.
export function Repeating({ busy, error, children }) {
  useListener(connection.subscribe);
  const state = (busy && connection.lost && 'No connection to the server. Trying again…')
    || (error?.status === 0 && 'You can press the button again.');
  return html`<div aria-live="polite">${state && html`<${Notice} kind="warning"><p>${state} ${children}</p><//>`}</div>`;
}
