// Whether keys can be exchanged for tokens, which the operator decides for each account.

import { html } from './html.js';
import { useLoad } from './hooks.js';
import { isOwnAccount } from './rights.js';
import { session } from './session.js';

export const exchangeText = (account) => (account.tokenExchange ? 'Allowed' : 'Not allowed');

// Says it of a key in the account with this identifier. Loads the account each time, because the operator
// may have changed it since the session began.
export function KeyExchange({ account }) {
  const path = isOwnAccount(account) ? 'self' : account;
  const { data, error } = useLoad((signal) => session().api.get(`accounts/${path}`, {}, { signal }), [path]);
  return html`${data ? exchangeText(data) : error ? 'Unknown' : '…'}`;
}
