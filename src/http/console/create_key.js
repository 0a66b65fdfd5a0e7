import { html } from './vendor/htm-preact.js';
import { Dialog } from './ui.js';
export const CreateKey = ({ account, onClose }) => html`<${Dialog} title="Create a key" onClose=${() => onClose(false)}><p>todo</p><//>`;
