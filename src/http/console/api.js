// The JSON API of the server. This page has no other way to the server.

import { SECOND } from './format.js';

export const BASE = new URL('../api/v1/', document.baseURI);
// After each failed attempt of a request that can be repeated, in milliseconds.
const PAUSES = [SECOND, 2 * SECOND, 4 * SECOND, 8 * SECOND, 15 * SECOND];
const IN_PROGRESS = 'idempotency_in_progress';
const INVALID = 'invalid_answer';

// An answer that refuses the request, or a connection that failed (`status` 0).
export class ApiError extends Error {
  constructor(status, problem = {}, retryAfter = null) {
    super(problem.detail || `The server answered with status ${status}.`);
    this.status = status;
    this.code = problem.code || '';
    this.detail = this.message;
    this.requestId = problem.requestId || '';
    this.faults = problem.errors || [];
    this.retryAfter = retryAfter;
  }
}

// While the connection is lost, the page asks this often whether the server is there again.
const PROBE = 3 * SECOND;

// Whether the last request reached the server. The listeners are called when this changes.
export const connection = {
  lost: false,
  listeners: new Set(),
  subscribe(listener) {
    connection.listeners.add(listener);
    return () => connection.listeners.delete(listener);
  },
  set(lost) {
    if (connection.lost === lost) {
      return;
    }
    connection.lost = lost;
    if (lost) {
      probe();
    }
    connection.listeners.forEach((it) => it());
  },
};

// Asks whether the server runs until it answers.
async function probe() {
  while (connection.lost) {
    await pause(PROBE);
    await fetch(new URL('../livez', document.baseURI), { cache: 'no-store', credentials: 'omit' })
      .then(() => connection.set(false), () => {});
  }
}

// Sends requests with one key.
export class Api {
  #key;
  #refused;
  // The `Idempotency-Key` of each request for a key whose answer was lost.
  #unanswered = new Map();

  // `refused` is called with the error when the server does not accept the key any more.
  constructor(key, refused = () => {}) {
    this.#key = key;
    this.#refused = refused;
  }

  get(path, query, options) {
    return this.#send('GET', address(path, query), options);
  }

  post(path, body, options) {
    return this.#send('POST', address(path), { ...options, body });
  }

  patch(path, body, options) {
    return this.#send('PATCH', address(path), { ...options, body });
  }

  delete(path, query, options) {
    return this.#send('DELETE', address(path, query), options);
  }

  // Sends a request whose answer contains a full key. After a lost connection the same request is
  // repeated, and the server answers it once. This also applies if the person repeats it later.
  async postForKey(path, body, options = {}) {
    const request = JSON.stringify([path, body, options.headers]);
    const token = this.#unanswered.get(request) ?? newToken();
    this.#unanswered.set(request, token);
    const headers = { ...options.headers, 'Idempotency-Key': token };
    try {
      const answer = await this.#send('POST', address(path), { ...options, body, headers, repeat: true });
      this.#unanswered.delete(request);
      return answer;
    } catch (error) {
      if (error.status !== 0 && ![IN_PROGRESS, INVALID].includes(error.code)) {
        this.#unanswered.delete(request);
      }
      throw error;
    }
  }

  // Opens an answer that the caller reads in pieces.
  async open(path, query, options) {
    const response = await this.#fetch('GET', address(path, query), options);
    return response.ok ? response : this.#refuse(response);
  }

  // Yields all rows of a list, a page at a time.
  async *pages(path, query, options) {
    let cursor = null;
    do {
      const page = await this.get(path, { ...query, cursor }, options);
      yield page;
      cursor = page.nextCursor;
    } while (cursor);
  }

  async #send(method, url, options = {}) {
    const repeat = method === 'GET' || options.repeat;
    for (let failures = 0; ; failures += 1) {
      try {
        const response = await this.#fetch(method, url, options);
        if (!response.ok) {
          return await this.#refuse(response);
        }
        return await read(response);
      } catch (error) {
        // A repeated request can arrive while the server still works on the first one.
        const unanswered = error.status === 0 || error.code === IN_PROGRESS;
        if (!unanswered || !repeat || failures === PAUSES.length) {
          throw error;
        }
        await pause(PAUSES[failures], options.signal);
      }
    }
  }

  async #fetch(method, url, { body, headers, signal } = {}) {
    const all = { 'X-API-Key': this.#key, Accept: 'application/json', ...headers };
    if (body !== undefined) {
      all['Content-Type'] = 'application/json';
    }
    const request = {
      method, signal, headers: all, cache: 'no-store', credentials: 'omit', redirect: 'error',
      body: body === undefined ? undefined : JSON.stringify(body),
    };
    try {
      const response = await fetch(url, request);
      connection.set(false);
      // Development mode says so in each answer. The style sheet shows it above the page.
      if (response.headers.has('X-Keyward-Mode')) {
        document.documentElement.dataset.mode = response.headers.get('X-Keyward-Mode');
      }
      return response;
    } catch (error) {
      throw failure(error);
    }
  }

  async #refuse(response) {
    const seconds = Number(response.headers.get('Retry-After'));
    const problem = await response.json().catch(() => ({}));
    const error = new ApiError(response.status, problem, seconds || null);
    if (response.status === 401) {
      this.#refused(error);
    }
    throw error;
  }
}

// Returns a revision as `If-Match` takes it, so that a change never overwrites another one unseen.
export const ifMatch = (etag) => (etag ? { headers: { 'If-Match': etag } } : {});

function address(path, query = {}) {
  // An identifier in the path can neither begin a query nor a fragment.
  const url = new URL(path.split('/').map(encodeURIComponent).join('/'), BASE);
  for (const [name, value] of Object.entries(query)) {
    if (value !== undefined && value !== null && value !== '') {
      url.searchParams.set(name, value);
    }
  }
  return url;
}

async function read(response) {
  if (response.status === 204) {
    return null;
  }
  const text = await response.text().catch((error) => {
    throw failure(error);
  });
  const body = parsed(text, response);
  const etag = response.headers.get('ETag');
  return etag ? Object.defineProperty(body, 'etag', { value: etag }) : body;
}

// An answer that is no JSON comes from something between this page and the server, such as a proxy.
function parsed(text, { status }) {
  try {
    return JSON.parse(text);
  } catch {
    throw new ApiError(status, {
      code: INVALID, detail: `The answer with status ${status} was not JSON. Perhaps it came from a proxy, not from keyward.`,
    });
  }
}

// A request that was aborted is no lost connection.
function failure(error) {
  if (error.name === 'AbortError') {
    return error;
  }
  connection.set(true);
  return new ApiError(0, {
    code: 'connection_lost',
    detail: 'The connection to the server failed before its answer was complete.',
  });
}

function pause(millis, signal) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, millis);
    signal?.addEventListener('abort', () => {
      clearTimeout(timer);
      reject(signal.reason);
    });
  });
}

// `crypto.randomUUID` exists only on https and on the own machine.
function newToken() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (it) => it.toString(16).padStart(2, '0')).join('');
}
