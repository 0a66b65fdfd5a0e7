// A link with which the holder of an account manages its keys on this page.

import { html, useState } from './html.js';
import { Choices, TextField, faultsIn } from './fields.js';
import { dateTime } from './format.js';
import { useMade, useTask } from './hooks.js';
import { grantable } from './rights.js';
import { ScopePicker } from './scope_picker.js';
import { session } from './session.js';
import { Actions, Button, Copy, Dialog, ErrorBox, Notice } from './ui.js';

// The server's default can be configured, so the page does not know it.
const DEFAULT = 0;
const LIFETIMES = [[DEFAULT, 'Default of the server'], [900, '15 minutes'], [3600, '1 hour'], [14_400, '4 hours'], [86_400, '24 hours']];
const AT_FIELDS = ['name', 'scopes', 'expiresIn'];

export function ConsoleLink({ account, onClose }) {
  const { made, setMade, close, closed } = useMade(() => onClose(false));
  return closed ? null : html`
    <${Dialog} key=${made ? 'made' : 'form'} title=${made ? 'Send the link now' : `Console link for ${account.name}`} wide=${true} onClose=${made ? undefined : close}>
      ${made ? html`<${Made} made=${made} account=${account} onClose=${close} />` : html`<${Form} account=${account} onMade=${setMade} onCancel=${close} />`}
    <//>`;
}

function Form({ account, onMade, onCancel }) {
  const [draft, setDraft] = useState({ name: '', expiresIn: DEFAULT, choose: false, scopes: [] });
  const { run, busy, error } = useTask();
  const set = (part) => setDraft((last) => ({ ...last, ...part }));
  const submit = (event) => {
    event.preventDefault();
    const { name, expiresIn, choose, scopes } = draft;
    const body = { name: name.trim() || undefined, expiresIn: expiresIn || undefined, scopes: choose ? scopes : undefined };
    run(async () => onMade(await session().api.postForKey(`accounts/${account.id}/console-links`, body)));
  };
  return html`
    <form noValidate onSubmit=${submit}>
      <p>With the link, a person of the customer opens this console and manages the keys of the account. It works in the first
        browser that opens it, and no longer than you choose.</p>
      <${TextField} label="Name of the person" value=${draft.name} onChange=${(name) => set({ name })} maxlength="100" placeholder="Console link" autofocus
        help="The audit log shows it." faults=${faultsIn(error, 'name')} />
      <${Choices} legend="Works for" choices=${LIFETIMES} value=${draft.expiresIn} onChange=${(expiresIn) => set({ expiresIn })} />
      <label class="switch"><input type="checkbox" role="switch" checked=${draft.choose}
        onChange=${(event) => set({ choose: event.target.checked })} /> Choose the scopes</label>
      ${draft.choose ? html`<${ScopePicker} offered=${grantable(account)} value=${draft.scopes} onChange=${(scopes) => set({ scopes })}
        faults=${faultsIn(error, 'scopes')} />`
        : html`<p class="muted">Without a choice, the link may manage keys, read the events of the account, and give to keys every
          scope that the account may have.</p>`}
      <${ErrorBox} error=${error} atFields=${AT_FIELDS} />
      <${Actions}>
        <${Button} disabled=${busy} onClick=${onCancel}>Cancel<//>
        <${Button} kind="primary" type="submit" busy=${busy}>Make the link<//>
      <//>
    </form>`;
}

// The link holds a full key, so the page shows it once and keeps it nowhere.
function Made({ made, account, onClose }) {
  const [sent, setSent] = useState(false);
  return html`
    <p>This is the only time that the link is shown. Send it to the person at <strong>${account.name}</strong> now, in a message
      that only this person reads.</p>
    <div class="secret"><code aria-label="The link">${made.url}</code><${Copy} text=${made.url} label="Copy link" /></div>
    <${Notice}><p>The link is refused from ${dateTime(made.expiresAt)} on. To end it earlier, revoke its key
      ${made.apiKey && html` <strong>${made.apiKey.name}</strong>`} in the account.</p><//>
    <label class="stored"><input type="checkbox" checked=${sent} onChange=${(event) => setSent(event.target.checked)} /> I have copied the link</label>
    <${Actions}><${Button} kind="primary" disabled=${!sent} onClick=${onClose}>Close<//><//>`;
}
