// Shows a new key once. Its plaintext is only in the state of the dialog, which drops it at the end.

import { html, useLayoutEffect, useRef, useState } from './html.js';
import { BASE } from './api.js';
import { Actions, Button, Copy, Notice } from './ui.js';

export const STORE = 'Store the key now';

// `made` is the answer to a create or a rotation; `children` say what happens next.
export function Reveal({ made, onClose, children }) {
  const [stored, setStored] = useState(false);
  const head = useRef(null);
  useLayoutEffect(() => {
    head.current.querySelector('button').focus();
    addEventListener('beforeunload', warn);
    return () => removeEventListener('beforeunload', warn);
  }, []);
  return html`
    <div class="reveal">
      <p>This is the only time that the key <strong>${made.name}</strong> is shown. keyward stores no copy of it.</p>
      <div class="secret" ref=${head}>
        <code aria-label="The new key">${made.key}</code><${Copy} text=${made.key} label="Copy key" />
      </div>
      ${children}
      <${Line} title="As a variable" text=${`export KEYWARD_KEY=${made.key}`} />
      <${Line} title="Then try it" text=${`curl -H "X-API-Key: $KEYWARD_KEY" ${new URL('api-keys/self', BASE)}`} />
      ${made.allowedIps && html`<${Notice}><p>The key is accepted only from its allowed addresses.</p><//>`}
      <label class="stored"><input type="checkbox" checked=${stored} onChange=${(event) => setStored(event.target.checked)} />
        ${' '}I have stored the key</label>
      <${Actions}><${Button} kind="primary" disabled=${!stored} onClick=${onClose}>Close<//><//>
    </div>`;
}

const Line = ({ title, text }) => html`
  <div class="line"><div><h3>${title}</h3><${Copy} text=${text} /></div><code>${text}</code></div>`;

// The browser asks before it leaves the page.
function warn(event) {
  event.preventDefault();
  event.returnValue = '';
}
