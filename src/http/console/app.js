import { html, render } from './vendor/htm-preact.js';

render(html`<main class="container"><h1>keyward</h1></main>`, document.getElementById('app'));
