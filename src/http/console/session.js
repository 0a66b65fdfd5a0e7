// The key that this page uses. It stays in memory, or on request in the tab, and is forgotten after
// 15 minutes without input.

import { Api, ApiError } from './api.js';
import { MINUTE, SECOND } from './format.js';

export const IDLE = 15 * MINUTE;
// Names in the storage of the tab. The browser empties this storage when the tab is closed. Until then it
// may write it to disk, to restore the tab later, and it gives a copy to a duplicated tab.
const STORED_KEY = 'keyward.key';
const STORED_USE = 'keyward.lastInput';
const INPUTS = ['pointerdown', 'keydown', 'wheel', 'touchstart'];

const listeners = new Set();
let current = null; // { number, key, api, self, account, scopes, remembered }
let begun = 0; // How many sessions began.
let message = null; // { text, kind }: why the last session ended, or what happened in this one.
let byLink = false; // Whether the last session, or the attempt to begin one, was by a console link.
let lastInput = Date.now();

export const session = () => current;
export const notice = () => message;
export const wasByLink = () => byLink;
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
  begun += 1;
  current = { number: begun, key, api, self, account, scopes: scopes.data, remembered: false };
  message = null;
  byLink = Boolean(self.consoleLink);
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

let redemption = null; // { key, done }

// Exchanges the key of a console link for a new one, so that the link works in this browser only. One
// link after the other; a link that is being opened is not opened again.
export function redeemLink(key) {
  if (redemption?.key !== key) {
    const done = Promise.resolve(redemption?.done).then(() => redeem(key)).finally(() => {
      redemption = redemption.key === key ? null : redemption;
    });
    redemption = { key, done };
  }
  return redemption.done;
}

async function redeem(key) {
  try {
    const api = new Api(key);
    // The rotation without grace would end any other key for its callers.
    if (!(await api.get('api-keys/self')).consoleLink) {
      refuseLink('This is no console link.');
      return;
    }
    const rotated = await api.postForKey('api-keys/self/rotate', { gracePeriodSeconds: 0 });
    await signIn(rotated.key);
  } catch (error) {
    const ended = error instanceof ApiError && error.status === 401;
    refuseLink(ended ? `This link works only once and for a short time. ${sentence(error.detail)} Ask for a new link.`
      : `The link could not be opened. ${sentence(error.detail ?? error.message)}`);
  }
}

// A link that cannot be opened does not end a session that is open.
function refuseLink(why) {
  byLink = current ? byLink : true;
  tellPerson(why, 'warning');
}

// Shows a text until the person closes it or goes to another view.
export function tellPerson(text, kind) {
  message = { text, kind };
  tell();
}

export function dismissNotice() {
  message = null;
  tell();
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
    message = warning(IDLE_MESSAGE);
    return;
  }
  try {
    await signIn(key, { remember: true });
  } catch (error) {
    if (error.status !== 0) {
      forgetStored();
    }
    message = warning(error.detail ?? error.message);
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
  if (current) {
    // The next person at this tab learns nothing from the address.
    history.replaceState(null, '', location.pathname);
  }
  current = null;
  message = why && warning(why);
  forgetStored();
  tell();
}

const warning = (text) => ({ text, kind: 'warning' });
const IDLE_MESSAGE = 'The key was forgotten after 15 minutes without input.';

function touch() {
  lastInput = Date.now();
  if (current?.remembered) {
    sessionStorage.setItem(STORED_USE, String(lastInput));
  }
}

export const isIdle = () => Date.now() - lastInput >= IDLE;

// A computer that sleeps stops timers, so the wall clock decides, also when the page is seen again.
function endIfIdle() {
  if (current && isIdle()) {
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
// The page comes back as it was from the browser's cache of pages.
addEventListener('pageshow', endIfIdle);
