// Leads operators from the shared root key to a key of their own.

import { html, useState } from './html.js';
import { to, useRoute } from './route.js';
import { can, session } from './session.js';
import { Button } from './ui.js';

// The sessions in which the hint was closed.
const dismissed = new WeakSet();

// keyward names the first key of an installation, and the one after a reset, “Root key”. A key that the
// command line made for a person has the name of the person.
const isShared = ({ name, scopes }) => scopes.includes('*') && /\broot\b/i.test(name);

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
