// The fields of an account.

import { html } from './html.js';
import { TextField, faultsIn } from './fields.js';
import { ScopePicker } from './scope_picker.js';
import { session } from './session.js';

export const ACCOUNT_FIELDS = ['name', 'externalId', 'allowedScopes', 'maxKeys', 'maxKeyLifetimeSeconds',
  'defaultKeyLifetimeSeconds', 'rateLimit', 'keyRateLimit'];
const DAY_SECONDS = 86_400;
const NO_LIMIT = { limit: '', windowSeconds: 60 };
const WINDOWS = [[1, 'second'], [60, 'minute'], [3600, 'hour'], [86_400, 'day'], [2_592_000, '30 days']];

export const NEW_ACCOUNT = {
  name: '', externalId: '', limitScopes: false, scopes: [], maxKeys: '', maxDays: '', defaultDays: '', rate: NO_LIMIT, keyRate: NO_LIMIT,
};

// Returns the members of the request. What was left empty is left out.
export function accountMembers(draft) {
  const count = (text, factor = 1) => (text === '' ? undefined : Math.round(Number(text) * factor));
  const rate = ({ limit, windowSeconds }) => (limit === '' ? undefined : { limit: Number(limit), windowSeconds });
  return {
    name: draft.name.trim(),
    externalId: draft.externalId.trim() || undefined,
    allowedScopes: draft.limitScopes ? draft.scopes : undefined,
    maxKeys: count(draft.maxKeys),
    maxKeyLifetimeSeconds: count(draft.maxDays, DAY_SECONDS),
    defaultKeyLifetimeSeconds: count(draft.defaultDays, DAY_SECONDS),
    rateLimit: rate(draft.rate),
    keyRateLimit: rate(draft.keyRate),
  };
}

export function AccountForm({ draft, setDraft, error }) {
  const set = (member) => (value) => setDraft((last) => ({ ...last, [member]: value }));
  const faults = (...members) => faultsIn(error, ...members);
  const faulty = ACCOUNT_FIELDS.slice(2).some((it) => faults(it).length > 0);
  return html`
    <${TextField} label="Name" value=${draft.name} onChange=${set('name')} maxlength="100" autofocus faults=${faults('name')} />
    <${TextField} label="External id" value=${draft.externalId} onChange=${set('externalId')} maxlength="255" placeholder="cust_42"
      help="Your own identifier of the customer, if there is one. The answer to verify returns it." faults=${faults('externalId')} />
    <details class="more" open=${faulty}>
      <summary>More settings</summary>
      <label class="switch"><input type="checkbox" role="switch" checked=${draft.limitScopes}
        onChange=${(event) => set('limitScopes')(event.target.checked)} /> Allow only some scopes</label>
      ${draft.limitScopes && html`<${ScopePicker} offered=${session().scopes.filter((it) => !it.reserved)} value=${draft.scopes}
        onChange=${set('scopes')} faults=${faults('allowedScopes')} />`}
      <div class="two">
        <${NumberField} label="Key limit" value=${draft.maxKeys} onChange=${set('maxKeys')} placeholder="Server default" faults=${faults('maxKeys')} />
        <${NumberField} label="Longest lifetime of a key, days" value=${draft.maxDays} onChange=${set('maxDays')} placeholder="Server default"
          faults=${faults('maxKeyLifetimeSeconds')} />
        <${NumberField} label="Default lifetime of a key, days" value=${draft.defaultDays} onChange=${set('defaultDays')} placeholder="Server default"
          faults=${faults('defaultKeyLifetimeSeconds')} />
      </div>
      <${Rate} label="Rate limit of all keys together" value=${draft.rate} onChange=${set('rate')} faults=${faults('rateLimit')} />
      <${Rate} label="Rate limit of each key without its own" value=${draft.keyRate} onChange=${set('keyRate')} faults=${faults('keyRateLimit')} />
    </details>`;
}

const NumberField = (props) => html`<${TextField} type="number" min="1" step="1" inputmode="numeric" ...${props} />`;

function Rate({ label, value, onChange, faults }) {
  return html`
    <div class="rate-row">
      <${NumberField} label=${label} value=${value.limit} placeholder="None" faults=${faults}
        onChange=${(limit) => onChange({ ...value, limit })} />
      <select aria-label=${`Window of: ${label}`} value=${value.windowSeconds}
        onChange=${(event) => onChange({ ...value, windowSeconds: Number(event.target.value) })}>
        ${WINDOWS.map(([seconds, name]) => html`<option value=${seconds}>per ${name}</option>`)}
      </select>
    </div>`;
}
