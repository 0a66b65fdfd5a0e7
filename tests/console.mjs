// Tests the console as a person uses it, in a real browser, against servers that this script starts.
//
//   node tests/console.mjs [STORY…]
//
//   KEYWARD_BINARY   the keyward binary
//   CHROMIUM         the browser (optional; /usr/bin/chromium)
//   NODE_PATH        where puppeteer-core and axe-core are installed

import { withBrowser } from './console/browser.mjs';
import { Story } from './console/story.mjs';
import { connection } from './console/connection.mjs';
import { keyboard } from './console/keyboard.mjs';
import { life } from './console/life.mjs';
import { link } from './console/link.mjs';
import { many } from './console/many.mjs';
import { operator } from './console/operator.mjs';
import { refusals } from './console/refusals.mjs';
import { session } from './console/session.mjs';
import { tokens } from './console/tokens.mjs';

const STORIES = { life, session, keyboard, refusals, connection, operator, link, many, tokens };

const { KEYWARD_BINARY: binary } = process.env;
const wanted = process.argv.slice(2);
const unknown = wanted.filter((it) => !(it in STORIES));
if (!binary || unknown.length) {
  throw new Error(binary ? `no such story: ${unknown}; known are ${Object.keys(STORIES)}` : 'KEYWARD_BINARY is needed');
}

const faults = [];
await withBrowser(async (browser) => {
  for (const name of wanted.length ? wanted : Object.keys(STORIES)) {
    const story = new Story(name, browser, binary);
    await story.run(STORIES[name]);
    faults.push(...story.faults.map((it) => `${name}: ${it}`));
  }
});
if (faults.length) {
  for (const fault of faults) {
    console.error(`console: ${fault}`);
  }
  console.error(`console: FAILED with ${faults.length} faults`);
  process.exit(1);
}
console.log('console: all checks passed');
