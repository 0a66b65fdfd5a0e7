// What the audit log tells about a key, and how it is followed and exported.

import { mkdtempSync, readFileSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { until } from './wait.mjs';

// The newest first.
const REFUSED = 'Ended credential used';
const STORY = ['Key revoked', 'Key changed', REFUSED, 'Grace period ended', 'Key rotated', 'Key rotated', 'Key created'];

export async function audit(t, tab, operator) {
  await t.step('the page of the revoked key tells its history', async () => {
    await tab.heading('No API key with this id');
    await tab.see(/Key revoked\s+“The export has moved”/);
    const story = await tab.find('region', 'History');
    const told = await story.$$eval('li strong', (all) => all.map((it) => it.innerText));
    t.check(JSON.stringify(told) === JSON.stringify(STORY), `the story is ${told}`);
    const text = await story.evaluate((it) => it.innerText);
    t.check(text.match(/by Ada Lovelace/g)?.length === STORY.length - 1, `the story names another actor: ${text}`);
    await t.inspect(tab, 'history of a revoked key');
  });
  await t.step('from the key to its events in the audit log', async () => {
    await tab.click('link', 'Open in the audit log');
    await tab.heading('Audit log');
    await tab.gone(/The key .* was revoked\./);
    const events = await until('the events of the key are listed', async () => {
      const rows = await eventRows(tab);
      return rows.length === STORY.length && rows;
    });
    t.check(JSON.stringify(events.map((it) => it.name)) === JSON.stringify(STORY), `the log tells ${events.map((it) => it.name)}`);
    t.check(events.every((it) => it.name === REFUSED || it.actor === operator.name), `the actors are ${events.map((it) => it.actor)}`);
    await tab.click('button', /^Details of event \d+, Key revoked$/);
    await tab.see('The export has moved');
    await t.inspect(tab, 'audit log, an event open');
  });
  await t.step('filter by the kind of event', async () => {
    await tab.choose('Type of event', 'api_key.rotated');
    await until('only rotations are listed', async () => {
      const names = (await eventRows(tab)).map((it) => it.name);
      return names.length === 2 && names.every((it) => it === 'Key rotated');
    });
    await tab.goto('#/audit');
  });
}

// Returns the listed events, each with its name, its actor and its subject.
const eventRows = (tab) => tab.page.$$eval('tr:has(> [data-title="Event"])', (rows) => rows.map((row) => {
  const cell = (title) => row.querySelector(`[data-title="${title}"]`).innerText.trim();
  return { name: row.querySelector('[data-title="Event"] span').firstChild.data.trim(), actor: cell('Who'), subject: cell('What') };
}));

export async function follow(t, tab) {
  await t.step('follow the log live', async () => {
    await tab.see(/✓ \d+ hashes recomputed, \d+ links of the chain checked/);
    await tab.click('switch', 'Live');
    await tab.see('Live: new events appear at the top.');
    const made = await tab.server.createKey('Made while the log is open', ['orders:read']);
    await until('the new event is at the top', async () => {
      const [newest] = await eventRows(tab);
      return newest.name === 'Key created' && newest.subject.startsWith(made.name) && newest.actor === 'Root key';
    });
    await t.inspect(tab, 'audit log, live');
    await tab.click('switch', 'Live');
  });
  await t.step('export the log as JSON Lines', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'keyward-export-'));
    try {
      await tab.saveTo(folder);
      await tab.click('button', 'Export…');
      await tab.heading('Export events');
      await t.inspect(tab, 'export');
      await tab.click('button', 'Save file');
      await tab.see(/Saved \d+ events/);
      const name = await until('the file is saved', () => readdirSync(folder).find((it) => it.endsWith('.jsonl')));
      const events = readFileSync(join(folder, name), 'utf8').trimEnd().split('\n').map((it) => JSON.parse(it));
      t.check(events.every(({ seq }, at) => seq === at + 1), 'the export does not hold each event once, the oldest first');
      t.check(events.slice(1).every((it, at) => it.prevHash === events[at].hash), 'the exported events are no chain');
      t.check(events.some((it) => it.type === 'api_key.revoked' && it.data.reasonText === 'The export has moved'),
        'the export lacks the revocation');
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
    await tab.page.keyboard.press('Escape');
    await tab.noDialog();
  });
}
