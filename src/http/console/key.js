import { html } from './vendor/htm-preact.js';
import { View } from './ui.js';
export const KeyPage = () => html`<${View} title="KeyPage"><p>todo</p><//>`;
