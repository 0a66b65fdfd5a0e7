// The key that this page uses. It stays in memory, or on request in the tab, and is forgotten after
// 15 minutes without input.

import { Api, ApiError } from './api.js';
import { MINUTE, SECOND } from './format.js';

export const IDLE = 15 * MINUTE;
// Names in the storage of the tab. The browser empties this storage when the tab is closed.
const STORED_KEY = 'keyward.key';
const STORED_USE = 'keyward.lastInput';
const INPUTS = ['pointerdown', 'keydown', 'wheel', 'touchstart'];

const listeners = new Set();
let current = null; // { key, api, self, account, scopes, remembered }
let message = null; // Why the last session ended.
let lastInput = Date.now();

export const session = () => current;
export const farewell = () => message;
export const subscribe = (listener) => {
  listeners.add(listener);
  return () => listeners.delete(listener);
};

// Returns whether the key of this session has one of these scopes.
export const can = (...scopes) =>
  Boolean(current) && ['*', ...scopes].some((it) => current.self.scopes.includes(it));

// Returns whether this session may act in other accounts than that of its key.
export const isOperator = () => can('accounts:read');

// Begins a session with this key. Throws an `ApiError` if the server refuses it.
export async function signIn(key, { remember = false } = {}) {
  const api = apiOf(key);
  const [self, account, scopes] = await Promise.all([
    api.get('api-keys/self'), api.get('accounts/self'), api.get('scopes'),
  ]);
  current = { key, api, self, account, scopes: scopes.data, remembered: false };
  message = null;
  touch();
  setRemembered(remember);
}

// A late answer to an earlier session, or to a replaced credential, must not end this session.
function apiOf(key) {
  const api = new Api(key, (error) => current?.api === api && end(sentence(error.detail)));
  return api;
}

// Continues the session with the new credential of its key. `rotated` is the answer to the rotation.
export function replaceKey({ key, ...self }) {
  current = { ...current, key, api: apiOf(key), self };
  setRemembered(current.remembered);
}

// Takes over a change of the key that this page uses.
export function updateSelf(self) {
  if (self.id === current?.self.id) {
    current = { ...current, self };
    tell();
  }
}

// Exchanges the key of a console link for a new one, so that the link works in this browser only.
export async function redeemLink(key) {
  try {
    const rotated = await new Api(key).postForKey('api-keys/self/rotate', { gracePeriodSeconds: 0 });
    await signIn(rotated.key);
  } catch (error) {
    const ended = error instanceof ApiError && error.status === 401;
    end(ended ? `This link works only once and for a short time. ${sentence(error.detail)} Ask for a new link.`
      : `The link could not be opened. ${sentence(error.detail ?? error.message)}`);
  }
}

// Takes the key of a console link out of the address, where it would stay in the history.
export function takeLinkKey() {
  const key = new URLSearchParams(location.hash.slice(1)).get('key');
  if (key) {
    history.replaceState(null, '', location.pathname);
  }
  return key;
}

// Begins the session again that this tab keeps.
export async function resume() {
  const [key, used] = [sessionStorage.getItem(STORED_KEY), Number(sessionStorage.getItem(STORED_USE))];
  if (!key) {
    return;
  }
  if (Date.now() - used >= IDLE) {
    forgetStored();
    message = IDLE_MESSAGE;
    return;
  }
  try {
    await signIn(key, { remember: true });
  } catch (error) {
    if (error.status !== 0) {
      forgetStored();
    }
    message = error.detail ?? error.message;
  }
}

// Keeps the key in this tab over a reload, or stops that.
export function setRemembered(remember) {
  current.remembered = remember;
  if (remember) {
    sessionStorage.setItem(STORED_KEY, current.key);
    sessionStorage.setItem(STORED_USE, String(lastInput));
  } else {
    forgetStored();
  }
  tell();
}

// Ends the session and forgets the key. `why` is shown to the person.
export function end(why = null) {
  current = null;
  message = why;
  forgetStored();
  tell();
}

const IDLE_MESSAGE = 'The key was forgotten after 15 minutes without input.';

function touch() {
  lastInput = Date.now();
  if (current?.remembered) {
    sessionStorage.setItem(STORED_USE, String(lastInput));
  }
}

// A computer that sleeps stops timers, so the wall clock decides, also when the page is seen again.
function endIfIdle() {
  if (current && Date.now() - lastInput >= IDLE) {
    end(IDLE_MESSAGE);
  }
}

function forgetStored() {
  sessionStorage.removeItem(STORED_KEY);
  sessionStorage.removeItem(STORED_USE);
}

function tell() {
  listeners.forEach((it) => it());
}

function sentence(text) {
  return `${text[0].toUpperCase()}${text.slice(1)}${text.endsWith('.') ? '' : '.'}`;
}

for (const name of INPUTS) {
  addEventListener(name, () => {
    endIfIdle();
    touch();
  }, { capture: true, passive: true });
}
setInterval(endIfIdle, 5 * SECOND);
document.addEventListener('visibilitychange', endIfIdle);
