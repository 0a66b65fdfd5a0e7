// Follows the log: reads the stream of events and opens it again where it broke.

import { useEffect, useRef, useState } from './html.js';
import { ApiError } from './api.js';
import { SECOND } from './format.js';
import { session } from './session.js';
import { messages } from './sse.js';

// The server sends something every 15 seconds. After a longer silence the connection is dead.
const SILENCE = 40 * SECOND;
const PAUSES = [SECOND, 2 * SECOND, 5 * SECOND, 10 * SECOND];
// Answers after which another attempt may succeed.
const PASSING = [0, 429, 500, 502, 503, 504];

class Ended extends Error {}

// Calls `onEvent(event)` for each new event while `on`. `start` is the number of the newest event that
// the view knows, or null. Returns `{ status, reason, error }`.
export function useLive({ on, query, start, onEvent, inputs }) {
  const [state, setState] = useState({ status: 'off' });
  const [first, receive] = [useRef(start), useRef(onEvent)];
  first.current = start;
  receive.current = onEvent;
  useEffect(() => {
    if (!on) {
      setState({ status: 'off' });
      return undefined;
    }
    const aborter = new AbortController();
    const tell = (next) => aborter.signal.aborted || setState(next);
    follow(query, first.current, aborter.signal, tell, (event) => aborter.signal.aborted || receive.current(event));
    return () => aborter.abort();
  }, [on, ...inputs]);
  return state;
}

async function follow(query, start, signal, tell, onEvent) {
  let last = start;
  let failures = 0;
  const onMessage = (message) => {
    last = message.id ?? last;
    failures = 0;
    if (message.event === 'end') {
      throw new Ended(JSON.parse(message.data).reason);
    }
    return message.data ? onEvent(JSON.parse(message.data)) : tell({ status: 'live' });
  };
  while (!signal.aborted) {
    try {
      await read(query, last, signal, onMessage);
    } catch (error) {
      if (error instanceof Ended) {
        return tell({ status: 'ended', reason: error.message });
      }
      if (error instanceof ApiError && !PASSING.includes(error.status)) {
        return tell({ status: 'ended', error });
      }
    }
    tell({ status: 'waiting' });
    await new Promise((resolve) => setTimeout(resolve, PAUSES[Math.min(failures, PAUSES.length - 1)]));
    failures += 1;
  }
  return undefined;
}

// Reads one connection to its end.
async function read(query, last, signal, onMessage) {
  const aborter = new AbortController();
  const stop = () => aborter.abort();
  signal.addEventListener('abort', stop);
  let timer;
  const heard = () => {
    clearTimeout(timer);
    timer = setTimeout(stop, SILENCE);
  };
  try {
    heard();
    const headers = last === null ? {} : { 'Last-Event-ID': String(last) };
    const response = await session().api.open('events/stream', query, {
      headers: { ...headers, Accept: 'text/event-stream' }, signal: aborter.signal,
    });
    for await (const message of messages(response, heard)) {
      onMessage(message);
    }
  } finally {
    clearTimeout(timer);
    signal.removeEventListener('abort', stop);
    stop();
  }
}
