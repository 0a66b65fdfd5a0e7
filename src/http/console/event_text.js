// What events are called, and what they say in a few words.

import { capital } from './ui.js';
import { duration, number, plural } from './format.js';

// The types of events in groups, with their names.
export const EVENT_TYPES = {
  Keys: {
    'api_key.created': 'Key created',
    'api_key.updated': 'Key changed',
    'api_key.rotated': 'Key rotated',
    'api_key.grace_ended': 'Grace period ended',
    'api_key.revoked': 'Key revoked',
    'api_key.expiring': 'Key expires soon',
    'api_key.expired': 'Key expired',
    'api_key.purged': 'Key or credential purged',
    'api_key.retired_key_used': 'Ended credential used',
    'api_key.new_address': 'Key used from a new address',
    'api_key.exchanged': 'Key exchanged for tokens',
    'api_key.rehashed': 'Hash of a key renewed',
    'api_key.rate_limit_near': 'Rate limit of a key nearly used',
    'api_key.rate_limit_reached': 'Rate limit of a key reached',
    'api_keys.imported': 'Keys imported',
  },
  Accounts: {
    'account.created': 'Account created',
    'account.updated': 'Account changed',
    'account.deleted': 'Account deleted',
    'account.purged': 'Account purged',
    'account.rate_limit_near': 'Rate limit of an account nearly used',
    'account.rate_limit_reached': 'Rate limit of an account reached',
  },
  Security: {
    'auth.denied': 'Calls refused',
    'root_key.reset': 'Root key reset',
  },
  Server: {
    'server.started': 'Server started',
    'server.stopped': 'Server stopped',
    'clock.stepped': 'Clock stepped',
    'clock.accepted': 'Clock accepted',
    'backup.created': 'Backup created',
    'backup.restored': 'Backup restored',
    'webhook.disabled': 'Webhook disabled',
    'webhook.enabled': 'Webhook enabled',
  },
};

const NAMES = new Map(Object.values(EVENT_TYPES).flatMap(Object.entries));

// Returns the name of a type of event. A later server may have types that this page does not know.
export const eventName = (type) => NAMES.get(type) ?? capital(type.replace(/[._]/g, ' '));

const words = (text) => String(text).replaceAll('_', ' ');
// That a person asked for it is what the name of the event says already.
const reason = (data) => (data.reason === 'requested' ? '' : words(data.reason ?? ''));

const DETAILS = {
  'api_key.updated': (data) => changed(data),
  'account.updated': (data) => changed(data),
  'api_key.revoked': (data) => (data.reasonText ? `“${data.reasonText}”` : reason(data)),
  'account.deleted': (data) => (data.reasonText ? `“${data.reasonText}”` : ''),
  'api_key.grace_ended': reason,
  'api_key.purged': reason,
  'api_key.expiring': (data) => (data.days ? `in ${plural(data.days, 'day')}` : ''),
  'api_key.rotated': (data) => (data.gracePeriodSeconds >= 0 ? `grace period: ${duration(data.gracePeriodSeconds)}` : ''),
  'api_key.new_address': (data) => (data.addresses ?? []).map((it) => it.address).join(', '),
  'api_key.exchanged': (data) => [data.count > 0 && plural(data.count, 'exchange'), data.keys && 'several keys'].filter(Boolean).join(', '),
  'auth.denied': (data) => [words(data.reason ?? ''), data.count > 1 && `${number(data.count)} calls`].filter(Boolean).join(', '),
  'server.started': (data) => (data.version ? `version ${data.version}` : ''),
};

// Returns a few words about an event, or an empty text. Parts of `data` may be absent.
export const eventDetail = ({ type, data }) => (Object.hasOwn(DETAILS, type) ? DETAILS[type](data ?? {}) : '');

function changed({ before, after }) {
  if (after?.status) {
    return after.status;
  }
  return Object.keys(after ?? before ?? {}).join(', ');
}
