// Verifies a token of keyward (docs/tokens.md) with jose, and its place in the status list. Needs Node 20 or later.
// KEYWARD_URL is the `public_url` of keyward. TOKEN_AUDIENCE is the name of your API, if keyward's configuration has one.
import { createRemoteJWKSet, jwtVerify } from "jose";
import { inflateSync } from "node:zlib";

const issuer = (process.env.KEYWARD_URL ?? "http://127.0.0.1:8080").replace(/\/+$/, "");
const audience = process.env.TOKEN_AUDIENCE ?? issuer;
const list = `${issuer}/token-status/1`;
const algorithms = ["EdDSA", "Ed25519", "ES256"];
const MOST_BYTES = 4 << 20; // A list of 32 million credentials.
// Fetches the keys when one is missing, at most twice a minute.
const keys = createRemoteJWKSet(new URL(`${issuer}/.well-known/jwks.json`), { timeoutDuration: 2000 });

// Fetches the list. Keep it for `ttl` seconds. Never replace it by a list whose `iat` is older, which a cache may have.
export async function fetchList() {
  const answer = await fetch(list, { signal: AbortSignal.timeout(2000) });
  if (!answer.ok) throw new Error(`status ${answer.status}`);
  // The same keys sign tokens and lists. Only `typ` tells them apart. A list has no `aud`.
  const options = { issuer, subject: list, typ: "statuslist+jwt", algorithms, requiredClaims: ["exp", "iat"], clockTolerance: 5 };
  const { payload } = await jwtVerify(await answer.text(), keys, options);
  if (payload.status_list.bits !== 1) throw new Error("another list");
  const packed = Buffer.from(payload.status_list.lst, "base64url");
  return { bits: inflateSync(packed, { maxOutputLength: MOST_BYTES }), iat: payload.iat, ttl: payload.ttl, exp: payload.exp };
}

// Returns the claims of a token that keyward signed for this API and that is not refused in this list.
export async function verifyToken(token, { bits, exp }, ...scopes) {
  // Without a list that still holds, a token could be that of a revoked key.
  if (!(Date.now() < exp * 1000)) throw new Error("UNAVAILABLE");
  // No token of keyward lives longer than 15 minutes. `maxTokenAge` also refuses an `iat` in the future.
  const options = { issuer, audience, typ: "at+jwt", algorithms, requiredClaims: ["exp", "iat", "sub"], clockTolerance: 5, maxTokenAge: "15m" };
  const { payload } = await jwtVerify(token, keys, options);
  const { uri, idx } = payload.status.status_list;
  const byte = uri === list ? bits[idx >> 3] : undefined;
  if (byte === undefined || (byte >> (idx & 7)) & 1) throw new Error("REVOKED");
  const held = payload.scope.split(" ");
  if (!scopes.every((it) => held.includes(it))) throw new Error("INSUFFICIENT_SCOPES");
  return payload;
}

// ---- End of the middleware. Below is a sample: node verify_token.mjs SCOPE… <token.txt ----

if (process.argv[1] === import.meta.filename) {
  const { text } = await import("node:stream/consumers");
  const token = (await text(process.stdin)).trim();
  console.log(JSON.stringify(await verifyToken(token, await fetchList(), ...process.argv.slice(2))));
}
