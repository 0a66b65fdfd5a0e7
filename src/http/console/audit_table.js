// The events as a table. Each row opens to all that the event holds.

import { html, useState } from './html.js';
import { eventDetail, eventName } from './event_text.js';
import { number } from './format.js';
import { isAccount, isKey } from './names.js';
import { to } from './route.js';
import { isOperator } from './session.js';
import { Ago, Button, useId } from './ui.js';

const COLUMNS = ['Time', 'Event', 'Who', 'What', 'Address', 'Request'];
const ACTORS = { cli: 'Command line', scheduler: 'Scheduler', operator: 'Operator', keyward: 'keyward' };

// The identifier that the filter takes for the actor of an event.
export const actorOf = ({ actor }) => actor.keyId ?? actor.type;

// A key, an account or a word, with a link where there is a page about it. `account` is where the link leads.
export function Party({ id, names, account, prefix }) {
  const name = names.get(id);
  if (!isKey(id) && !(isAccount(id) && isOperator())) {
    return html`<span>${ACTORS[id] ?? (name || html`<code>${id}</code>`)}</span>`;
  }
  const shown = name || html`<code>${prefix ? `${prefix}…` : `${id.slice(0, 4)}…${id.slice(-6)}`}</code>`;
  return html`<a href=${pageOf(id, names, account)} title=${id}>${shown}</a>`;
}

// What is gone has no page of its own, but its events are still there.
function pageOf(id, names, account) {
  if (names.gone.has(id)) {
    return to('audit', null, { subject: id });
  }
  return isKey(id) ? to('keys', id, { account: isOperator() ? account : null }) : to('accounts', id);
}

export function AuditTable({ events, names, fresh, change }) {
  return html`
    <div class="table audit" tabindex="0" role="region" aria-label="Events">
      <table>
        <thead><tr>
          <th scope="col"><span class="offscreen">Details</span></th>
          ${COLUMNS.map((it) => html`<th scope="col" key=${it}>${it}</th>`)}
        </tr></thead>
        ${events.map((it) => html`<${Row} key=${it.seq} event=${it} names=${names} fresh=${fresh.has(it.seq)} change=${change} />`)}
      </table>
    </div>`;
}

function Row({ event, names, fresh, change }) {
  const [open, setOpen] = useState(false);
  const id = useId('event');
  const detail = eventDetail(event);
  const name = eventName(event.type);
  return html`
    <tbody class=${fresh ? 'fresh' : ''}>
      <tr class=${open ? 'open' : ''}>
        <td class="expand"><button type="button" class="secondary" aria-expanded=${open ? 'true' : 'false'} aria-controls=${id}
          aria-label=${`Details of event ${event.seq}, ${name}`} onClick=${() => setOpen(!open)}><span aria-hidden="true">›</span></button></td>
        <td data-title="Time"><${Ago} time=${event.time} /></td>
        <th scope="row" data-title="Event"><span>${name}${detail && html` <span class="muted detail">${detail}</span>`}<code class="type">${event.type}</code></span></th>
        <td data-title="Who"><${Party} id=${actorOf(event)} names=${names} account=${event.actor.accountId} prefix=${event.actor.keyPrefix} /></td>
        <td data-title="What"><span><${Party} id=${event.subject} names=${names} account=${event.accountId} />
          <${Owner} event=${event} names=${names} /></span></td>
        <td data-title="Address">${event.clientIp ?? html`<span class="muted">–</span>`}</td>
        <td data-title="Request">${event.requestId ? html`<code class="request" title=${event.requestId}>${event.requestId}</code>` : html`<span class="muted">–</span>`}</td>
      </tr>
      <tr id=${id} class="details" hidden=${!open}>
        ${open && html`<td colspan=${COLUMNS.length + 1}><${Details} event=${event} change=${change} /></td>`}
      </tr>
    </tbody>`;
}

// The account that a key belongs to. Accounts see only their own.
function Owner({ event, names }) {
  return isOperator() && isKey(event.subject) && event.accountId
    ? html`<small class="of"><span class="offscreen">of the account </span>${names.get(event.accountId) || event.accountId}</small>` : null;
}

function Details({ event, change }) {
  const facts = [
    ['Number', number(event.seq)],
    ['Time', html`<time datetime=${event.time}>${event.time}</time>`],
    ['Subject', html`<code>${event.subject}</code>`],
    ['Actor', html`<code>${actorOf(event)}</code>${event.actor.keyPrefix && html` <code>${event.actor.keyPrefix}…</code>`}`],
    ['Request', event.requestId && html`<code>${event.requestId}</code>`],
    ['Hash', html`<code>${event.hash}</code>`],
    ['Hash before', html`<code>${event.prevHash}</code>`],
  ].filter(([, value]) => value);
  return html`
    <div class="event">
      <dl class="figures">${facts.map(([name, value]) => html`<div key=${name}><dt>${name}</dt><dd>${value}</dd></div>`)}</dl>
      <pre tabindex="0" role="region" aria-label=${`Data of event ${event.seq}`}><code>${JSON.stringify(event.data, null, 2)}</code></pre>
      ${change && html`
        <div class="actions">
          <${Button} onClick=${() => change({ subject: event.subject })}>Only this subject<//>
          <${Button} onClick=${() => change({ actor: actorOf(event) })}>Only this actor<//>
          <${Button} onClick=${() => change({ type: event.type })}>Only this kind of event<//>
        </div>`}
    </div>`;
}
