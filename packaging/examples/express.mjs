// Express: lets keyward verify the API key of each request. Needs Node.js 18 or later and no other package.
// Protect a route with app.get('/orders', keyward('orders:read'), handler); req.keyward then names the key.
// KEYWARD_URL is the address of keyward. KEYWARD_KEY_FILE holds your service's own key, with the scope
// api-keys:verify; it is read for each request. The rules are in docs/integrate.md.
import { readFileSync } from 'node:fs'
import { STATUS_CODES } from 'node:http'

const UNAUTHORIZED = ['MALFORMED', 'NOT_FOUND', 'REVOKED', 'ROTATED', 'ACCOUNT_SUSPENDED', 'DISABLED', 'EXPIRED']
const FORBIDDEN = ['INSUFFICIENT_SCOPES', 'IP_NOT_ALLOWED']
const CLOSED = ['ECONNRESET', 'EPIPE', 'UND_ERR_SOCKET']
const CHALLENGE = { 'WWW-Authenticate': 'ApiKey realm="api", header="X-API-Key"' }

const failure = code => Object.assign(new Error(), { code })

// Node's fetch keeps connections to keyward open.
async function verify(question) {
  const own = readFileSync(process.env.KEYWARD_KEY_FILE, 'utf8').trim()
  const options = {
    method: 'POST',
    headers: { 'Content-Type': 'application/json', 'X-API-Key': own },
    body: JSON.stringify(question),
    redirect: 'manual',
    signal: AbortSignal.timeout(2000), // In all.
  }
  const url = new URL('/api/v1/api-keys/verify', process.env.KEYWARD_URL ?? 'http://127.0.0.1:8080')
  const ask = async () => {
    const answer = await fetch(url, options)
    const text = await answer.text()
    if (answer.status !== 200) throw failure(`status ${answer.status}`)
    return JSON.parse(text)
  }
  return ask().catch(error => { // Only a connection that was closed is tried once more.
    if (CLOSED.includes(error.cause?.code)) return ask()
    throw error
  })
}

export function keyward(...scopes) {
  return async (req, res, next) => {
    const refuse = (status, code, headers = {}, members = {}) =>
      res.status(status).set(headers).type('application/problem+json')
        .end(JSON.stringify({ type: 'about:blank', title: STATUS_CODES[status], status, code, ...members }))
    try {
      const bearer = /^bearer +(.+)$/i.exec(req.get('Authorization') ?? '')?.[1]
      const key = req.get('X-API-Key') ?? bearer
      if (!key) return refuse(401, 'MISSING_KEY', CHALLENGE)
      if (bearer && bearer !== key) return refuse(400, 'CONFLICTING_KEYS')
      const { valid, code, ...about } = await verify({ key, scopes, clientIp: req.ip?.split('%')[0] })
      if (UNAUTHORIZED.includes(code)) return refuse(401, code, CHALLENGE)
      if (FORBIDDEN.includes(code)) return refuse(403, code, {}, { missingScopes: about.missingScopes })
      if (code === 'RATE_LIMITED') {
        const wait = Math.max(1, Math.ceil((Date.parse(about.rateLimit.resetAt) - Date.now()) / 1000))
        return refuse(429, code, { 'Retry-After': String(wait) })
      }
      if (valid !== true || code !== 'VALID') throw failure('unknown answer')
      req.keyward = about // accountId, externalId, keyId, scopes and the other members of keyward's answer
    } catch (error) { // Log no text of an answer: it could hold a key.
      console.error(`keyward cannot verify: ${error.name} ${error.cause?.code ?? error.code ?? ''}`)
      return refuse(503, 'UNAVAILABLE', { 'Retry-After': '5' })
    }
    next()
  }
}

// ---- End of the middleware. Below is a sample API. ----

const { default: express } = await import('express')
const app = express()
const show = (req, res) => res.json({ account: req.keyward.accountId, key: req.keyward.keyId, scopes: req.keyward.scopes })
app.get('/orders', keyward('orders:read'), show)
app.post('/orders', keyward('orders:write'), show)
app.get('/whoami', keyward(), show)
app.listen(Number(process.env.PORT ?? 3000), '127.0.0.1')
