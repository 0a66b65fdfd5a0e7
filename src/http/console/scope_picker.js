// The choice of scopes, grouped by resource.

import { html } from './html.js';
import { plural } from './format.js';
import { isForAnyAccount } from './rights.js';
import { Fault } from './fields.js';
import { useId } from './ui.js';

const EVERYTHING = '*';
// A group with more scopes has shortcuts of its own.
const FEW = 2;

const isRead = (scope) => scope.name.endsWith(':read');

// `offered` are scopes of the catalogue; `value` holds the names of those that are chosen.
export function ScopePicker({ offered, value, onChange, faults }) {
  const id = useId('scopes');
  const [api, reserved] = [offered.filter((it) => !it.reserved), offered.filter((it) => it.reserved)];
  const operating = reserved.filter((it) => !isForAnyAccount(it.name) && it.name !== EVERYTHING);
  const everything = value.includes(EVERYTHING);
  const choose = (scopes, wanted) => onChange([
    ...value.filter((name) => scopes.every((it) => it.name !== name)),
    ...scopes.filter(wanted).map((it) => it.name),
  ]);
  const part = { value, choose };
  return html`
    <fieldset class="scopes" aria-describedby=${faults.length > 0 ? `${id}-fault` : null}>
      <legend>Scopes</legend>
      <fieldset disabled=${everything} class="scope-list">
        ${api.length > 0 && html`<${Shortcuts} scopes=${api} ...${part} of="all resources" clear />`}
        ${grouped(api).map(([name, scopes]) => html`<${Group} key=${name} name=${name} scopes=${scopes} ...${part} />`)}
        <${Group} name="Managing keys" scopes=${reserved.filter((it) => isForAnyAccount(it.name))} ...${part} full />
        <${Group} name="Operating keyward" scopes=${operating} ...${part} full />
      </fieldset>
      ${reserved.some((it) => it.name === EVERYTHING) && html`<${Everything} checked=${everything} onChange=${onChange} />`}
      <${Fault} id=${`${id}-fault`} faults=${faults} />
      <p class="muted scope-count" aria-live="polite">${everything ? 'Everything is chosen' : `${plural(value.length, 'scope')} chosen`}</p>
    </fieldset>`;
}

function grouped(scopes) {
  const groups = new Map();
  for (const scope of scopes) {
    const resource = scope.name.split(':')[0];
    groups.set(resource, [...(groups.get(resource) ?? []), scope]);
  }
  return [...groups];
}

function Shortcuts({ scopes, choose, of, clear }) {
  const button = (name, wanted) => html`
    <button type="button" class="secondary small" onClick=${() => choose(scopes, wanted)}>${name}<span class="offscreen"> of ${of}</span></button>`;
  return html`
    <div class="shortcuts">
      ${scopes.some(isRead) && button('Read only', isRead)}
      ${button('All', () => true)}
      ${clear && button('None', () => false)}
    </div>`;
}

// With `full`, the scopes are shown with their full names.
function Group({ name, scopes, value, choose, full }) {
  const id = useId('group');
  if (scopes.length === 0) {
    return null;
  }
  return html`
    <div class="scope-group" role="group" aria-labelledby=${id}>
      <div class="scope-resource"><span id=${id}>${name}</span>
        ${!full && scopes.length > FEW && html`<${Shortcuts} scopes=${scopes} choose=${choose} of=${name} />`}
      </div>
      <div class="scope-boxes">
        ${scopes.map((it) => html`
          <label key=${it.name}>
            <input type="checkbox" name="scope" value=${it.name} checked=${value.includes(it.name)}
              onChange=${(event) => choose([it], () => event.target.checked)} />
            <span><strong>${full ? it.name : it.name.split(':')[1]}</strong> <small>${it.description}</small></span>
          </label>`)}
      </div>
    </div>`;
}

function Everything({ checked, onChange }) {
  return html`
    <div class="notice warning everything">
      <label>
        <input type="checkbox" name="scope" value=${EVERYTHING} checked=${checked}
          onChange=${(event) => onChange(event.target.checked ? [EVERYTHING] : [])} />
        <span><strong>Everything</strong> <code>*</code> <small>A root key: it manages all accounts and all keys. Give it
          only to operators, one for each person.</small></span>
      </label>
    </div>`;
}
