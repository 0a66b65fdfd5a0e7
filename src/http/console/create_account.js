// The dialog that creates an account, and then reveals its first key.

import { html, useState } from './html.js';
import { ACCOUNT_FIELDS, AccountForm, NEW_ACCOUNT, accountMembers } from './account_form.js';
import { useFaultFocus } from './fields.js';
import { useMade, useTask } from './hooks.js';
import { Repeating } from './key_form.js';
import { Reveal, STORE } from './reveal.js';
import { session } from './session.js';
import { Actions, Button, Dialog, ErrorBox } from './ui.js';

// Calls `onClose` with the new account, without the plaintext of its key, or with nothing.
export function CreateAccount({ onClose }) {
  const { made, setMade, close, closed } = useMade(onClose, 'apiKey');
  const [draft, setDraft] = useState(NEW_ACCOUNT);
  const { run, busy, error } = useTask();
  const form = useFaultFocus(error);
  const submit = (event) => {
    event.preventDefault();
    run(async () => setMade(await session().api.postForKey('accounts', accountMembers(draft))));
  };
  if (closed) {
    return null;
  }
  if (made) {
    return html`
      <${Dialog} key="made" title=${STORE} wide=${true}>
        <${Reveal} made=${made.apiKey} onClose=${close}>
          <p>It is the first key of <strong>${made.name}</strong>. With it the customer manages the other keys of the account.
            Hand it over in a safe way, not by mail.</p>
        <//>
      <//>`;
  }
  return html`
    <${Dialog} key="form" title="Create account" wide=${true} onClose=${busy ? undefined : () => onClose()}>
      <form ref=${form} noValidate onSubmit=${submit}>
        <${AccountForm} draft=${draft} setDraft=${setDraft} error=${error} />
        <${ErrorBox} error=${error} atFields=${ACCOUNT_FIELDS} />
        <${Repeating} busy=${busy} error=${error}>The server makes the account only once.<//>
        <${Actions}>
          <${Button} disabled=${busy} onClick=${() => onClose()}>Cancel<//>
          <${Button} kind="primary" type="submit" busy=${busy}>Create account<//>
        <//>
      </form>
    <//>`;
}
