// Saves the events that a filter selects, as JSON Lines.

import { html, useEffect, useRef, useState } from './html.js';
import { filterWords, isFiltered, listQuery } from './audit_filter.js';
import { number, plural } from './format.js';
import { useTask } from './hooks.js';
import { session } from './session.js';
import { Actions, Button, Dialog, ErrorBox, Notice } from './ui.js';

const MOST = 100_000;
const PAGE = 1000;

export function ExportEvents({ filter, account, onClose }) {
  const [count, setCount] = useState(0);
  const [done, setDone] = useState(null);
  const { run, busy, error } = useTask();
  const aborter = useRef(new AbortController());
  useEffect(() => () => aborter.current.abort(), []);
  const start = () => run(async () => {
    setDone(null);
    const { blob, total, full } = await collect(listQuery(filter, account), aborter.current.signal, setCount);
    save(blob, `keyward-events_${filterWords(filter)}.jsonl`);
    setDone({ total, full });
  });
  return html`
    <${Dialog} title="Export events" onClose=${onClose}>
      <p>${isFiltered(filter) ? 'The events that the filter selects are' : 'All events are'} saved as JSON Lines: one event in each
        line, the oldest first, with their hashes.</p>
      <p class="muted">At most ${number(MOST)} events. For more, or for a format of a log collector, use ${' '}
        <code>keyward events export</code>.</p>
      <div role="status">
        ${busy && html`<label>${plural(count, 'event')} read<progress></progress></label>`}
        ${done && html`<${Notice} kind=${done.full ? 'warning' : 'info'}><p>Saved ${plural(done.total, 'event')}.
          ${done.full && ` There are more; the file holds the oldest ${number(MOST)}.`}</p><//>`}
      </div>
      <${ErrorBox} error=${error} />
      <${Actions}>
        <${Button} autofocus onClick=${onClose}>${done ? 'Close' : 'Cancel'}<//>
        ${!done && html`<${Button} kind="primary" busy=${busy} onClick=${start}>Save file<//>`}
      <//>
    <//>`;
}

// A blob of a page each can be kept by the browser outside the memory of the page.
async function collect(query, signal, progress) {
  const parts = [];
  let total = 0;
  for await (const page of session().api.pages('events', { ...query, limit: PAGE }, { signal })) {
    const events = page.data.slice(0, MOST - total);
    parts.push(new Blob(events.map((it) => `${JSON.stringify(it)}\n`)));
    total += events.length;
    progress(total);
    if (total === MOST && (page.nextCursor || events.length < page.data.length)) {
      return { blob: new Blob(parts), total, full: true };
    }
  }
  return { blob: new Blob(parts, { type: 'application/jsonl' }), total, full: false };
}

function save(blob, name) {
  const link = document.createElement('a');
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}
