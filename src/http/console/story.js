// The history: the last events of one key, for its page.

import { html } from './html.js';
import { Party, actorOf } from './audit_table.js';
import { eventDetail, eventName } from './event_text.js';
import { useLoad } from './hooks.js';
import { useNames } from './names.js';
import { to } from './route.js';
import { can, session } from './session.js';
import { Ago, ErrorBox, Loading } from './ui.js';

const LAST = 8;
const NONE = [];

export function Story({ subject, account }) {
  const { data, error, reload } = useLoad(
    (signal) => (can('events:read') ? session().api.get('events', { subject, order: 'desc', limit: LAST }, { signal }) : Promise.resolve(null)),
    [subject],
  );
  const events = data?.data ?? NONE;
  const names = useNames(events);
  if (!can('events:read')) {
    return null;
  }
  return html`
    <section class="card story" aria-labelledby="story-title">
      <div class="card-head"><h2 id="story-title">History</h2>
        <a href=${to('audit', null, { subject, account })}>${data?.nextCursor ? 'All events of this key' : 'Open in the audit log'}</a></div>
      <${ErrorBox} error=${error} retry=${reload} />
      ${!data && !error && html`<${Loading} />`}
      <ol class="timeline">
        ${events.map((it) => html`
          <li key=${it.seq}><span><strong>${eventName(it.type)}</strong> <span class="muted">${eventDetail(it)}</span></span>
            <small><${Ago} time=${it.time} /> by <${Party} id=${actorOf(it)} names=${names} account=${it.actor.accountId} prefix=${it.actor.keyPrefix} /></small></li>`)}
      </ol>
    </section>`;
}
