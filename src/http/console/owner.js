// Whose key this page uses, and the menu to forget it.

import { html, useEffect, useRef } from './html.js';
import { exchangeText } from './exchange.js';
import { Keep } from './keep.js';
import { end, session, setRemembered } from './session.js';

export function Owner() {
  const { self, account, remembered } = session();
  const menu = useRef(null);
  useClosing(menu);
  return html`
    <details class="owner" ref=${menu}>
      <summary><span class="owner-name">${self.name}</span> <small>${account.name}</small></summary>
      <div>
        <p>This page uses the key <strong>${self.name}</strong> (<code>${self.keyPrefix}…</code>) of the
          account <strong>${account.name}</strong>. The audit log names this key as the actor.</p>
        <p>Exchange of the account's keys for tokens: <strong>${exchangeText(account)}</strong>.</p>
        <${Keep} role="switch" checked=${remembered} onChange=${setRemembered} />
        <button type="button" class="secondary" onClick=${() => end()}>Forget the key</button>
      </div>
    </details>`;
}

// Closes the menu when the person presses elsewhere, or Escape in it.
function useClosing(menu) {
  useEffect(() => {
    const pressed = (event) => {
      if (!menu.current.contains(event.target)) {
        menu.current.open = false;
      }
    };
    const keydown = (event) => {
      if (event.key === 'Escape' && menu.current.open) {
        menu.current.open = false;
        menu.current.querySelector('summary').focus();
      }
    };
    const element = menu.current;
    addEventListener('pointerdown', pressed);
    element.addEventListener('keydown', keydown);
    return () => {
      removeEventListener('pointerdown', pressed);
      element.removeEventListener('keydown', keydown);
    };
  }, []);
}
