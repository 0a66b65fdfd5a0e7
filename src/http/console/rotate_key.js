// The dialogs that give a key a new credential and that end the grace of the old ones.

import { html, useState } from './html.js';
import { ifMatch } from './api.js';
import { Choices } from './fields.js';
import { SECOND, dateTime, plural } from './format.js';
import { useMade, useNow, useTask } from './hooks.js';
import { Loaded, Stale } from './key_dialog.js';
import { Repeating } from './key_form.js';
import { Reveal, STORE } from './reveal.js';
import { isOwnKey } from './rights.js';
import { replaceKey, session } from './session.js';
import { Actions, Ago, Button, Dialog, Notice, inGrace } from './ui.js';

// The server's default can be configured, so the page does not know it.
const DEFAULT = null;
const GRACES = [[DEFAULT, 'Default of the server'], [0, 'Now'], [300, 'In 5 minutes'], [3600, 'In 1 hour'], [86_400, 'In 24 hours'], [604_800, 'In 7 days']];
// A key that rotates itself needs more grace, because a lost answer would lock it out.
const LEAST_OWN_GRACE = 60;

// Calls `onClose` with the rotated key, without its plaintext, or with nothing.
export function Rotate({ keyRecord, onClose }) {
  const { made, setMade, close, closed } = useMade(onClose);
  const [busy, setBusy] = useState(false);
  const rotated = (answer) => {
    if (isOwnKey(answer)) {
      replaceKey(answer);
    }
    setMade(answer);
  };
  return closed ? null : html`
    <${Dialog} key=${made ? 'made' : 'form'} title=${made ? STORE : `Rotate ${keyRecord.name}`} wide=${Boolean(made)} onClose=${made || busy ? undefined : close}>
      ${made ? html`<${Reveal} made=${made} onClose=${close}><${After} made=${made} /><//>`
        : html`<${Loaded} id=${keyRecord.id} content=${({ key, reload }) => html`
          <${RotateForm} keyRecord=${key} reload=${reload} onRotated=${rotated} onBusy=${setBusy} onCancel=${close} />`} />`}
    <//>`;
}

function After({ made }) {
  const old = made.previousKeys.at(-1);
  return html`
    <${Notice}>
      <p>${old ? `Give the key to its callers before ${dateTime(old.validUntil)}. Until then the old credential works too.`
        : 'The old credentials have ended. Callers need the new key now.'}
        ${isOwnKey(made) && ' This page uses the new key already.'}</p>
    <//>`;
}

function RotateForm({ keyRecord, reload, onRotated, onBusy, onCancel }) {
  const own = isOwnKey(keyRecord);
  const [grace, setGrace] = useState(DEFAULT);
  const { run, busy, error } = useTask();
  const graces = GRACES.filter(([it]) => !own || it === DEFAULT || LEAST_OWN_GRACE <= it);
  const submit = (event) => {
    event.preventDefault();
    run(async () => {
      onBusy(true);
      try {
        const path = own ? 'api-keys/self/rotate' : `api-keys/${keyRecord.id}/rotate`;
        const body = grace === DEFAULT ? undefined : { gracePeriodSeconds: grace };
        onRotated(await session().api.postForKey(path, body, ifMatch(keyRecord.etag)));
      } finally {
        onBusy(false);
      }
    });
  };
  return html`
    <form onSubmit=${submit}>
      <p>The key gets a new credential, which is shown once. Its name, scopes and settings stay.</p>
      <${Choices} legend="The old credential ends" choices=${graces} value=${grace} onChange=${setGrace}>
        <${Meaning} grace=${grace} keyRecord=${keyRecord} />
      <//>
      ${own && html`<${Notice}><p>This page uses this key. It continues with the new one.</p><//>`}
      <${Stale} error=${error} reload=${reload} />
      <${Repeating} busy=${busy} error=${error}>The server rotates the key only once.<//>
      <${Actions}>
        <${Button} disabled=${busy} onClick=${onCancel}>Cancel<//>
        <${Button} kind="primary" type="submit" busy=${busy}>Rotate<//>
      <//>
    </form>`;
}

function Meaning({ grace, keyRecord }) {
  const now = useNow();
  const older = inGrace(keyRecord, now).length;
  const end = new Date(Math.min(now + grace * SECOND, Date.parse(keyRecord.expiresAt ?? '9999-12-31')));
  if (grace === 0) {
    return html`<p class="notice warning">${older > 0 ? `All ${older + 1} credentials end` : 'The old credential ends'} at once, and
      callers fail until they have the new key. Choose this if the key has leaked. Last used: <${Ago} time=${keyRecord.lastUsedAt} none="never" />.</p>`;
  }
  return html`
    <small>${grace === DEFAULT ? 'Both work for 5 minutes, unless the server is configured otherwise.'
      : `Both work until ${dateTime(end)}, so that callers move without an outage.`}
      ${older > 0 && ` ${plural(older, 'older credential')} also still ${older === 1 ? 'works' : 'work'}.`}</small>`;
}

// Asks before the grace of all old credentials ends.
export function EndGrace({ keyRecord, onClose }) {
  const { run, busy, error } = useTask();
  const path = `api-keys/${keyRecord.id}/rotate/complete`;
  const end = () => run(async () => onClose(await session().api.post(path, undefined, ifMatch(keyRecord.etag))));
  const used = keyRecord.previousKeys.map((it) => it.lastUsedAt).filter(Boolean).sort().at(-1);
  const unmoved = used && keyRecord.rotatedAt < used;
  const explained = error?.code === 'successor_unused' ? { ...error, detail: SUCCESSOR_UNUSED } : error;
  return html`
    <${Dialog} title="End the grace now" onClose=${busy ? undefined : () => onClose()}>
      <p>Only the current credential <code>${keyRecord.keyPrefix}…</code> stays accepted. The old ones are refused at once.</p>
      ${unmoved && html`<${Notice} kind="warning"><p>An old credential was used <${Ago} time=${used} />. Its caller will fail.</p><//>`}
      <${Stale} error=${explained} reload=${() => onClose(null)} />
      <${Actions}>
        <${Button} autofocus disabled=${busy} onClick=${() => onClose()}>Cancel<//>
        <${Button} kind="danger" busy=${busy} onClick=${end}>End grace now<//>
      <//>
    <//>`;
}

const SUCCESSOR_UNUSED = 'This page uses an old credential of the key, and the new one was never used. Use the new one once, or '
  + 'sign in with it; then the grace can end.';
