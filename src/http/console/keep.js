// The choice to keep the key of the session in the tab.

import { html } from './html.js';
import { useId } from './ui.js';

export function Keep({ label = 'Keep the key in this tab over a reload', checked, onChange, ...rest }) {
  const id = useId('keep');
  return html`
    <div class="keep">
      <label><input type="checkbox" checked=${checked} aria-describedby=${id} ...${rest}
        onChange=${(event) => onChange(event.target.checked)} /> ${label}</label>
      <small id=${id}>The browser may write it to disk, and a duplicated tab gets it too.</small>
    </div>`;
}
