// Preact, and `html` of htm without its cache. htm keeps each element of a template that has no changing
// part, for the life of the page, and Preact links an element with its parent. So a plaintext key that the
// parent showed would stay in memory after its dialog is closed and the key is forgotten.

import { h } from './vendor/htm-preact.js';
import htm from './vendor/htm.js';

export * from './vendor/htm-preact.js';
// The first member of `this` tells htm that the element changes, so that htm does not keep it.
export const html = htm.bind(function fresh() {
  this[0] = 3;
  return h.apply(null, arguments);
});
