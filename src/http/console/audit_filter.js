// The filters of the audit log, as they are in the address of the view.

import { html, useState } from './html.js';
import { EVENT_TYPES, eventName } from './event_text.js';
import { DAY } from './format.js';
import { useTask } from './hooks.js';
import { isAccount, knownNames } from './names.js';
import { can, isOperator, session } from './session.js';
import { ErrorBox, useId } from './ui.js';

const DAYS = ['since', 'until'];
const MEMBERS = ['type', 'subject', 'actor', ...DAYS];
const ID = /^(key|acct)_[0-9A-Za-z]{22}$/;
// Words that the server takes in place of an identifier.
const SUBJECTS = ['keyward'];
const ACTORS = ['cli', 'scheduler', 'operator'];
const MOST_MATCHES = 6;

const isDay = (text) => /^\d{4}-\d{2}-\d{2}$/.test(text) && !Number.isNaN(startOf(text).getTime());

// A day that does not exist is no filter, because the address can come from elsewhere.
export function readFilter(query) {
  const read = (member) => {
    const text = query.get(member) ?? '';
    return DAYS.includes(member) && !isDay(text) ? '' : text;
  };
  return Object.fromEntries(MEMBERS.map((it) => [it, read(it)]));
}

export const isFiltered = (filter) => MEMBERS.some((it) => filter[it]);

// Returns what a stream of events takes of a filter.
export const streamQuery = ({ type, subject, actor }, account) => ({ account, type, subject, actor });

// Returns what a list takes of a filter. Both days are included, in the time zone of the browser.
export function listQuery(filter, account) {
  return {
    ...streamQuery(filter, account),
    since: filter.since && startOf(filter.since).toISOString(),
    // A day has 23 to 25 hours, so the next midnight is within the day that is 36 hours later.
    until: filter.until && midnight(new Date(startOf(filter.until).getTime() + 1.5 * DAY)).toISOString(),
  };
}

const startOf = (day) => new Date(`${day}T00:00`);
const midnight = (time) => new Date(time.getFullYear(), time.getMonth(), time.getDate());

export function AuditFilter({ filter, change }) {
  return html`
    <form class="filters audit-filters" role="search" onSubmit=${(event) => event.preventDefault()}>
      <select aria-label="Type of event" value=${filter.type} onChange=${(event) => change({ type: event.target.value })}>
        <option value="">All events</option>
        ${filter.type && !eventTypes().includes(filter.type) && html`<option value=${filter.type}>${eventName(filter.type)}</option>`}
        ${Object.entries(EVENT_TYPES).map(([group, types]) => html`
          <optgroup label=${group}>${Object.entries(types).map(([type, name]) => html`<option value=${type}>${name}</option>`)}</optgroup>`)}
      </select>
      <${Lookup} key=${`subject ${filter.subject}`} label="About" words=${SUBJECTS} accounts=${isOperator()} value=${filter.subject}
        onChange=${(subject) => change({ subject })} />
      <${Lookup} key=${`actor ${filter.actor}`} label="Done by" words=${ACTORS} value=${filter.actor}
        onChange=${(actor) => change({ actor })} />
      <label class="day">From <input type="date" value=${filter.since} max=${filter.until} onChange=${(event) => change({ since: event.target.value })} /></label>
      <label class="day">To <input type="date" value=${filter.until} min=${filter.since} onChange=${(event) => change({ until: event.target.value })} /></label>
    </form>`;
}

const eventTypes = () => Object.values(EVENT_TYPES).flatMap((it) => Object.keys(it));

// A field that takes an identifier, one of some words, or a name or prefix that it searches for.
function Lookup({ label, words, accounts = false, value, onChange }) {
  const id = useId('lookup');
  const shown = knownNames().get(value) || value;
  const [text, setText] = useState(shown);
  const [matches, setMatches] = useState(null);
  const { run, busy, error } = useTask();
  const commit = () => {
    const wanted = text.trim();
    if (wanted === shown) {
      return;
    }
    if (wanted === '' || ID.test(wanted) || words.includes(wanted)) {
      onChange(wanted);
      return;
    }
    run(async () => {
      const found = await search(wanted, accounts);
      found.forEach((it) => knownNames().set(it.id, it.name));
      return found.length === 1 ? onChange(found[0].id) : setMatches(found);
    });
  };
  const typed = (event) => {
    setText(event.target.value);
    setMatches(null);
    // The cross of the field is no key that a person presses.
    if (event.target.value === '' && value) {
      onChange('');
    }
  };
  const keydown = (event) => event.key === 'Enter' && commit();
  return html`
    <div class="lookup">
      <input type="search" aria-label=${label} placeholder=${`${label}…`} title="A name, a key prefix or an id" list=${`${id}-words`} value=${text}
        aria-busy=${busy ? 'true' : 'false'} autocomplete="off" spellcheck="false" aria-describedby=${`${id}-matches`}
        onInput=${typed} onChange=${commit} onKeyDown=${keydown} />
      <datalist id=${`${id}-words`}>${words.map((it) => html`<option value=${it}></option>`)}</datalist>
      <div id=${`${id}-matches`} aria-live="polite"><${Matches} matches=${matches} onChange=${onChange} /></div>
      <${ErrorBox} error=${error} />
    </div>`;
}

function Matches({ matches, onChange }) {
  if (!matches) {
    return null;
  }
  if (matches.length === 0) {
    return html`<p class="found muted">Nothing matches. A revoked key is found only by its id.</p>`;
  }
  return html`
    <div class="found"><small>Which one?</small><ul class="matches">
      ${matches.map((it) => html`
        <li key=${it.id}><button type="button" class="secondary" onClick=${() => onChange(it.id)}>${it.name}${' '}
          <small>${isAccount(it.id) ? 'account' : it.keyPrefix}</small></button></li>`)}
    </ul></div>`;
}

async function search(q, accounts) {
  const { api } = session();
  const query = { q, limit: MOST_MATCHES, account: isOperator() ? 'all' : null, order: 'desc' };
  const [keys, owners] = await Promise.all([
    can('api-keys:read', 'accounts:read') ? api.get('api-keys', query) : { data: [] },
    accounts ? api.get('accounts', { q, limit: MOST_MATCHES }) : { data: [] },
  ]);
  return [...owners.data, ...keys.data].slice(0, MOST_MATCHES);
}

// Returns the filter in words, for the name of a file.
export const filterWords = (filter) => [filter.type, filter.subject, filter.actor, filter.since, filter.until]
  .filter(Boolean).join('_').replace(/[^0-9A-Za-z_.-]/g, '-') || 'all';
