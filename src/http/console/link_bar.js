// Says to the holder of a console link how long the session lasts.

import { html } from './html.js';
import { Keep } from './keep.js';
import { session, setRemembered } from './session.js';
import { Countdown } from './ui.js';

export function LinkBar() {
  const { api, self, remembered } = session();
  if (!self.consoleLink) {
    return null;
  }
  // The server decides when the key has ended. Its refusal ends the session.
  const ask = () => api.get('api-keys/self').catch(() => {});
  return html`
    <aside class="acting by-link" aria-label="Console link">
      <p>This page was opened by a link, which works once.${self.expiresAt && html` It ends in <strong><${Countdown} end=${self.expiresAt} onEnd=${ask} /></strong>.`}</p>
      <${Keep} label="Keep it in this tab over a reload" role="switch" checked=${remembered} onChange=${setRemembered} />
    </aside>`;
}
