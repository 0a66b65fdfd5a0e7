// The fields of the forms of keys. Each shows the faults that the server found in its member.

import { html, useEffect, useLayoutEffect, useRef } from './html.js';
import { capital, memberOf, useId } from './ui.js';

// Returns the faults of an error in these members of the body.
export const faultsIn = (error, ...members) => (error?.faults ?? []).filter((it) => members.includes(memberOf(it)));

export const Fault = ({ id, faults }) => faults.length > 0 && html`
  <ul class="fault" id=${id}>${faults.map((it) => html`<li>${it.about && html`<code>${it.about}</code> `}${capital(it.detail)}</li>`)}</ul>`;

// Returns a reference for a form. The focus moves to the first field with a fault.
export function useFaultFocus(error) {
  const form = useRef(null);
  useEffect(() => {
    const first = error?.faults && form.current?.querySelector('[aria-invalid="true"], .fault');
    const group = first?.matches('.fault') && first.closest('fieldset');
    (group ? group.querySelector('input:not(:disabled)') : first)?.focus();
  }, [error]);
  return form;
}

// The properties that connect an input with its help and its faults.
export function described(id, faults, help) {
  const ids = [faults.length > 0 && `${id}-fault`, help && `${id}-help`].filter(Boolean).join(' ');
  return { 'aria-describedby': ids || null, 'aria-invalid': faults.length > 0 ? 'true' : null };
}

export function TextField({ label, value, onChange, help, faults = [], ...rest }) {
  const id = useId('field');
  const input = useRef(null);
  // `autofocus` works only for what is there when the dialog opens, not for a form that is loaded.
  useLayoutEffect(() => {
    if (rest.autofocus) {
      input.current.focus();
    }
  }, []);
  return html`
    <div class="field">
      <label for=${id}>${label}</label>
      <input id=${id} ref=${input} type="text" autocomplete="off" value=${value} ...${described(id, faults, help)} ...${rest}
        onInput=${(event) => onChange(event.target.value)} />
      ${help && html`<small id=${`${id}-help`}>${help}</small>`}
      <${Fault} id=${`${id}-fault`} faults=${faults} />
    </div>`;
}

// A choice of a few values that are all visible. A choice is `[value, label]`.
export function Choices({ legend, choices, value, onChange, children }) {
  const name = useId('choice');
  return html`
    <fieldset class="choices">
      <legend>${legend}</legend>
      <div class="segments">
        ${choices.map(([it, label]) => html`
          <label key=${it}><input type="radio" name=${name} value=${it} checked=${it === value}
            onChange=${() => onChange(it)} /><span>${label}</span></label>`)}
      </div>
      ${children}
    </fieldset>`;
}

// Returns the lines of a text that are not empty.
export const lines = (text) => text.split('\n').map((it) => it.trim()).filter(Boolean);

// `without` says what applies if there is no line.
export function AddressField({ value, onChange, faults, without }) {
  const id = useId('addresses');
  const about = faults.map((it) => ({ ...it, about: lines(value)[it.pointer.split('/')[2]] }));
  return html`
    <div class="field">
      <label for=${id}>Allowed addresses</label>
      <textarea id=${id} rows="3" spellcheck="false" class="mono" placeholder="203.0.113.0/24" value=${value}
        ...${described(id, faults, true)} onInput=${(event) => onChange(event.target.value)}></textarea>
      <small id=${`${id}-help`}>One IPv4 or IPv6 address or network (CIDR) on each line. ${without}</small>
      <${Fault} id=${`${id}-fault`} faults=${about} />
    </div>`;
}

const WINDOWS = [[1, 'second'], [60, 'minute'], [3600, 'hour'], [86_400, 'day'], [2_592_000, '30 days']];

export function RateField({ value, onChange, faults }) {
  const id = useId('rate');
  const windows = WINDOWS.some(([it]) => it === value.windowSeconds) ? WINDOWS
    : [...WINDOWS, [value.windowSeconds, `${value.windowSeconds} seconds`]];
  return html`
    <div class="field">
      <label for=${id}>Rate limit</label>
      <div class="rate">
        <input id=${id} type="number" min="1" step="1" inputmode="numeric" placeholder="No limit of its own" value=${value.limit}
          ...${described(id, faults, true)} onInput=${(event) => onChange({ ...value, limit: event.target.value })} />
        <span>requests per</span>
        <select aria-label="Window of the rate limit" value=${value.windowSeconds}
          onChange=${(event) => onChange({ ...value, windowSeconds: Number(event.target.value) })}>
          ${windows.map(([seconds, name]) => html`<option value=${seconds}>${name}</option>`)}
        </select>
      </div>
      <small id=${`${id}-help`}>Without a number, the limit that the account has for each key applies, if there is one.</small>
      <${Fault} id=${`${id}-fault`} faults=${faults} />
    </div>`;
}
