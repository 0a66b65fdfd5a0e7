// Checks in the browser that events chain, and shows the last checkpoint of the log.

import { html, useEffect, useState } from './html.js';
import { number, plural } from './format.js';
import { useLoad } from './hooks.js';
import { isOperator, session } from './session.js';
import { Ago, Copy, ErrorBox } from './ui.js';

// The hash of an event is SHA-256 over this line, the hash before, and the columns of the event.
const LINE = new TextEncoder().encode('keyward event v1\n');
const ABSENT = 0xffffffffffffffffn;

// Results by event, so that a page with a few further events is not hashed again.
const checked = new WeakMap();

function eightBytes(value) {
  const bytes = new Uint8Array(8);
  new DataView(bytes.buffer).setBigUint64(0, BigInt.asUintN(64, BigInt(value)));
  return bytes;
}

// A text is its length in bytes and its bytes.
function encoded(text) {
  const bytes = new TextEncoder().encode(text ?? '');
  return [eightBytes(text === null || text === undefined ? ABSENT : bytes.length), bytes];
}

async function hashOf(event, data) {
  const { actor } = event;
  const columns = [event.type, event.accountId, actor.keyId ?? actor.type, actor.keyPrefix, actor.accountId,
    event.subject, event.requestId, event.clientIp, data];
  const before = Uint8Array.from(event.prevHash.match(/../g), (it) => parseInt(it, 16));
  const parts = [LINE, before, eightBytes(event.seq), eightBytes(Date.parse(event.time)), ...columns.flatMap(encoded)];
  const hash = await crypto.subtle.digest('SHA-256', await new Blob(parts).arrayBuffer());
  return Array.from(new Uint8Array(hash), (it) => it.toString(16).padStart(2, '0')).join('');
}

// Returns the `data` of an event as the server wrote it. JavaScript does not keep the form of all numbers.
async function rawData(seq, signal) {
  const text = await (await session().api.open(`events/${seq}`, {}, { signal })).text();
  const start = ',"data":';
  return text.slice(text.indexOf(start) + start.length, text.lastIndexOf(',"prevHash":'));
}

async function rawFits(event, data, signal) {
  const raw = await rawData(event.seq, signal);
  // The raw text must say what the page shows.
  return JSON.stringify(JSON.parse(raw)) === data && event.hash === await hashOf(event, raw);
}

async function hashFits(event, signal) {
  if (!checked.has(event)) {
    const data = JSON.stringify(event.data);
    checked.set(event, event.hash === await hashOf(event, data) || await rawFits(event, data, signal));
  }
  return checked.get(event);
}

// Checks these events, the newest first. Returns the numbers of those that do not fit, and how much was
// checked. Hashes can be computed only by a reader from whom no part of an event is hidden.
export async function checkChain(events, checkpoint, signal) {
  const withHashes = isOperator() && Boolean(globalThis.crypto?.subtle);
  const faults = new Set();
  let links = 0;
  for (const [i, event] of events.entries()) {
    const before = events[i + 1];
    if (before && before.seq + 1 === event.seq) {
      links += 1;
      if (before.hash !== event.prevHash) {
        faults.add(event.seq);
      }
    }
    if (withHashes && !await hashFits(event, signal)) {
      faults.add(event.seq);
    }
    if (checkpoint?.size === event.seq && checkpoint.head !== event.hash) {
      faults.add(event.seq);
    }
  }
  return { count: events.length, links, withHashes, faults: [...faults] };
}

export function ChainCard({ events }) {
  const newest = events[0]?.seq ?? 0;
  const { data, error, reload } = useLoad(async (signal) => {
    const [last, key] = await Promise.all(['last', 'key'].map((it) => session().api.get(`checkpoints/${it}`, {}, { signal })));
    return { ...last, ...key };
  }, []);
  const [result, setResult] = useState(null);
  useEffect(() => {
    const aborter = new AbortController();
    checkChain(events, data, aborter.signal).then((it) => aborter.signal.aborted || setResult(it), () => {});
    return () => aborter.abort();
  }, [events, data]);
  // A checkpoint follows within a minute.
  const open = data ? Math.max(0, newest - data.size) : 0;
  useEffect(() => {
    const timer = open > 0 ? setTimeout(reload, 20_000) : undefined;
    return () => clearTimeout(timer);
  }, [open > 0, data]);
  return html`
    <section class="card chain" aria-labelledby="chain-title">
      <div class="chain-head">
        <h2 id="chain-title">Chain and checkpoint</h2>
        <div role="status"><${Result} result=${result} /></div>
      </div>
      <${ErrorBox} error=${error} retry=${reload} />
      ${data && html`
        <dl class="figures">
          <div><dt>Last checkpoint</dt><dd>${plural(data.size, 'event')}, <${Ago} time=${data.time} /></dd></div>
          <div><dt>Not yet covered</dt><dd>${covered(open)}</dd></div>
        </dl>
        <details>
          <summary>Hash, public key and the full check</summary>
          <dl class="figures">
            <div><dt>Hash at the checkpoint</dt><dd><code>${data.head}</code> <${Copy} text=${data.head} /></dd></div>
            <div><dt>Public key</dt><dd><code>${data.publicKey}</code> <${Copy} text=${data.publicKey} /></dd></div>
          </dl>
          <p class="muted">This page checks only the events that it shows. An auditor checks the whole log on a copy of the database,
            against a checkpoint and the public key that were kept elsewhere:</p>
          <pre tabindex="0" role="region" aria-label="Command"><code>keyward events verify --db COPY.db --public-key checkpoint.pub --checkpoint checkpoint</code></pre>
        </details>`}
    </section>`;
}

function covered(open) {
  if (open === 0) {
    return 'None';
  }
  return isOperator() ? `${plural(open, 'event')}; the next checkpoint follows within a minute` : 'The newest; the next checkpoint follows within a minute';
}

function Result({ result }) {
  if (!result || result.count === 0) {
    return null;
  }
  if (result.faults.length > 0) {
    return html`<span class="verdict bad">✗ ${plural(result.faults.length, 'event')} of this page ${result.faults.length === 1 ? 'does' : 'do'} not
      fit the chain: ${result.faults.slice(0, 5).map(number).join(', ')}. Run the full check.</span>`;
  }
  const links = result.links > 0 && `${plural(result.links, 'link')} of the chain checked`;
  const hashes = result.withHashes && `${plural(result.count, 'hash', 'hashes')} recomputed`;
  const text = [hashes, links].filter(Boolean).join(', ');
  return text ? html`<span class="verdict good">✓ ${text}</span>`
    : html`<span class="muted">No two neighbours among these events, so no link to check</span>`;
}
