// The first view: the person presents a key.

import { html, useState } from './vendor/htm-preact.js';
import { useTask } from './hooks.js';
import { signIn } from './session.js';
import { Button, ErrorBox, Notice } from './ui.js';

export function SignIn({ message }) {
  const [key, setKey] = useState('');
  const [remember, setRemember] = useState(false);
  const { run, busy, error } = useTask();
  const submit = (event) => {
    event.preventDefault();
    run(() => signIn(key.trim(), { remember }));
  };
  return html`
    <main class="sign-in">
      <form onSubmit=${submit}>
        <img src="icon.svg" alt="" width="44" height="44" />
        <h1>keyward console</h1>
        ${message && html`<${Notice} kind="warning"><p>${message}</p><//>`}
        <label for="key">API key</label>
        <input id="key" type="password" autocomplete="off" spellcheck="false" required autofocus
          placeholder="rg_…" aria-describedby="key-help" value=${key} onInput=${(event) => setKey(event.target.value)} />
        <small id="key-help">The key stays in the memory of this page. It is forgotten after 15 minutes without input,
          and when you close or reload the page.</small>
        <label><input type="checkbox" checked=${remember} onChange=${(event) => setRemember(event.target.checked)} />
          Keep the key in this tab over a reload</label>
        <${ErrorBox} error=${error} />
        <${Button} kind="primary" busy=${busy} type="submit">Open<//>
        <p class="muted">Use a key of your own, not a shared root key: the audit log then shows your name. An operator
          makes one with <code>keyward keys create --name "Your name" --scope "*"</code>.</p>
      </form>
    </main>`;
}
