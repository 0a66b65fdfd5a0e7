// Parts that all views use.

import { html, useEffect, useLayoutEffect, useRef, useState } from './html.js';
import { DAY, ago, countdown, dateTime, plural } from './format.js';
import { useNow } from './hooks.js';

let lastId = 0;
// Returns an identifier for an element that stays the same while the component is shown.
export function useId(name) {
  const id = useRef(null);
  id.current ??= `${name}-${(lastId += 1)}`;
  return id.current;
}

// The frame of a view: a heading, actions beside it, and the content. Sets the title of the window.
export function View({ title, note, actions, children }) {
  useEffect(() => {
    document.title = `${title} · keyward`;
  }, [title]);
  return html`
    <div class="view">
      <header class="view-head">
        <div><h1>${title}</h1>${note && html`<p class="muted">${note}</p>`}</div>
        ${actions && html`<div class="actions">${actions}</div>`}
      </header>
      ${children}
    </div>`;
}

// A modal dialog. `onClose` is called for Escape and the closing button; without it, only an action of
// the content closes the dialog.
export function Dialog({ title, onClose, wide, children }) {
  const dialog = useRef(null);
  const id = useId('dialog');
  useLayoutEffect(() => {
    const before = document.activeElement;
    const element = dialog.current;
    element.showModal();
    // While the dialog is open, nothing outside it can get the focus.
    return () => {
      element.close();
      before?.isConnected && before.focus();
    };
  }, []);
  const cancel = (event) => {
    event.preventDefault();
    onClose?.();
  };
  // Some browsers close a dialog at the second Escape, even if `cancel` was prevented.
  const keydown = (event) => event.key === 'Escape' && cancel(event);
  return html`
    <dialog ref=${dialog} aria-labelledby=${id} onCancel=${cancel} onKeyDown=${keydown}>
      <article class=${wide ? 'wide' : ''}>
        <header>
          <h2 id=${id}>${title}</h2>
          ${onClose && html`<button type="button" class="dismiss" aria-label="Close" onClick=${onClose}>×</button>`}
        </header>
        ${children}
      </article>
    </dialog>`;
}

// The buttons at the end of a dialog or form.
export const Actions = ({ children }) => html`<footer class="form-actions">${children}</footer>`;

// A button that shows that its task runs, and cannot be pressed meanwhile.
export function Button({ busy, kind = 'secondary', children, ...rest }) {
  return html`
    <button type="button" class=${kind} aria-busy=${busy ? 'true' : 'false'} ...${rest} disabled=${busy || rest.disabled}>
      ${children}
    </button>`;
}

// Returns the member of the body in which a fault lies.
export const memberOf = (fault) => fault.pointer.split('/')[1] ?? '';

// What went wrong, with what a person needs to report it. Faults in the members `atFields` are left
// out, because the form shows them at its fields.
export function ErrorBox({ error, retry, atFields = [] }) {
  if (!error) {
    return null;
  }
  const faults = (error.faults ?? []).filter((it) => !atFields.includes(memberOf(it)));
  return html`
    <div class="notice error" role="alert">
      <p>${summaryOf(error, faults)}</p>
      ${faults.length > 0 && html`
        <ul>${faults.map((it) => html`<li><code>${it.pointer.replace(/^\//, '')}</code> ${it.detail}</li>`)}</ul>`}
      ${error.retryAfter && html`<p>Try again in ${plural(error.retryAfter, 'second')}.</p>`}
      ${error.requestId && html`<p class="muted">Request <code>${error.requestId}</code>${error.code && html` · <code>${error.code}</code>`}</p>`}
      ${retry && html`<${Button} onClick=${retry}>Try again<//>`}
    </div>`;
}

function summaryOf(error, faults) {
  if (error.faults?.length > 0) {
    return faults.length > 0 ? 'The server does not accept these values:' : 'Correct the marked fields.';
  }
  return capital(error.detail ?? error.message);
}

export const Notice = ({ kind = 'info', children }) =>
  html`<div class=${`notice ${kind}`} role=${kind === 'info' ? 'note' : 'status'}>${children}</div>`;

// What a view shows in place of an empty list.
export const Empty = ({ title, children }) =>
  html`<div class="empty"><h2>${title}</h2>${children}</div>`;

export const Loading = () => html`<p class="loading" aria-busy="true" role="status">Loading…</p>`;

// A time in words, with the exact time on hover. `none` is shown for null.
export function Ago({ time, none = 'Never' }) {
  const now = useNow(15_000);
  if (!time) {
    return html`<span class="muted">${none}</span>`;
  }
  return html`<time datetime=${time} title=${dateTime(time)}>${ago(time, now)}</time>`;
}

// The time that is left until `end`, counted down each second. Calls `onEnd` once at its end.
export function Countdown({ end, onEnd }) {
  const now = useNow();
  const left = Date.parse(end) - now;
  useEffect(() => {
    if (left <= 0) {
      onEnd?.();
    }
  }, [left <= 0]);
  return html`<span class="countdown" role="timer">${countdown(left)}</span>`;
}

export function Chips({ names, most = names.length, label }) {
  const rest = names.slice(most);
  return html`
    <ul class="chips" aria-label=${label}>
      ${names.slice(0, most).map((it) => html`<li key=${it}><code>${it}</code></li>`)}
      ${rest.length > 0 && html`<li title=${rest.join(', ')}>+${rest.length}</li>`}
    </ul>`;
}

// Returns the credentials of a key that still work beside the current one.
export const inGrace = (key, now) => key.previousKeys.filter((it) => now < Date.parse(it.validUntil));

// Returns the status of a key as the table sorts and shows it.
export function statusOf(key, now) {
  const ends = key.expiresAt && Date.parse(key.expiresAt);
  if (!key.enabled) {
    return 'disabled';
  }
  if (ends && ends <= now) {
    return 'expired';
  }
  if (inGrace(key, now).length > 0) {
    return 'rotating';
  }
  return ends && ends - now < 7 * DAY ? 'expiring' : 'active';
}

export function Status({ keyRecord }) {
  const now = useNow();
  const status = statusOf(keyRecord, now);
  const end = { rotating: inGrace(keyRecord, now).at(-1)?.validUntil, expiring: keyRecord.expiresAt }[status];
  return html`
    <span class=${`status ${status}`}>${capital(status)}${end && html` <small>${countdown(Date.parse(end) - now)} left</small>`}</span>`;
}

// Copies a text and says so. On a page without https the browser has no clipboard for scripts.
export function Copy({ text, label = 'Copy' }) {
  const [result, setResult] = useState(null);
  useEffect(() => {
    const timer = result && setTimeout(() => setResult(null), 3000);
    return () => clearTimeout(timer);
  }, [result]);
  const copy = async (event) => {
    const button = event.currentTarget;
    const done = await copied(text);
    if (!done) {
      select(button);
    }
    setResult(done ? 'Copied ✓' : 'Press Ctrl+C');
  };
  return html`<button type="button" class="secondary copy" onClick=${copy}><span aria-live="polite">${result ?? label}</span></button>`;
}

async function copied(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return copiedByField(text);
  }
}

// The field is there only for the moment of the command, because the text can be a key.
function copiedByField(text) {
  const before = document.activeElement;
  const area = document.createElement('textarea');
  area.value = text;
  area.readOnly = true;
  area.className = 'offscreen';
  (document.querySelector('dialog[open]') ?? document.body).append(area);
  try {
    area.select();
    return document.execCommand('copy');
  } finally {
    area.remove();
    before?.focus();
  }
}

// Selects the text beside the button, for the person to copy it.
function select(button) {
  const around = button.closest(':has(code)');
  if (around) {
    getSelection().selectAllChildren(around.querySelector('code'));
  }
}

export const capital = (text) => `${text.charAt(0).toUpperCase()}${text.slice(1)}`;

// A page of rows with the buttons around it.
export function Pager({ page, pages, onPage }) {
  if (pages <= 1) {
    return null;
  }
  return html`
    <nav class="pager" aria-label="Pages">
      <${Button} disabled=${page === 0} onClick=${() => onPage(page - 1)}>Previous<//>
      <span>Page ${page + 1} of ${pages}</span>
      <${Button} disabled=${page + 1 >= pages} onClick=${() => onPage(page + 1)}>Next<//>
    </nav>`;
}
