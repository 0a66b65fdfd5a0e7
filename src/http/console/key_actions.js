import { html } from './vendor/htm-preact.js';
export const KeyMenu = () => html`<span></span>`;
