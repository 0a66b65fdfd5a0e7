// The console: the frame around the views.

import { html, render, useEffect, useState } from './vendor/htm-preact.js';
import { connection } from './api.js';
import { DialogHost } from './dialogs.js';
import { useListener } from './hooks.js';
import { go, to, useRoute } from './route.js';
import {
  can, end, farewell, isOperator, redeemLink, resume, session, setRemembered, subscribe, takeLinkKey,
} from './session.js';
import { SignIn } from './sign_in.js';
import { Keys } from './keys.js';
import { KeyPage } from './key.js';
import { OwnKeyHint } from './own_key.js';
import { Unused } from './unused.js';
import { AuditLog } from './audit.js';
import { Accounts } from './accounts.js';
import { Loading } from './ui.js';

const VIEWS = [
  { view: 'keys', name: 'Keys', shown: () => can('api-keys:read') },
  { view: 'unused', name: 'Unused', shown: () => can('api-keys:read') },
  { view: 'audit', name: 'Audit log', shown: () => can('events:read') },
  { view: 'accounts', name: 'Accounts', shown: isOperator },
];

function App() {
  useListener(subscribe);
  useListener(connection.subscribe);
  return html`
    ${connection.lost && html`<p class="banner" role="alert">No connection to the server. Trying again…</p>`}
    ${session() ? html`<${Frame} />` : html`<${SignIn} message=${farewell()} />`}`;
}

function Frame() {
  const route = useRoute();
  const account = route.query.get('account');
  const shown = VIEWS.filter((it) => it.shown());
  return html`
    <a class="skip" href="#content" onClick=${skip}>Skip to the content</a>
    <header class="top">
      <a class="brand" href=${to('keys')}><img src="icon.svg" alt="" width="24" height="24" />keyward</a>
      <nav aria-label="Views">
        <ul>
          ${shown.map(({ view, name }) => html`
            <li><a href=${to(view, null, { account: view === 'accounts' ? null : account })}
              aria-current=${route.view === view ? 'page' : null}>${name}</a></li>`)}
        </ul>
      </nav>
      <${Owner} />
    </header>
    ${account && account !== session().account.id && html`<${ActingIn} account=${account} />`}
    <main id="content" tabindex="-1"><${OwnKeyHint} /><${Content} route=${route} account=${account} /></main>
    <${DialogHost} />`;
}

function Content({ route, account }) {
  const props = { account, query: route.query };
  if (route.view === 'keys' && route.id) {
    return html`<${KeyPage} key=${route.id} id=${route.id} ...${props} />`;
  }
  const Chosen = { keys: Keys, unused: Unused, audit: AuditLog, accounts: Accounts }[route.view] ?? Keys;
  return html`<${Chosen} key=${`${route.view} ${account}`} id=${route.id} ...${props} />`;
}

// Whose key this page uses.
function Owner() {
  const { self, account, remembered } = session();
  return html`
    <details class="owner">
      <summary><span class="owner-name">${self.name}</span> <small>${account.name}</small></summary>
      <div>
        <p>This page uses the key <strong>${self.name}</strong> (<code>${self.keyPrefix}…</code>) of the
          account <strong>${account.name}</strong>. The audit log names this key as the actor.</p>
        <label><input type="checkbox" role="switch" checked=${remembered}
          onChange=${(event) => setRemembered(event.target.checked)} /> Keep the key in this tab over a reload</label>
        <button type="button" class="secondary" onClick=${() => end()}>Forget the key</button>
      </div>
    </details>`;
}

// Says that the operator looks at the account of a customer.
function ActingIn({ account }) {
  const [name, setName] = useState(account === 'all' ? 'all accounts' : account);
  useEffect(() => {
    if (account !== 'all') {
      session().api.get(`accounts/${account}`).then((it) => setName(it.name), () => {});
    }
  }, [account]);
  return html`
    <aside class="acting" aria-label="Account">You see ${account === 'all' ? '' : 'the account '}<strong>${name}</strong>.
      ${' '}<a href=${to('keys')}>Back to the own account</a></aside>`;
}

function skip(event) {
  event.preventDefault();
  document.getElementById('content').focus();
}

async function start() {
  const root = document.getElementById('app');
  const linkKey = takeLinkKey();
  root.replaceChildren();
  render(html`<${Loading} />`, root);
  await (linkKey ? redeemLink(linkKey) : resume());
  if (linkKey && session()) {
    go('keys');
  }
  render(html`<${App} />`, root);
}

// A link that is opened in a tab which shows the console already changes only the fragment.
addEventListener('hashchange', () => {
  const linkKey = takeLinkKey();
  if (linkKey) {
    redeemLink(linkKey);
  }
});

start();
