// Lets operators choose whose keys a view shows: their own, all, or those of an account.

import { html, useState } from './html.js';
import { useTask } from './hooks.js';
import { isAccount } from './names.js';
import { go, useRoute } from './route.js';
import { isOperator, session } from './session.js';
import { Actions, Button, Dialog, ErrorBox } from './ui.js';

const MOST = 8;
const SEARCH = 'search';

export function AccountSwitch({ account }) {
  const { view } = useRoute();
  const [searching, setSearching] = useState(false);
  if (!isOperator()) {
    return null;
  }
  const own = session().account;
  const change = (event) => {
    const { value } = event.target;
    if (value !== SEARCH) {
      return go(view, null, { account: value });
    }
    event.target.value = account ?? '';
    return setSearching(true);
  };
  const inside = isAccount(account) && account !== own.id;
  return html`
    <select aria-label="Account" value=${inside ? account : account === 'all' ? 'all' : ''} onChange=${change}>
      <option value="">${own.name} (own account)</option>
      <option value="all">All accounts</option>
      ${inside && html`<option value=${account}>This account</option>`}
      <option value=${SEARCH}>Another account…</option>
    </select>
    ${searching && html`<${Search} onClose=${(id) => {
      setSearching(false);
      if (id) {
        go(view, null, { account: id });
      }
    }} />`}`;
}

function Search({ onClose }) {
  const [text, setText] = useState('');
  const [found, setFound] = useState(null);
  const { run, busy, error } = useTask();
  const submit = (event) => {
    event.preventDefault();
    run(async () => setFound((await session().api.get('accounts', { q: text.trim(), limit: MOST })).data));
  };
  return html`
    <${Dialog} title="Choose an account" onClose=${() => onClose()}>
      <form role="search" class="filters" onSubmit=${submit}>
        <input type="search" aria-label="Account" placeholder="Name, external id or id" maxlength="100" autofocus value=${text}
          onInput=${(event) => setText(event.target.value)} />
        <${Button} type="submit" busy=${busy}>Search<//>
      </form>
      <${ErrorBox} error=${error} />
      <div aria-live="polite">
        ${found?.length === 0 && html`<p class="muted">No account matches.</p>`}
        <ul class="matches">${found?.map((it) => html`
          <li key=${it.id}><button type="button" class="secondary" onClick=${() => onClose(it.id)}>${it.name}${' '}
            <small>${it.externalId}</small></button></li>`)}</ul>
      </div>
      <${Actions}><${Button} onClick=${() => onClose()}>Cancel<//><//>
    <//>`;
}
