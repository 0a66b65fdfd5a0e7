// The audit log: the newest events, filters, the live tail, and the state of the chain.

import { html, useCallback, useEffect, useRef, useState } from './html.js';
import { ChainCard } from './audit_chain.js';
import { ExportEvents } from './audit_export.js';
import { AuditFilter, isFiltered, listQuery, readFilter, streamQuery } from './audit_filter.js';
import { useLive } from './audit_live.js';
import { AuditTable } from './audit_table.js';
import { eventName } from './event_text.js';
import { useEvents } from './events.js';
import { plural } from './format.js';
import { useNames } from './names.js';
import { replaceQuery } from './route.js';
import { Button, Empty, ErrorBox, Loading, Notice, View } from './ui.js';

export { Story } from './story.js';

// So long a new row is marked, and so long new rows are counted before they are announced.
const FRESH = 6000;
const ANNOUNCE = 1000;

export function AuditLog({ account, query }) {
  const filter = readFilter(query);
  const inputs = [account, ...Object.values(filter)];
  const [live, setLive] = useState(false);
  const [exporting, setExporting] = useState(false);
  const list = useEvents(listQuery(filter, account), inputs);
  const { events } = list;
  const names = useNames(events);
  const fresh = useFresh(list.add);
  // The stream has no end in time, so it does not fit a filter with an end.
  const follows = live && !filter.until;
  const start = events[0]?.seq ?? null;
  const state = useLive({
    on: follows && (start !== null || !list.loading), query: streamQuery(filter, account), start, onEvent: fresh.take, inputs,
  });
  const change = (part) => replaceQuery({ account, ...filter, ...part });
  const actions = html`
    <label class="live"><input type="checkbox" role="switch" checked=${follows} disabled=${Boolean(filter.until)}
      onChange=${(event) => setLive(event.target.checked)} /> Live</label>
    <${Button} onClick=${() => setExporting(true)}>Export…<//>`;
  return html`
    <${View} title="Audit log" note="Every change, and every refused call" actions=${actions}>
      <${ChainCard} events=${events} />
      <${AuditFilter} filter=${filter} change=${change} />
      <${LiveState} state=${state} again=${() => {
        setLive(false);
        setTimeout(() => setLive(true));
      }} />
      <p class="offscreen" aria-live="polite">${fresh.announced}</p>
      <${ErrorBox} error=${list.error} retry=${list.reload} />
      ${events.length > 0 && html`<${AuditTable} events=${events} names=${names} fresh=${fresh.numbers} change=${change} />`}
      ${events.length === 0 && (list.loading ? html`<${Loading} />` : !list.error && html`<${NoEvents} filter=${filter} change=${change} />`)}
      ${list.cursor && events.length > 0 && html`
        <nav class="pager" aria-label="Pages"><${Button} busy=${list.loading} onClick=${list.older}>Older events<//></nav>`}
      ${list.cut && html`<p class="muted pager">The page keeps the newest ${plural(events.length, 'event')}. To see older ones, filter or open the view again.</p>`}
      ${exporting && html`<${ExportEvents} filter=${filter} account=${account} onClose=${() => setExporting(false)} />`}
    <//>`;
}

// Marks new events for a while and announces them together. Returns `{ numbers, announced, take }`.
function useFresh(add) {
  const [numbers, setNumbers] = useState(new Set());
  const [announced, setAnnounced] = useState('');
  const waiting = useRef([]);
  const timers = useRef([]);
  useEffect(() => () => timers.current.forEach(clearTimeout), []);
  const later = (millis, task) => timers.current.push(setTimeout(task, millis));
  const show = useCallback(() => {
    const events = waiting.current.splice(0);
    const seqs = events.map((it) => it.seq);
    add(events);
    setNumbers((last) => new Set([...last, ...seqs]));
    setAnnounced(events.length === 1 ? `New event: ${eventName(events[0].type)}` : plural(events.length, 'new event'));
    later(FRESH, () => setNumbers((last) => new Set([...last].filter((it) => !seqs.includes(it)))));
  }, [add]);
  const take = useCallback((event) => {
    waiting.current.push(event);
    if (waiting.current.length === 1) {
      later(ANNOUNCE, show);
    }
  }, [show]);
  return { numbers, announced, take };
}

function LiveState({ state, again }) {
  const text = {
    live: 'Live: new events appear at the top.',
    waiting: 'The connection to the stream was lost. Trying again…',
    ended: state.reason && `The server ended the stream: ${state.reason.replaceAll('_', ' ')}.`,
  }[state.status];
  return html`
    <div role="status" class="live-state">
      ${text && (state.status === 'live' ? html`<p class="muted"><span class="pulse" aria-hidden="true"></span>${text}</p>`
        : html`<${Notice} kind="warning"><p>${text}</p>${state.status === 'ended' && html`<${Button} onClick=${again}>Follow again<//>`}<//>`)}
      <${ErrorBox} error=${state.error} />
    </div>`;
}

function NoEvents({ filter, change }) {
  const all = { type: '', subject: '', actor: '', since: '', until: '' };
  return isFiltered(filter)
    ? html`<${Empty} title="No event matches"><p>Change the filters above.</p><${Button} onClick=${() => change(all)}>Show all events<//><//>`
    : html`<${Empty} title="No events yet"><p>Each change of a key or an account is recorded here.</p><//>`;
}
