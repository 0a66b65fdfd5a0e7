import { html } from './vendor/htm-preact.js';
import { View } from './ui.js';
export const Accounts = () => html`<${View} title="Accounts"><p>todo</p><//>`;
