import { html } from './vendor/htm-preact.js';
import { View } from './ui.js';
export const AuditLog = () => html`<${View} title="AuditLog"><p>todo</p><//>`;
export const Story = () => null;
