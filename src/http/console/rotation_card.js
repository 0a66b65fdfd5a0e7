// What the page of a key shows while old credentials still work.

import { html } from './html.js';
import { openDialog } from './dialogs.js';
import { useNow } from './hooks.js';
import { rights } from './rights.js';
import { EndGrace } from './rotate_key.js';
import { Ago, Button, Countdown, Notice, inGrace } from './ui.js';

export function RotationCard({ keyRecord, reload }) {
  const now = useNow();
  const old = inGrace(keyRecord, now);
  if (old.length === 0) {
    return null;
  }
  const end = () => openDialog((close) => html`
    <${EndGrace} keyRecord=${keyRecord} onClose=${(changed) => {
      close();
      if (changed !== undefined) {
        reload();
      }
    }} />`);
  return html`
    <section class="card rotation" aria-labelledby="rotation">
      <header>
        <div><h2 id="rotation">Rotation in progress</h2><p class="muted">Rotated <${Ago} time=${keyRecord.rotatedAt} /></p></div>
        ${rights(keyRecord).edit && html`<${Button} onClick=${end}>End grace now<//>`}
      </header>
      <div aria-live="polite"><${Progress} keyRecord=${keyRecord} old=${old} /></div>
      <ul>
        ${old.map((it) => html`
          <li key=${it.keyPrefix}>
            <code>${it.keyPrefix}…</code>
            <span>ends in <strong><${Countdown} end=${it.validUntil} onEnd=${reload} /></strong></span>
            <span class="muted">last used <${Ago} time=${it.lastUsedAt} none="never" /></span>
          </li>`)}
      </ul>
    </section>`;
}

// Whether the callers use the new credential. `lastUsedAt` of the key is that of all its credentials.
function Progress({ keyRecord, old }) {
  const { rotatedAt, lastUsedAt } = keyRecord;
  const since = (time) => Boolean(time) && Date.parse(rotatedAt) < Date.parse(time);
  const late = old.map((it) => it.lastUsedAt).filter(since).sort().at(-1);
  if (late) {
    return html`<${Notice} kind="warning"><p>An old credential was used <${Ago} time=${late} />. Its caller has not moved yet.</p><//>`;
  }
  if (since(lastUsedAt)) {
    return html`<${Notice} kind="success"><p><strong>All callers have moved.</strong> Since the rotation, only the new credential
      was used.</p><//>`;
  }
  return html`<${Notice}><p>The key was not used since its rotation. Its callers still need the new credential.</p><//>`;
}
