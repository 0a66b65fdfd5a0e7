// The choice of when a key expires.

import { html } from './html.js';
import { DAY, SECOND, date, dateTime } from './format.js';
import { isOwnKey } from './rights.js';
import { session } from './session.js';
import { Choices, Fault, described } from './fields.js';
import { useId } from './ui.js';

const PRESETS = [['30', '30 days', 30], ['90', '90 days', 90], ['365', '1 year', 365]];
const DEFAULT = '90';

// Returns the latest end that a key may get: `{ at, why }` with `at` in milliseconds, or null. The
// server can have a maximum of its own that the page does not know.
export function latestEnd(account, key, now) {
  const ends = [];
  if (account.maxKeyLifetimeSeconds !== null) {
    const start = key ? Date.parse(key.rotatedAt ?? key.createdAt) : now;
    const at = start + account.maxKeyLifetimeSeconds * SECOND;
    ends.push({ at, seconds: key ? null : account.maxKeyLifetimeSeconds, why: 'The account allows no later end.' });
  }
  const { expiresAt, consoleLink } = session().self;
  // The key of a console link ends soon, but the keys that its holder makes may live on.
  if (expiresAt && !consoleLink && !(key && isOwnKey(key))) {
    ends.push({ at: Date.parse(expiresAt), seconds: null, why: 'Your own key ends then, and gives no later end.' });
  }
  return ends.sort((a, b) => a.at - b.at)[0] ?? null;
}

// Returns the choices, `[value, label]`. `key` is the key that is changed, or null for a new one.
export function expiryChoices(latest, key, now) {
  const fits = (days) => !latest || now + days * DAY <= latest.at;
  return [
    ...(key ? [['keep', 'Unchanged']] : []),
    ...PRESETS.filter(([, , days]) => fits(days)).map(([value, label]) => [value, label]),
    ...(latest && latest.at > now ? [['latest', 'Latest possible']] : []),
    ['date', 'Date'],
    ...(latest ? [] : [['never', 'Never']]),
  ];
}

// Returns the choice for a new key: 90 days, or as long as possible if that is shorter.
export function defaultExpiry(latest, now) {
  const choices = expiryChoices(latest, null, now).map(([value]) => value);
  return { choice: choices.includes(DEFAULT) ? DEFAULT : 'latest', date: '' };
}

// Returns the members of a request for a choice. Throws if no date was chosen.
export function expiryMembers({ choice, date }, latest) {
  const days = PRESETS.find(([value]) => value === choice)?.[2];
  if (days) {
    return { expiresIn: days * (DAY / SECOND) };
  }
  if (choice === 'latest') {
    return latest.seconds ? { expiresIn: latest.seconds } : { expiresAt: new Date(latest.at).toISOString() };
  }
  if (choice === 'date') {
    return { expiresAt: endOf(date, latest) };
  }
  return choice === 'never' ? { expiresAt: null } : {};
}

// Returns the end of the day in the time zone of the browser, or the latest end within that day.
function endOf(day, latest) {
  const end = new Date(`${day}T23:59:59.999`);
  if (Number.isNaN(end.getTime())) {
    throw Object.assign(new Error('The form is not complete.'), {
      faults: [{ pointer: '/expiresAt', detail: 'Choose the last day on which the key is valid.' }],
    });
  }
  const onLastDay = latest && latest.at < end && dayOf(latest.at) === day;
  return (onLastDay ? new Date(latest.at) : end).toISOString();
}

function dayOf(millis) {
  const it = new Date(millis);
  const two = (value) => String(value).padStart(2, '0');
  return `${it.getFullYear()}-${two(it.getMonth() + 1)}-${two(it.getDate())}`;
}

export function ExpiryField({ value, onChange, latest, keyRecord = null, now, faults }) {
  const id = useId('expiry');
  return html`
    <${Choices} legend="Expiry" choices=${expiryChoices(latest, keyRecord, now)} value=${value.choice}
      onChange=${(choice) => onChange({ ...value, choice })}>
      ${value.choice === 'date' && html`
        <label class="date" for=${id}>Valid until the end of
          <input id=${id} type="date" min=${dayOf(now)} max=${latest ? dayOf(latest.at) : null} value=${value.date}
            ...${described(id, faults, false)} onInput=${(event) => onChange({ ...value, date: event.target.value })} />
        </label>`}
      <${Meaning} choice=${value.choice} latest=${latest} keyRecord=${keyRecord} now=${now} />
      <${Fault} id=${`${id}-fault`} faults=${faults} />
    <//>`;
}

function Meaning({ choice, latest, keyRecord, now }) {
  const days = PRESETS.find(([value]) => value === choice)?.[2];
  if (days) {
    return html`<small>The key expires on ${date(now + days * DAY)}.</small>`;
  }
  if (choice === 'latest') {
    return html`<small>The key expires on ${dateTime(latest.at)}. ${latest.why}</small>`;
  }
  if (choice === 'never') {
    return html`<p class="notice warning">A key without an end stays a risk: if it leaks unseen, it works until a person
      revokes it. Prefer an end, and rotate the key before it.</p>`;
  }
  if (choice === 'keep') {
    return html`<small>${keyRecord.expiresAt ? `The key expires on ${dateTime(keyRecord.expiresAt)}.` : 'The key never expires.'}</small>`;
  }
  return null;
}
