// The changes of an account that stop or start its keys.

import { html, useState } from './html.js';
import { ifMatch } from './api.js';
import { TextField } from './fields.js';
import { plural } from './format.js';
import { useLoad, useTask } from './hooks.js';
import { session } from './session.js';
import { Actions, Button, Dialog, ErrorBox, Loading, Notice, useId } from './ui.js';

// Loads how many keys the account has.
const useKeyCount = (account) => useLoad(
  (signal) => session().api.get('api-keys', { account: account.id, limit: 1, total: true }, { signal }).then((it) => it.total),
  [account.id],
);

// Says that another person changed the account since the page loaded it.
function Failure({ error, onReload }) {
  if (error?.status !== 412) {
    return html`<${ErrorBox} error=${error} />`;
  }
  return html`
    <${Notice} kind="warning"><p>Another person changed the account since this page loaded it. Nothing was changed.</p>
      <${Button} onClick=${onReload}>Load it again<//><//>`;
}

// Suspends the account or activates it again. Calls `onClose(changed)`.
export function SwitchAccount({ account, onClose }) {
  const active = account.status === 'active';
  const keys = useKeyCount(account);
  const { run, busy, error } = useTask();
  const submit = (event) => {
    event.preventDefault();
    run(async () => {
      await session().api.patch(`accounts/${account.id}`, { status: active ? 'suspended' : 'active' }, ifMatch(account.etag));
      onClose(true);
    });
  };
  const count = plural(keys.data ?? 0, 'key');
  return html`
    <${Dialog} title=${`${active ? 'Suspend' : 'Activate'} ${account.name}`} onClose=${busy ? undefined : () => onClose(false)}>
      <form onSubmit=${submit}>
        ${keys.data === undefined && !keys.error && html`<${Loading} />`}
        ${keys.data !== undefined && html`<p>${active
          ? `The account has ${count}. Each of them is refused at once, until you activate the account again.`
          : `The account has ${count}. Those that are enabled and not expired work again at once.`}</p>`}
        <${ErrorBox} error=${keys.error} retry=${keys.reload} />
        <${Failure} error=${error} onReload=${() => onClose(true)} />
        <${Actions}>
          <${Button} disabled=${busy} onClick=${() => onClose(false)}>Cancel<//>
          <${Button} kind=${active ? 'danger' : 'primary'} type="submit" busy=${busy}>${active ? `Suspend and stop ${count}` : 'Activate'}<//>
        <//>
      </form>
    <//>`;
}

// Deletes the account and revokes its keys. Calls `onClose(changed, gone)`.
export function DeleteAccount({ account, onClose }) {
  const [typed, setTyped] = useState('');
  const [reason, setReason] = useState('');
  const keys = useKeyCount(account);
  const { run, busy, error } = useTask();
  const id = useId('delete');
  const named = typed.trim() === account.name.trim();
  const submit = (event) => {
    event.preventDefault();
    if (named) {
      run(async () => {
        await session().api.delete(`accounts/${account.id}`, { reason: reason.trim() }, ifMatch(account.etag));
        onClose(true, true);
      });
    }
  };
  return html`
    <${Dialog} title=${`Delete ${account.name}`} onClose=${busy ? undefined : () => onClose(false)}>
      <form onSubmit=${submit}>
        <p>This revokes ${keys.data === undefined ? 'all keys' : plural(keys.data, 'key')} of the account at once. It cannot be undone.
          The events of the account stay in the audit log.</p>
        <${TextField} label="Reason" value=${reason} onChange=${setReason} maxlength="200" placeholder="Contract ended"
          help="It stays in the audit log, and the account can read it." />
        <label for=${id}>To confirm, type the name of the account, <strong>${account.name}</strong></label>
        <input id=${id} autocomplete="off" spellcheck="false" value=${typed} onInput=${(event) => setTyped(event.target.value)} />
        <${Failure} error=${error} onReload=${() => onClose(true)} />
        <${Actions}>
          <${Button} disabled=${busy} onClick=${() => onClose(false)}>Cancel<//>
          <${Button} kind="danger" type="submit" disabled=${!named} busy=${busy}>Delete account<//>
        <//>
      </form>
    <//>`;
}
