// Sample data for pictures: the keys of a shop that has used keyward for a year.

const DAY = 86_400_000;
const HOUR = 3_600_000;
const MINUTE = 60_000;

const READ = ['orders:read', 'products:read', 'inventory:read'];
// The ages are in milliseconds before now; `ends` is in milliseconds after now.
const KEYS = [
  { name: 'Web shop, production', scopes: ['orders:read', 'orders:write', 'products:read', 'inventory:read'], created: 212 * DAY, used: 4000, ends: 64 * DAY, daily: 41_000 },
  { name: 'Web shop, staging', scopes: ['orders:read', 'orders:write', 'products:read', 'inventory:read'], created: 212 * DAY, used: 3 * HOUR, ends: 64 * DAY, daily: 320 },
  { name: 'Warehouse scanners', scopes: ['inventory:read', 'inventory:write'], created: 148 * DAY, used: 40_000, ends: 32 * DAY, daily: 9200 },
  { name: 'Invoice export', scopes: ['orders:read', 'commissions:read'], created: 91 * DAY, used: 26 * MINUTE, ends: 89 * DAY, daily: 1440, rotating: true },
  { name: 'Price comparison feed', scopes: ['products:read'], created: 85 * DAY, used: 9 * MINUTE, ends: 5 * DAY, daily: 96 },
  { name: 'Data warehouse', scopes: READ, created: 61 * DAY, used: 14 * HOUR, ends: 304 * DAY, daily: 24 },
  { name: 'Partner: Contoso Logistics', scopes: ['orders:read'], created: 44 * DAY, used: 2 * MINUTE, ends: 46 * DAY, daily: 2600, allowedIps: ['198.51.100.0/24'] },
  { name: 'Mobile app, beta', scopes: ['orders:read', 'products:read'], created: 30 * DAY, used: 6 * DAY, ends: 60 * DAY, daily: 12, enabled: false },
  { name: 'Webhook registration', scopes: ['webhooks:read', 'webhooks:write'], created: 12 * DAY, used: 12 * DAY, ends: 353 * DAY, daily: 0 },
  { name: 'Trade fair demo', scopes: ['products:read'], created: 9 * DAY, used: 3 * DAY, ends: -2 * DAY, daily: 40 },
];

// Fills the server, and returns the key of a person of the shop.
export async function fill(server) {
  const account = await server.done('POST', 'accounts', {
    name: 'Northwind Traders', externalId: 'cust_1042', maxKeys: 50, metadata: { plan: 'business' },
  });
  const inside = `accounts/${account.id}/api-keys`;
  const person = await server.done('POST', inside, {
    name: 'Ada Lovelace', scopes: [...new Set([...account.apiKey.scopes, 'api-keys:rotate'])], expiresIn: 365 * 86_400,
  });
  await server.done('DELETE', `api-keys/${account.apiKey.id}?reason=Replaced%20by%20a%20key%20for%20each%20person`);
  for (const { name, scopes, allowedIps, enabled, rotating } of [...KEYS].reverse()) {
    const key = await server.done('POST', 'api-keys', { name, scopes, allowedIps, expiresIn: 90 * 86_400 }, person.key);
    if (enabled === false) {
      await server.done('PATCH', `api-keys/${key.id}`, { enabled }, person.key);
    }
    if (rotating) {
      await server.done('PATCH', `api-keys/${key.id}`, { rateLimit: { limit: 600, windowSeconds: 60 } }, person.key);
      const rotated = await server.done('POST', `api-keys/${key.id}/rotate`, { gracePeriodSeconds: 3600 }, person.key);
      await server.done('POST', 'api-keys/verify', { key: rotated.key, scopes: ['orders:read'], clientIp: '203.0.113.17' });
    }
  }
  return person;
}

// Lets the page see the ages and the counts of the sample, which no server of today can have.
export async function age(page) {
  await page.setRequestInterception(true);
  page.on('request', async (request) => {
    const { pathname } = new URL(request.url());
    if (request.method() !== 'GET' || !/\/api-keys(\/key_\w+(\/usage)?)?$|\/usage$/.test(pathname)) {
      return request.continue();
    }
    const response = await fetch(request.url(), { headers: request.headers() });
    const body = await response.json();
    const aged = /usage$/.test(pathname) ? await countUses(body, request) : agedKeys(body);
    const etag = response.headers.get('ETag');
    return request.respond({
      status: response.status, contentType: 'application/json', body: JSON.stringify(aged), headers: etag ? { ETag: etag } : {},
    });
  });
}

const agedKeys = (body) => (body.data ? { ...body, data: body.data.map(agedKey) } : agedKey(body));

function agedKey(key) {
  const sample = KEYS.find((it) => it.name === key.name);
  const at = (distance) => new Date(Date.now() + distance).toISOString();
  if (!sample) {
    return { ...key, createdAt: at(-231 * DAY), lastUsedAt: at(0), expiresAt: at(134 * DAY) };
  }
  const used = sample.rotating ? key.lastUsedAt : at(-sample.used);
  const aged = { ...key, createdAt: at(-sample.created), updatedAt: at(-sample.created), expiresAt: at(sample.ends), lastUsedAt: used };
  return aged;
}

// Fewer uses at weekends, and a few refusals, the same at each run.
async function countUses(body, request) {
  const [, id] = request.url().match(/(key_\w+)\/usage/) ?? [];
  const key = id && await (await fetch(new URL(`/api/v1/api-keys/${id}`, request.url()), { headers: request.headers() })).json();
  const daily = key ? KEYS.find((it) => it.name === key.name)?.daily ?? 30 : 55_000;
  const data = body.data.map((day, at) => {
    const weekend = [0, 6].includes(new Date(day.date).getUTCDay()) ? 0.35 : 1;
    const wave = 0.8 + 0.2 * Math.sin(at * 1.9) + 0.15 * Math.sin(at * 5.3);
    const allowed = Math.round(daily * weekend * wave);
    const denied = { ...day.denied, rateLimited: at % 9 === 4 ? Math.round(allowed * 0.12) : 0, insufficientScopes: at % 13 === 6 ? 35 : 0 };
    return { ...day, allowed, denied };
  });
  return { ...body, data };
}
