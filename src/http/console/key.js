// The page of one key.

import { html, useEffect } from './html.js';
import { Story } from './audit.js';
import { KeyExchange } from './exchange.js';
import { SECOND, dateTime, duration, number } from './format.js';
import { useLoad, useNow } from './hooks.js';
import { actionsOf } from './key_actions.js';
import { to } from './route.js';
import { RotationCard } from './rotation_card.js';
import { session } from './session.js';
import { Ago, Button, Chips, Copy, Empty, ErrorBox, Loading, Status, View, inGrace } from './ui.js';
import { KeyUsage } from './usage.js';

const POLL = 5 * SECOND;

export function KeyPage({ id, account }) {
  const { data: key, error, reload } = useLoad((signal) => session().api.get(`api-keys/${id}`, {}, { signal }), [id]);
  const gone = error?.status === 404;
  useGracePolling(!gone && key, reload);
  if (gone) {
    return html`<${Gone} id=${key?.id ?? id} account=${account} />`;
  }
  if (!key) {
    return error ? html`<${View} title="Key"><${ErrorBox} error=${error} retry=${reload} /><//>` : html`<${Loading} />`;
  }
  return html`
    <${View} title=${key.name} note=${html`<${Status} keyRecord=${key} />`} actions=${html`<${KeyButtons} keyRecord=${key} reload=${reload} />`}>
      <${ErrorBox} error=${error} retry=${reload} />
      <${RotationCard} keyRecord=${key} reload=${reload} />
      <${Facts} keyRecord=${key} account=${account} />
      <${KeyUsage} keyRecord=${key} reload=${reload} />
      <${Story} key=${key.etag} subject=${key.id} account=${account} />
    <//>`;
}

// Asks again for the key while old credentials work, and the page is seen.
function useGracePolling(key, reload) {
  const now = useNow(POLL);
  const running = Boolean(key) && inGrace(key, now).length > 0;
  useEffect(() => {
    const timer = running && setInterval(() => document.visibilityState === 'visible' && reload(), POLL);
    return () => clearInterval(timer);
  }, [running, reload]);
}

function Gone({ id, account }) {
  return html`
    <${View} title="No API key with this id">
      <${Empty} title="The key was revoked, has been purged, or never existed">
        <p><code>${id}</code></p>
        <p><a href=${to('keys', null, { account })}>Back to the keys</a></p>
      <//>
      <${Story} subject=${id} account=${account} />
    <//>`;
}

const KeyButtons = ({ keyRecord, reload }) => actionsOf(keyRecord, reload).map((it) => html`
  <${Button} key=${it.name} kind=${it.danger ? 'danger' : 'secondary'} onClick=${it.open}>${it.name}<//>`);

function Facts({ keyRecord, account }) {
  const metadata = Object.keys(keyRecord.metadata).length > 0;
  const facts = [
    ['Prefix', html`<code>${keyRecord.keyPrefix}…</code>`],
    ['Id', html`<code>${keyRecord.id}</code> <${Copy} text=${keyRecord.id} label="Copy id" />`],
    ['Last used', html`<${Ago} time=${keyRecord.lastUsedAt} />`],
    ['Expires', html`<${When} time=${keyRecord.expiresAt} />`],
    ['Created', html`<${When} time=${keyRecord.createdAt} />`],
    ['Created by', html`<${Creator} by=${keyRecord.createdBy} account=${account} />`],
    ['Last rotated', html`<${When} time=${keyRecord.rotatedAt} />`],
    ['Rate limit', rate(keyRecord.rateLimit)],
    ['Addresses', keyRecord.allowedIps
      ? html`<${Chips} names=${keyRecord.allowedIps} label="Allowed addresses" />` : 'From everywhere'],
    ['Scopes', html`<${Chips} names=${keyRecord.scopes} label="Scopes" />`],
    ['Exchange for tokens', html`<${KeyExchange} account=${keyRecord.accountId} />`],
    keyRecord.consoleLink && ['Console link', 'Opens the console for a short time. It cannot be changed.'],
    metadata && ['Metadata', html`<pre tabindex="0" role="region" aria-label="Metadata">${JSON.stringify(keyRecord.metadata, null, 2)}</pre>`],
  ].filter(Boolean);
  return html`
    <section class="card" aria-label="Settings">
      <dl class="facts">${facts.map(([name, value]) => html`<div key=${name}><dt>${name}</dt><dd>${value}</dd></div>`)}</dl>
    </section>`;
}

const When = ({ time }) => html`<${Ago} time=${time} /> ${time && html`<small>${dateTime(time)}</small>`}`;

function Creator({ by, account }) {
  if (by === null) {
    return 'The command line';
  }
  if (by === 'operator') {
    return 'The operator';
  }
  const name = by === session().self.id ? session().self.name : by;
  return html`<a href=${to('keys', by, { account })}>${name}</a>`;
}

function rate(limit) {
  if (!limit) {
    return 'None of its own';
  }
  return `${number(limit.limit)} per ${duration(limit.windowSeconds).replace(/^1 /, '')}`;
}
