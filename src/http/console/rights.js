// What this session may do with keys. The server decides; the page only hides what it would refuse.

import { can, session } from './session.js';

// The scopes of keyward that keys of every account can hold.
const FOR_ANY_ACCOUNT = ['api-keys:read', 'api-keys:write', 'api-keys:rotate', 'events:read'];

// Returns whether it is the account of this session. Null stands for it.
export const isOwnAccount = (account) => !account || account === session().account.id;

// Returns whether it is the key of this session.
export const isOwnKey = (key) => key.id === session().self.id;

export const isForAnyAccount = (name) => FOR_ANY_ACCOUNT.includes(name);

// Returns whether this session may change the keys of an account.
export function mayWriteKeys(account) {
  const scopes = isOwnAccount(account) ? ['api-keys:write', 'accounts:write'] : ['accounts:write'];
  return account !== 'all' && can(...scopes);
}

// Returns what this session may do with a key. A caller changes only keys whose scopes it holds. The key
// of a console link can only be revoked: the page that opened the link has rotated it already.
export function rights(key) {
  const known = new Set(session().scopes.map((it) => it.name));
  const held = !isOwnAccount(key.accountId) || key.scopes.every((it) => !known.has(it) || isHandedOn(it));
  const write = mayWriteKeys(key.accountId) && held;
  const own = isOwnKey(key);
  const lasting = !key.consoleLink;
  const rotate = write || (own && can('api-keys:rotate'));
  return { edit: write && lasting, rotate: rotate && lasting, revoke: write || own };
}

// Returns the scopes of the catalogue that this session may give to keys of the account.
export function grantable(account) {
  const own = isOwnAccount(account.id);
  // In the own account the session holds other scopes of keyward only if the account may have them.
  const allowed = ({ name, reserved }) => (reserved ? own || isForAnyAccount(name)
    : account.allowedScopes?.includes(name) ?? true);
  return session().scopes.filter((it) => allowed(it) && (!own || isHandedOn(it.name)));
}

const isHandedOn = (name) => can(name) || (name === 'api-keys:rotate' && can('api-keys:write'));
