// Express: lets keyward verify the API key of each request. Needs Node.js 18 or later and no other package.
// Protect a route with app.get('/orders', keyward('orders:read'), handler); req.keyward then names the key.
// KEYWARD_URL is the address of keyward. KEYWARD_KEY_FILE holds your service's own key, with the scope
// api-keys:verify; it is read for each request. The rules are in docs/integrate.md.
import { readFileSync } from 'node:fs'
import { isIP } from 'node:net'
import { STATUS_CODES } from 'node:http'

const UNAUTHORIZED = ['MALFORMED', 'NOT_FOUND', 'REVOKED', 'ROTATED', 'ACCOUNT_SUSPENDED', 'DISABLED', 'EXPIRED']
const FORBIDDEN = ['INSUFFICIENT_SCOPES', 'IP_NOT_ALLOWED']
const CLOSED = ['ECONNRESET', 'EPIPE', 'UND_ERR_SOCKET']
const ENDPOINT = new URL('/api/v1/api-keys/verify', process.env.KEYWARD_URL ?? 'http://127.0.0.1:8080')

const failure = (code) => new Error(code, { cause: { code } })

// Node's fetch keeps connections to keyward open.
async function verify(question) {
  const own = readFileSync(process.env.KEYWARD_KEY_FILE, 'utf8').trim()
  const headers = { 'Content-Type': 'application/json', 'X-API-Key': own }
  const signal = AbortSignal.timeout(2000) // For both attempts.
  const ask = () =>
    fetch(ENDPOINT, { method: 'POST', headers, body: JSON.stringify(question), redirect: 'manual', signal })
  const answer = await ask().catch((error) => {
    if (!CLOSED.includes(error.cause?.code)) throw error
    return ask() // Only a connection that was closed is tried once more.
  })
  if (answer.status !== 200) throw failure(`status ${answer.status}`)
  return answer.json()
}

function refuse(res, status, code, headers = {}, members = {}) {
  const problem = { type: 'about:blank', title: STATUS_CODES[status], status, code, ...members }
  if (status === 401) res.set('WWW-Authenticate', 'ApiKey realm="api", header="X-API-Key"')
  res.status(status).set(headers).type('application/problem+json').end(JSON.stringify(problem))
}

export function keyward(...scopes) {
  return async (req, res, next) => {
    try {
      const bearer = /^bearer +(.+)$/i.exec(req.get('Authorization') ?? '')?.[1]
      const key = req.get('X-API-Key') ?? bearer
      if (!key) return refuse(res, 401, 'MISSING_KEY')
      if (bearer && bearer !== key) return refuse(res, 400, 'CONFLICTING_KEYS')
      const address = req.ip?.split('%')[0]
      // No IP address, as on a Unix socket: the question has no clientIp.
      const question = isIP(address) ? { key, scopes, clientIp: address } : { key, scopes }
      const { valid, code, ...about } = await verify(question)
      if (UNAUTHORIZED.includes(code)) return refuse(res, 401, code)
      if (FORBIDDEN.includes(code)) return refuse(res, 403, code, {}, { missingScopes: about.missingScopes })
      if (code === 'RATE_LIMITED') {
        const wait = Math.ceil((Date.parse(about.rateLimit.resetAt) - Date.now()) / 1000)
        return refuse(res, 429, code, { 'Retry-After': String(Math.max(1, wait)) })
      }
      if (valid !== true || code !== 'VALID') throw failure('unknown answer')
      req.keyward = about // accountId, externalId, keyId, scopes and the other members of keyward's answer
    } catch (error) {
      // Log no text of an answer: it could hold a key.
      console.error(`keyward cannot verify: ${error.name} ${error.cause?.code ?? error.code ?? ''}`)
      return refuse(res, 503, 'UNAVAILABLE', { 'Retry-After': '5' })
    }
    next()
  }
}
