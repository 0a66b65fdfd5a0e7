// How often keys are used: bars of the last 30 days, scopes never used, and addresses.

import { html, useState } from './html.js';
import { date, number, plural } from './format.js';
import { useLoad } from './hooks.js';
import { actionsOf } from './key_actions.js';
import { session } from './session.js';
import { Ago, Button, Chips, ErrorBox, Loading, useId } from './ui.js';

const REASONS = {
  insufficientScopes: 'Missing scope',
  rateLimited: 'Rate limit',
  ipNotAllowed: 'Address not allowed',
  expired: 'Expired',
  disabled: 'Disabled',
  revoked: 'Revoked',
  rotated: 'Ended credential',
  accountSuspended: 'Account suspended',
};
// The size of the picture in its own units. It is stretched to the width of the page.
const [WIDTH, HEIGHT, GAP] = [900, 120, 5];

const sum = (values) => values.reduce((total, it) => total + it, 0);
const deniedOf = (day) => sum(Object.values(day.denied));
// A day counts from midnight UTC, so it is shown as this date everywhere.
const dayName = (day) => date(`${day.date}T12:00:00`);
const reasonName = (reason) => REASONS[reason] ?? reason;

// The part of the page of one key.
export function KeyUsage({ keyRecord, reload }) {
  const { id, unusedScopes } = keyRecord;
  const usage = useLoad((signal) => session().api.get(`api-keys/${id}/usage`, { days: 30 }, { signal }), [id]);
  return html`
    <section class="card" aria-labelledby="usage-title">
      <h2 id="usage-title">Usage in the last 30 days</h2>
      <${Chart} ...${usage} none="The key was not used in the last 30 days." />
      ${unusedScopes?.length > 0 && html`<${UnusedScopes} keyRecord=${keyRecord} reload=${reload} />`}
      <${Addresses} id=${id} />
    </section>`;
}

// The sums of all keys of an account. Null stands for the account of this session.
export function AccountUsage({ account }) {
  const path = !account || account === session().account.id ? 'self' : account;
  const usage = useLoad((signal) => session().api.get(`accounts/${path}/usage`, { days: 30 }, { signal }), [path]);
  return html`
    <section class="card" aria-labelledby="account-usage-title">
      <h2 id="account-usage-title">Usage of all keys in the last 30 days</h2>
      <${Chart} ...${usage} none="No key of the account was used in the last 30 days." />
    </section>`;
}

function Chart({ data, error, reload, none }) {
  if (!data) {
    return error ? html`<${ErrorBox} error=${error} retry=${reload} />` : html`<${Loading} />`;
  }
  const days = data.data;
  const [allowed, denied] = [sum(days.map((it) => it.allowed)), sum(days.map(deniedOf))];
  if (allowed + denied === 0) {
    return html`<p class="muted">${none}</p>`;
  }
  return html`
    <p class="usage-figures"><span><strong>${number(allowed)}</strong> allowed</span><span><strong>${number(denied)}</strong> denied</span></p>
    <${Bars} days=${days} />
    <div class="bars-axis" aria-hidden="true"><span>${dayName(days[0])}</span><span>Today (UTC)</span></div>
    <${Legend} days=${days} denied=${denied} />
    <${Numbers} days=${days} />`;
}

// The numbers are also in a table, so screen readers need no picture.
function Bars({ days }) {
  const most = Math.max(...days.map((it) => it.allowed + deniedOf(it)));
  const step = WIDTH / days.length;
  const height = (count) => (count === 0 ? 0 : Math.max(2, (count / most) * HEIGHT));
  return html`
    <svg class="bars" viewBox=${`0 0 ${WIDTH} ${HEIGHT}`} preserveAspectRatio="none" role="img"
      aria-label=${`Bars of ${days.length} days; at most ${number(most)} requests on a day. The numbers are in the table below.`}>
      ${days.map((day, i) => {
        const [up, down] = [height(day.allowed), height(deniedOf(day))];
        const bar = { x: i * step + GAP / 2, width: step - GAP };
        return html`
          <g class="day" key=${day.date}>
            <title>${`${dayName(day)}: ${number(day.allowed)} allowed, ${number(deniedOf(day))} denied`}</title>
            <rect class="back" x=${i * step} y="0" width=${step} height=${HEIGHT} />
            ${up + down === 0 && html`<rect class="zero" ...${bar} y=${HEIGHT - 1} height="1" />`}
            <rect class="allowed" ...${bar} y=${HEIGHT - up} height=${up} />
            <rect class="denied" ...${bar} y=${Math.max(0, HEIGHT - up - down)} height=${down} />
          </g>`;
      })}
    </svg>`;
}

const used = (days) => Object.keys(days[0].denied).filter((reason) => days.some((it) => it.denied[reason] > 0));

function Legend({ days, denied }) {
  return html`
    <ul class="legend">
      <li><span class="swatch"></span>Allowed</li>
      <li><span class="swatch denied"></span>Denied${denied > 0 && `: ${used(days)
        .map((reason) => `${reasonName(reason)} ${number(sum(days.map((it) => it.denied[reason])))}`).join(', ')}`}</li>
    </ul>`;
}

function Numbers({ days }) {
  const reasons = used(days);
  return html`
    <details>
      <summary>Numbers by day</summary>
      <div class="numbers" tabindex="0" role="region" aria-label="Numbers by day">
        <table>
          <thead><tr><th scope="col">Day (UTC)</th><th scope="col">Allowed</th>${reasons.map((it) => html`<th scope="col">${reasonName(it)}</th>`)}</tr></thead>
          <tbody>${[...days].reverse().map((day) => html`
            <tr key=${day.date}><th scope="row">${dayName(day)}</th><td>${number(day.allowed)}</td>
              ${reasons.map((it) => html`<td>${number(day.denied[it])}</td>`)}</tr>`)}</tbody>
        </table>
      </div>
    </details>`;
}

function UnusedScopes({ keyRecord, reload }) {
  const { unusedScopes, scopes } = keyRecord;
  const edit = actionsOf(keyRecord, () => reload?.()).find((it) => it.name === 'Edit');
  return html`
    <div class="usage-part">
      <h3>Scopes that no request needed</h3>
      <p class="muted">In the last 30 days no accepted request needed ${unusedScopes.length === scopes.length ? 'any of the scopes' : `${
        plural(unusedScopes.length, 'scope')} of ${scopes.length}`}. A key with fewer scopes does less harm when it leaks.</p>
      <${Chips} names=${unusedScopes} label="Scopes that were not used" />
      ${edit && html`<p><${Button} onClick=${edit.open}>Edit the scopes…<//></p>`}
    </div>`;
}

// Hidden where the server keeps no addresses.
function Addresses({ id }) {
  const [absent, setAbsent] = useState(false);
  const { data, error, reload } = useLoad((signal) => session().api.get(`api-keys/${id}/addresses`, {}, { signal }).catch((it) => {
    if (it.status !== 404) {
      throw it;
    }
    setAbsent(true);
  }), [id]);
  const title = useId('addresses');
  if (absent || (!data && !error) || data?.data.length === 0) {
    return null;
  }
  return html`
    <div class="usage-part">
      <h3 id=${title}>Addresses of the clients</h3>
      <${ErrorBox} error=${error} retry=${reload} />
      ${data && html`
        <div class="table"><table aria-labelledby=${title}>
          <thead><tr><th scope="col">Address</th><th scope="col">First used</th><th scope="col">Last used</th></tr></thead>
          <tbody>${data.data.map((it) => html`
            <tr key=${it.address}><th scope="row" data-title="Address"><code>${it.address}</code></th>
              <td data-title="First used"><${Ago} time=${it.firstUsedAt} /></td><td data-title="Last used"><${Ago} time=${it.lastUsedAt} /></td></tr>`)}</tbody>
        </table></div>`}
    </div>`;
}
