// The dialogs that change the settings of a key.

import { html, useMemo, useState } from './html.js';
import { ifMatch } from './api.js';
import { useAccount } from './create_key.js';
import { latestEnd } from './expiry.js';
import { useFaultFocus } from './fields.js';
import { useTask } from './hooks.js';
import { Loaded, Stale } from './key_dialog.js';
import { KeyForm, changes, draftOf } from './key_form.js';
import { grantable } from './rights.js';
import { session, updateSelf } from './session.js';
import { Actions, Ago, Button, Dialog, ErrorBox, Loading, Notice } from './ui.js';

async function patch(key, body) {
  const changed = await session().api.patch(`api-keys/${key.id}`, body, ifMatch(key.etag));
  updateSelf(changed);
  return changed;
}

// Calls `onClose` with the changed key, or with nothing.
export function EditKey({ keyRecord, onClose }) {
  const { data: account, error, reload } = useAccount(keyRecord.accountId);
  if (!account) {
    return html`<${Dialog} title="Edit key" wide=${true} onClose=${() => onClose()}>
      ${error ? html`<${ErrorBox} error=${error} retry=${reload} />` : html`<${Loading} />`}<//>`;
  }
  return html`
    <${Dialog} title=${`Edit ${keyRecord.name}`} wide=${true} onClose=${() => onClose()}>
      <${Loaded} id=${keyRecord.id} content=${(loaded) => html`
        <${EditForm} keyRecord=${loaded.key} reload=${loaded.reload} account=${account} onClose=${onClose} />`} />
    <//>`;
}

function EditForm({ keyRecord, reload, account, onClose }) {
  const now = useMemo(() => Date.now(), []);
  const latest = useMemo(() => latestEnd(account, keyRecord, now), []);
  const before = useMemo(() => draftOf(keyRecord), []);
  const [draft, setDraft] = useState(before);
  const { run, busy, error } = useTask();
  const form = useFaultFocus(error);
  const submit = (event) => {
    event.preventDefault();
    run(async () => {
      const body = changes(draft, before, latest);
      onClose(Object.keys(body).length > 0 ? await patch(keyRecord, body) : undefined);
    });
  };
  return html`
    <form ref=${form} noValidate onSubmit=${submit}>
      <${KeyForm} draft=${draft} setDraft=${setDraft} offered=${offeredTo(keyRecord, account)} account=${account} latest=${latest}
        keyRecord=${keyRecord} now=${now} error=${error} />
      <${Stale} error=${error} reload=${reload} />
      <${Actions}>
        <${Button} disabled=${busy} onClick=${() => onClose()}>Cancel<//>
        <${Button} kind="primary" type="submit" busy=${busy}>Save<//>
      <//>
    </form>`;
}

// A key may keep the scopes that it has, also those that the caller cannot give.
function offeredTo(key, account) {
  const may = new Set(grantable(account).map((it) => it.name));
  const catalogue = session().scopes;
  const known = new Set(catalogue.map((it) => it.name));
  const removed = key.scopes.filter((it) => !known.has(it))
    .map((name) => ({ name, description: 'Not in the catalogue any more: it grants nothing', reserved: false }));
  return [...catalogue.filter((it) => may.has(it.name) || key.scopes.includes(it.name)), ...removed];
}

// Asks before a key is disabled or enabled.
export function SwitchKey({ keyRecord, onClose }) {
  const [wanted] = useState(!keyRecord.enabled);
  const name = wanted ? 'Enable' : 'Disable';
  return html`
    <${Dialog} title=${`${name} ${keyRecord.name}`} onClose=${() => onClose()}>
      <${Loaded} id=${keyRecord.id} content=${(loaded) => html`
        <${SwitchForm} keyRecord=${loaded.key} reload=${loaded.reload} wanted=${wanted} name=${name} onClose=${onClose} />`} />
    <//>`;
}

function SwitchForm({ keyRecord, reload, wanted, name, onClose }) {
  const { run, busy, error } = useTask();
  const submit = (event) => {
    event.preventDefault();
    run(async () => onClose(await patch(keyRecord, { enabled: wanted })));
  };
  return html`
    <form onSubmit=${submit}>
      ${wanted ? html`<p>The key is accepted again at once.</p>` : html`
        <${Notice} kind="warning">
          <p>The key is refused at once, until it is enabled again. Last used: <${Ago} time=${keyRecord.lastUsedAt} none="never" />.</p>
        <//>`}
      <${Stale} error=${error} reload=${reload} />
      <${Actions}>
        <${Button} disabled=${busy} onClick=${() => onClose()}>Cancel<//>
        <${Button} kind=${wanted ? 'primary' : 'danger'} type="submit" busy=${busy}>${name} key<//>
      <//>
    </form>`;
}
