// The table with 10,000 keys.

import { createHash } from 'node:crypto';
import { until } from './wait.mjs';

const COUNT = 10_000;
const MOST_ROWS = 50;
const MOST_ELEMENTS = 5000;
// What one input may cost, in seconds of the processor. Other programs on the machine do not change it.
const MOST_WORK = 1;

export async function many(t) {
  const server = await t.server();
  const tab = await t.tab(server);
  await t.step('import the keys', async () => {
    const keys = Array.from({ length: COUNT }, (_, at) => JSON.stringify({
      name: `Customer ${String((at * 7919) % COUNT).padStart(5, '0')}`,
      scopes: at % 3 ? ['orders:read'] : ['orders:read', 'orders:write', 'products:read'],
      enabled: at % 10 !== 0,
      ...(at % 4 ? {} : { expiresAt: new Date(Date.now() + (at + 1) * 86_400_000).toISOString() }),
      sha256: createHash('sha256').update(`key ${at}`).digest('hex'),
    }));
    await server.run(['import', '-'], `${keys.join('\n')}\n`);
  });
  await t.step('all keys are loaded, and few are in the document', async () => {
    await tab.signIn((await server.createKey('Zuse', ['*'])).key);
    await tab.see('10,002 keys', 120_000);
    await tab.gone(/loading more/);
    await tab.see('Page 1 of 201');
    await isSmall(t, tab);
  });
  await t.step('sort by each column, in both directions', async () => {
    for (const column of ['Name', 'Prefix', 'Scopes', 'Status', 'Last used', 'Expires', 'Created']) {
      await cheaply(t, tab, `sort by ${column}`, async () => {
        await sorted(tab, column);
        await sorted(tab, column);
      }, 2 * MOST_WORK);
    }
    await sorted(tab, 'Name', 'ascending');
    t.check((await tab.rows())[0][0] === 'Customer 00000', `the first name is ${(await tab.rows())[0][0]}`);
    await sorted(tab, 'Name', 'descending');
    t.check((await tab.rows())[0][0] === 'Zuse', `the last name is ${(await tab.rows())[0][0]}`);
    await sorted(tab, 'Created', 'descending');
  });
  await t.step('leaf to the next and to the last page', async () => {
    await tab.click('button', 'Next');
    await tab.see('Page 2 of 201');
    await until('the second page is shown', async () => (await tab.rows()).length === MOST_ROWS);
    await tab.click('button', 'Previous');
    await tab.see('Page 1 of 201');
    await tab.fill('searchbox', 'Search keys', 'CUSTOMER 000');
    await tab.see('Page 1 of 2');
    await tab.click('button', 'Next');
    await tab.see('Page 2 of 2');
    const next = await tab.find('button', 'Next');
    t.check(await next.evaluate((it) => it.disabled), 'a page follows the last one');
    t.check((await tab.rows()).every((it) => /^Customer 000\d\d/.test(it[0])), 'the last page shows other keys');
    await tab.fill('searchbox', 'Search keys', 'x');
    await tab.page.keyboard.press('Backspace');
    await tab.see('Page 1 of 201');
  });
  await t.step('each letter of a search costs little', async () => {
    const { data: [wanted] } = await server.done('GET', 'api-keys?limit=1&order=asc&q=Customer%2004242');
    const search = await tab.find('searchbox', 'Search keys');
    await search.focus();
    for (const [at, letter] of [...wanted.keyPrefix].entries()) {
      await cheaply(t, tab, `the letter ${at + 1} of a search`, () => tab.page.keyboard.type(letter));
      await isSmall(t, tab);
    }
    await until('the search finds one key', async () => (await tab.rows()).length === 1);
    t.check((await tab.rows())[0][0] === 'Customer 04242', 'the search finds another key');
    await tab.see('1 of 10,002 keys');
    await t.inspect(tab, 'search among 10,000 keys');
    await tab.fill('searchbox', 'Search keys', 'no such key');
    await tab.heading('No key matches');
    await tab.fill('searchbox', 'Search keys', 'customer 0');
    await tab.see('10,000 of 10,002 keys');
    await tab.choose('Status', 'disabled');
    await tab.see('1,000 of 10,002 keys');
    t.check((await tab.rows()).every((it) => it[3] === 'Disabled'), 'the filter shows other keys');
    await isSmall(t, tab);
  });
}

// Presses the heading until the table has the wanted direction, or once.
async function sorted(tab, column, wanted = null) {
  const header = await tab.find('columnheader', new RegExp(`^${column}`));
  const direction = () => header.evaluate((it) => it.ariaSort);
  for (let presses = 0; presses < 2 && await direction() !== wanted; presses += 1) {
    const before = await direction();
    await tab.click('button', column, header);
    await until(`the order by ${column} changes`, async () => await direction() !== before);
    if (!wanted) {
      break;
    }
  }
}

async function isSmall(t, { page }) {
  const { rows, elements } = await page.evaluate(() => ({
    rows: document.querySelectorAll('tbody tr').length, elements: document.querySelectorAll('*').length,
  }));
  t.check(rows <= MOST_ROWS, `the table has ${rows} rows in the document`);
  t.check(elements <= MOST_ELEMENTS, `the document has ${elements} elements`);
}

// Measures the work of the page for an action, as time of its thread on the processor.
async function cheaply(t, { page }, what, action, most = MOST_WORK) {
  const inspector = await page.createCDPSession();
  await inspector.send('Performance.enable', { timeDomain: 'threadTicks' });
  const work = async () => {
    const { metrics } = await inspector.send('Performance.getMetrics');
    return metrics.find((it) => it.name === 'TaskDuration').value;
  };
  const before = await work();
  await action();
  await page.evaluate(() => new Promise((done) => requestAnimationFrame(() => setTimeout(done))));
  const spent = await work() - before;
  console.log(`console: many: ${what}: ${spent.toFixed(2)} seconds of the processor`);
  t.check(spent <= most, `${what} costs ${spent.toFixed(2)} seconds of the processor`);
  await inspector.detach();
}
