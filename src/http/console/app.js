// The console: the frame around the views.

import { html, render, useEffect, useRef, useState } from './html.js';
import { connection } from './api.js';
import { DialogHost } from './dialogs.js';
import { useListener } from './hooks.js';
import { LinkBar } from './link_bar.js';
import { Owner } from './owner.js';
import { go, to, useRoute } from './route.js';
import {
  can, dismissNotice, isOperator, notice, redeemLink, resume, session, subscribe, takeLinkKey,
} from './session.js';
import { SignIn } from './sign_in.js';
import { Keys } from './keys.js';
import { KeyPage } from './key.js';
import { OwnKeyHint } from './own_key.js';
import { Unused } from './unused.js';
import { AuditLog } from './audit.js';
import { Accounts } from './accounts.js';
import { Button, Loading, Notice } from './ui.js';

const VIEWS = [
  { view: 'keys', name: 'Keys', shown: () => can('api-keys:read') },
  { view: 'unused', name: 'Unused', shown: () => can('api-keys:read') },
  { view: 'audit', name: 'Audit log', shown: () => can('events:read') },
  { view: 'accounts', name: 'Accounts', shown: isOperator },
];

const CONTENTS = new Map(Object.entries({ keys: Keys, unused: Unused, audit: AuditLog, accounts: Accounts }));

function App() {
  useListener(subscribe);
  useListener(connection.subscribe);
  return html`
    ${connection.lost && html`<p class="banner" role="alert">No connection to the server. Trying again…</p>`}
    ${session() ? html`<${Frame} key=${session().number} />` : html`<${SignIn} message=${notice()} />`}`;
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
    <${LinkBar} />
    ${account && account !== session().account.id && html`<${ActingIn} account=${account} />`}
    <main id="content" tabindex="-1"><${Told} route=${route} /><${OwnKeyHint} /><${Content} route=${route} account=${account} /></main>
    <${DialogHost} />`;
}

function Content({ route, account }) {
  const props = { account, query: route.query };
  if (route.view === 'keys' && route.id) {
    return html`<${KeyPage} key=${route.id} id=${route.id} ...${props} />`;
  }
  const Chosen = CONTENTS.get(route.view) ?? Keys;
  return html`<${Chosen} key=${`${route.view} ${account}`} id=${route.id} ...${props} />`;
}

// Says what happened, such as why a link was not opened, until the person goes to another view.
function Told({ route }) {
  const at = `${route.view} ${route.id}`;
  const first = useRef(at);
  useEffect(() => {
    if (first.current !== at) {
      first.current = at;
      dismissNotice();
    }
  }, [at]);
  const told = notice();
  return html`
    <div aria-live="polite">${told && html`
      <${Notice} kind=${told.kind}><p>${told.text}</p><${Button} onClick=${dismissNotice}>Close<//><//>`}</div>`;
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
    <aside class="acting" aria-label="Account">You ${account === 'all' ? 'see' : 'act in the account'} <strong>${name}</strong>.
      ${' '}<a href=${to('keys')}>Back to your account</a></aside>`;
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
