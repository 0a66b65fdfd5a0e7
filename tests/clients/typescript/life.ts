// The life of a key, with the client that openapi-typescript and openapi-fetch make.

import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import createClient from "openapi-fetch";
import type { components, paths } from "./keyward.js";

type ApiKey = components["schemas"]["ApiKey"];
type Problem = components["schemas"]["Problem"];
type VerifyCode = components["schemas"]["VerifyCode"];

const { KEYWARD_URL = "", KEYWARD_KEY = "" } = process.env;
const keyward = createClient<paths>({ baseUrl: KEYWARD_URL, headers: { "X-API-Key": KEYWARD_KEY } });

class KeywardError extends Error {
  constructor(readonly problem: Problem) {
    super(`${problem.code}: ${problem.detail}`);
  }
}

/** Returns the data of an answer, or throws its problem. */
function ok<T>(answer: { data?: T; error?: Problem }): T {
  if (answer.error) throw new KeywardError(answer.error);
  return answer.data as T;
}

function textOf(key: ApiKey): string {
  assert.ok(key.key, "this answer holds the full key");
  return key.key;
}

async function verify(key: string, scopes: string[] = []): Promise<VerifyCode> {
  const outcome = ok(await keyward.POST("/api/v1/api-keys/verify", { body: { key, scopes } }));
  assert.equal(outcome.valid, outcome.code === "VALID");
  return outcome.code;
}

// Create. A repeated request gets the same answer.
const create = () =>
  keyward.POST("/api/v1/api-keys", {
    params: { header: { "Idempotency-Key": id } },
    body: {
      name: "Orders",
      scopes: ["orders:read"],
      expiresIn: 86400,
      allowedIps: ["203.0.113.0/24"],
      rateLimit: { limit: 100, windowSeconds: 60 },
      metadata: { team: "billing", tier: 2 },
    },
  });
const id = randomUUID();
const created = ok(await create());
const repeated = await create();
assert.equal(repeated.response.headers.get("Idempotency-Replayed"), "true");
assert.equal(ok(repeated).key, created.key);
assert.deepEqual(created.metadata, { team: "billing", tier: 2 });
assert.ok(new Date(created.expiresAt ?? "") > new Date());

// Verify. The list of addresses refuses a client whose address is unknown.
assert.equal(await verify(textOf(created)), "IP_NOT_ALLOWED");

// Change the key, but only the revision that was read. null clears a member.
const path = { id: created.id };
const read = await keyward.GET("/api/v1/api-keys/{id}", { params: { path } });
const etag = read.response.headers.get("ETag") ?? undefined;
const header = { "If-Match": etag };
const changed = ok(
  await keyward.PATCH("/api/v1/api-keys/{id}", { params: { path, header }, body: { allowedIps: null, expiresAt: null } }),
);
assert.equal(changed.allowedIps, null);
assert.equal(changed.expiresAt, null);
assert.equal(changed.rateLimit?.limit, 100);
const stale = await keyward.PATCH("/api/v1/api-keys/{id}", { params: { path, header }, body: { name: "Late" } });
assert.equal(stale.response.status, 412);
assert.equal(stale.error?.code, "precondition_failed");
assert.equal(await verify(textOf(created)), "VALID");
assert.equal(await verify(textOf(created), ["orders:write"]), "INSUFFICIENT_SCOPES");

// Rotate. Both credentials are accepted until the grace period ends.
const rotated = ok(
  await keyward.POST("/api/v1/api-keys/{id}/rotate", { params: { path }, body: { gracePeriodSeconds: 300 } }),
);
assert.notEqual(rotated.key, created.key);
assert.deepEqual(rotated.previousKeys.map((it) => it.keyPrefix), [created.keyPrefix]);
assert.equal(await verify(textOf(created)), "VALID");
assert.equal(await verify(textOf(rotated)), "VALID");

// Revoke.
ok(await keyward.DELETE("/api/v1/api-keys/{id}", { params: { path, query: { reason: "the test ends" } } }));
assert.equal(await verify(textOf(created)), "REVOKED");
assert.equal(await verify(textOf(rotated)), "REVOKED");

// Refusals.
const gone = await keyward.GET("/api/v1/api-keys/{id}", { params: { path } });
assert.equal(gone.error?.code, "not_found");
const faulty = await keyward.POST("/api/v1/api-keys", { body: { name: "", scopes: ["orders:fly"] } });
assert.equal(faulty.error?.status, 422);
assert.deepEqual(
  faulty.error?.errors?.map((it) => [it.pointer, it.code]),
  [["/name", "out_of_range"], ["/scopes/0", "unknown_scope"]],
);

// Lists, page by page.
for (const name of ["One", "Two", "Three"]) {
  ok(await keyward.POST("/api/v1/api-keys", { body: { name, scopes: ["orders:read"] } }));
}
const names: string[] = [];
let cursor: string | undefined;
do {
  const page = ok(await keyward.GET("/api/v1/api-keys", { params: { query: { limit: 2, cursor, scope: "orders:read" } } }));
  names.push(...page.data.map((it) => it.name));
  cursor = page.nextCursor ?? undefined;
} while (cursor);
assert.deepEqual(names, ["One", "Two", "Three"]);

// Events.
const query = { type: "api_key.revoked", order: "desc", limit: 1 } as const;
const events = ok(await keyward.GET("/api/v1/events", { params: { query } }));
assert.equal(events.data[0]?.type, "api_key.revoked");
assert.equal(events.data[0]?.subject, created.id);
assert.equal(events.data[0]?.data["reasonText"], "the test ends");

// The stream of events: the first message says where it begins.
const end = new AbortController();
const stream = await keyward.GET("/api/v1/events/stream", { parseAs: "stream", signal: end.signal });
const first = await stream.data?.getReader().read();
assert.match(new TextDecoder().decode(first?.value), /^id: ?\d+/m);
end.abort();

console.log("TypeScript: the life of a key");
