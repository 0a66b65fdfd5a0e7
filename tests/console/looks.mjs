// Inspects how a view looks and whether it is accessible: light, dark, and on a narrow screen.

import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';

// Unlike import, this looks at NODE_PATH.
const AXE = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
const NARROW = { width: 380, height: 800 };
const LOOKS = [
  { name: 'light', scheme: 'light' },
  { name: 'dark', scheme: 'dark' },
  { name: 'narrow', scheme: 'light', viewport: NARROW },
];

export const schemeOf = (scheme) => [
  { name: 'prefers-color-scheme', value: scheme },
  { name: 'prefers-reduced-motion', value: 'reduce' },
];

// Calls `check(good, fault)`. The page stays as it was.
export async function inspect({ page }, view, check) {
  const before = page.viewport();
  for (const { name, scheme, viewport = before } of LOOKS) {
    await page.emulateMediaFeatures(schemeOf(scheme));
    await page.setViewport(viewport);
    for (const fault of await violations(page)) {
      check(false, `${view}, ${name}: ${fault}`);
    }
    for (const field of await page.evaluate(unnamed)) {
      check(false, `${view}, ${name}: only a placeholder names the field ${field}`);
    }
    const { wide, across } = await page.evaluate(overflow);
    check(!wide, `${view}, ${name}: the page scrolls sideways because of ${across}`);
  }
  await page.setViewport(before);
  await page.emulateMediaFeatures(schemeOf('light'));
}

// The protocol of the browser evaluates the source, so the content security policy stays in force.
async function violations(page) {
  if (!await page.evaluate(() => Boolean(window.axe))) {
    await page.evaluate(AXE);
  }
  return page.evaluate(async () => {
    const { violations } = await window.axe.run(document, { resultTypes: ['violations'] });
    return violations.flatMap(({ id, help, nodes }) => nodes.map((it) => `axe ${id}: ${help}: ${it.html.slice(0, 200)}`));
  });
}

// A placeholder goes away when a person types, although axe accepts it as a name.
function unnamed() {
  return [...document.querySelectorAll('input, select, textarea')]
    .filter((it) => !it.labels?.length && !it.ariaLabel && !it.hasAttribute('aria-labelledby')).map((it) => it.outerHTML);
}

function overflow() {
  const root = document.querySelector('dialog[open] > article') ?? document.documentElement;
  const wide = root.clientWidth < root.scrollWidth || document.documentElement.clientWidth < document.documentElement.scrollWidth;
  const right = root.getBoundingClientRect().left + root.clientWidth;
  const across = [...root.querySelectorAll('*')].filter((it) => right + 1 < it.getBoundingClientRect().right)
    .slice(0, 3).map((it) => it.outerHTML.slice(0, 100));
  return { wide, across: across.join(' and ') };
}
