// The browser, with a profile that is deleted at the end.

import { mkdtempSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const puppeteer = createRequire(import.meta.url)('puppeteer-core'); // Unlike import, this looks at NODE_PATH.

export async function withBrowser(action) {
  const profile = mkdtempSync(join(tmpdir(), 'keyward-browser-'));
  const browser = await puppeteer.launch({
    executablePath: process.env.CHROMIUM || '/usr/bin/chromium',
    userDataDir: profile,
    args: [
      '--no-sandbox', // Chromium has none for root.
      '--disable-gpu',
      '--disable-quic',
      '--disable-dev-shm-usage',
      '--no-first-run',
      '--disable-background-networking',
      '--disable-component-update',
      '--disable-sync',
      '--lang=en',
    ],
  });
  try {
    return await action(browser);
  } finally {
    await browser.close();
    rmSync(profile, { recursive: true, force: true });
  }
}
