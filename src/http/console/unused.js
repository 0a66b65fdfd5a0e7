import { html } from './vendor/htm-preact.js';
import { View } from './ui.js';
export const Unused = () => html`<${View} title="Unused"><p>todo</p><//>`;
