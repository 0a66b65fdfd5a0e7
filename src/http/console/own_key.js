// Leads operators from the shared root key to a key of their own.

import { html, useState } from './vendor/htm-preact.js';
import { to, useRoute } from './route.js';
import { can, session } from './session.js';
import { Button } from './ui.js';

// The sessions in which the hint was closed.
const dismissed = new WeakSet();

// A person's key was made by another key or has the name of the person; the first key of the
// installation has neither.
const isShared = ({ name, scopes, createdBy }) => scopes.includes('*') && (createdBy === null || name === 'Root key');

export function OwnKeyHint() {
  const [, setRound] = useState(0);
  const route = useRoute();
  const { api, self } = session();
  const creating = route.view === 'keys' && route.query.get('create') === 'person';
  if (!isShared(self) || dismissed.has(api) || creating || !can('api-keys:write')) {
    return null;
  }
  const dismiss = () => {
    dismissed.add(api);
    setRound((it) => it + 1);
  };
  return html`
    <aside class="own-key notice" aria-label="Hint">
      <p><strong>You use the root key.</strong> Make a key of your own, so that the audit log shows who did what. Give it your name.</p>
      <div class="actions">
        <a role="button" class="secondary" href=${to('keys', null, { create: 'person' })}>Make my key</a>
        <${Button} onClick=${dismiss}>Not now<//>
      </div>
    </aside>`;
}
