// The dialog that creates a key, and then reveals it.

import { html, useMemo, useState } from './html.js';
import { defaultExpiry, latestEnd } from './expiry.js';
import { useFaultFocus } from './fields.js';
import { useLoad, useMade, useTask } from './hooks.js';
import { AT_FIELDS, KeyForm, NEW_DRAFT, Repeating, changes } from './key_form.js';
import { Reveal, STORE } from './reveal.js';
import { grantable, isOwnAccount } from './rights.js';
import { session } from './session.js';
import { Actions, Button, Dialog, ErrorBox, Loading } from './ui.js';

// Loads the account of a key. Null stands for the own account.
export const useAccount = (account) => useLoad((signal) => session().api.get(
  `accounts/${isOwnAccount(account) ? 'self' : account}`, {}, { signal },
), [account]);

// Calls `onClose` with the new key, without its plaintext, or with nothing. With `own`, the key is for the
// person at the page.
export function CreateKey({ account, own = false, onClose }) {
  const { data, error, reload } = useAccount(account);
  const { made, setMade, close, closed } = useMade(onClose);
  const [busy, setBusy] = useState(false);
  return closed ? null : html`
    <${Dialog} key=${made ? 'made' : 'form'} title=${made ? STORE : own ? 'Create your own key' : 'Create key'} wide=${true} onClose=${made || busy ? undefined : close}>
      ${made && html`<${Reveal} made=${made} onClose=${close}>
        ${own && html`<p>Open the console with this key from now on: after you stored it, choose “Forget the key” at the top of the page,
          and keep the root key for emergencies.</p>`}
      <//>`}
      ${!made && data && html`<${Form} account=${data} own=${own} onMade=${setMade} onCancel=${close} onBusy=${setBusy} />`}
      ${!made && !data && (error ? html`<${ErrorBox} error=${error} retry=${reload} />` : html`<${Loading} />`)}
    <//>`;
}

function Form({ account, own, onMade, onCancel, onBusy }) {
  const now = useMemo(() => Date.now(), []);
  const latest = useMemo(() => latestEnd(account, null, now), [account]);
  const [draft, setDraft] = useState(() => ({
    ...NEW_DRAFT, ...(own && { scopes: ['*'] }), expiry: defaultExpiry(latest, now),
  }));
  const { run, busy, error } = useTask();
  const form = useFaultFocus(error);
  const submit = (event) => {
    event.preventDefault();
    run(async () => {
      onBusy(true);
      try {
        onMade(await create(account, { name: '', scopes: [], ...changes(draft, NEW_DRAFT, latest) }));
      } finally {
        onBusy(false);
      }
    });
  };
  return html`
    <form ref=${form} noValidate onSubmit=${submit}>
      <${KeyForm} draft=${draft} setDraft=${setDraft} offered=${grantable(account)} account=${account} latest=${latest}
        now=${now} error=${error} ...${own && { nameHelp: 'Your own name. The audit log shows it for all that you do with the key.' }} />
      <${ErrorBox} error=${error} atFields=${AT_FIELDS} />
      <${Repeating} busy=${busy} error=${error}>The server makes the key only once.<//>
      <${Actions}>
        <${Button} disabled=${busy} onClick=${onCancel}>Cancel<//>
        <${Button} kind="primary" type="submit" busy=${busy}>Create key<//>
      <//>
    </form>`;
}

function create(account, body) {
  const path = isOwnAccount(account.id) ? 'api-keys' : `accounts/${account.id}/api-keys`;
  return session().api.postForKey(path, body);
}
