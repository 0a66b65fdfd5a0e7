// The first view: the person presents a key.

import { html, useEffect, useState } from './html.js';
import { SECOND } from './format.js';
import { useTask } from './hooks.js';
import { Keep } from './keep.js';
import { isIdle, signIn, wasByLink } from './session.js';
import { Button, ErrorBox, Notice } from './ui.js';

export function SignIn({ message }) {
  const [key, setKey] = useState('');
  const [remember, setRemember] = useState(false);
  const { run, busy, error } = useTask();
  useEffect(() => {
    document.title = 'keyward';
    // A key that was typed and not used is forgotten, too.
    const timer = setInterval(() => isIdle() && setKey(''), 5 * SECOND);
    return () => clearInterval(timer);
  }, []);
  const submit = (event) => {
    event.preventDefault();
    run(() => signIn(key.trim(), { remember }));
  };
  return html`
    <main class="sign-in">
      <form onSubmit=${submit}>
        <img src="icon.svg" alt="" width="44" height="44" />
        <h1>keyward console</h1>
        ${message && html`<${Notice} kind=${message.kind}><p>${message.text}</p><//>`}
        <label for="key">API key</label>
        <input id="key" type="password" autocomplete="off" spellcheck="false" required autofocus
          placeholder="rg_…" aria-describedby="key-help" value=${key} onInput=${(event) => setKey(event.target.value)} />
        <small id="key-help">The key stays in the memory of this page. It is forgotten after 15 minutes without input,
          and when you close or reload the page.</small>
        <${Keep} checked=${remember} onChange=${setRemember} />
        <${ErrorBox} error=${error} />
        <${Button} kind="primary" busy=${busy} type="submit">Open<//>
        ${!wasByLink() && html`<p class="muted">Use a key of your own, not a shared root key: the audit log then shows your name. An operator
          makes one with <code>keyward keys create --name "Your name" --scope "*"</code>.</p>`}
      </form>
    </main>`;
}
