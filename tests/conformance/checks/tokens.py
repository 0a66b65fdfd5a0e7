"""Tokens: a key is exchanged for a short-lived token that a gateway verifies on its own."""
import base64
import json
import time
import zlib

from checks.audit import signed_by
from suite.check import equal, eventually, instant, seconds_until, theme
from suite.session import READ, WRITE

check = theme("Tokens")
OFFLINE = "gateways that cannot ask"


def decoded(text):
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def parts(text):
    """Returns the header and the claims of a token."""
    return [json.loads(decoded(it)) for it in text.split(".")[:2]]


def verified(s, text):
    """Returns the header and the claims of a token, if a published key signed it."""
    header, claims = parts(text)
    keys = s.ok("token_keys", None)["keys"]
    key = next(it for it in keys if it["kid"] == header["kid"])
    equal((header["alg"], key["alg"], key["kty"], key["crv"], "d" in key), ("EdDSA", "EdDSA", "OKP", "Ed25519", False))
    signed, _, signature = text.rpartition(".")
    assert signed_by(decoded(key["x"]), decoded(signature), signed.encode()), "the signature is wrong"
    return header, claims


def client(s, *scopes, **settings):
    """Returns a key that may be exchanged."""
    return s.key(*scopes, account=s.account(tokenExchange=True)["id"], **settings)


def exchange(s, made, **form):
    return s.ok("exchange", made["key"], form=form)["access_token"]


def is_refused(s, claims):
    """Returns whether the status list refuses the token."""
    _, listed = verified(s, s.ok("token_status", None))
    place, bits = claims["status"]["status_list"]["idx"], zlib.decompress(decoded(listed["status_list"]["lst"]))
    equal(listed["status_list"]["bits"], 1)
    assert place < 8 * len(bits), "the list is too short"
    return bool(bits[place // 8] >> place % 8 & 1)


@check("A key is exchanged for a token with its scopes, as RFC 8693 says", OFFLINE, "tokens", "accounts")
def _(s):
    made = client(s, READ, WRITE)
    answer = s.ok("exchange", made["key"])
    equal((answer["token_type"], set(answer["scope"].split())), ("Bearer", {READ, WRITE}))
    equal(answer["issued_token_type"], "urn:ietf:params:oauth:token-type:access_token")
    assert 60 <= answer["expires_in"] <= 900


@check("A token is a JWT of RFC 9068, signed with a published key", OFFLINE, "tokens", "accounts")
def _(s):
    made = client(s)
    header, claims = verified(s, exchange(s, made))
    equal(header["typ"], "at+jwt")
    equal((claims["sub"], claims["client_id"], claims["scope"]), (made["accountId"], made["id"], READ))
    assert claims["iat"] <= time.time() < claims["exp"] <= claims["iat"] + 900
    equal(claims["iss"], s.ok("token_metadata", None)["issuer"])
    assert claims["aud"] and claims["jti"]


@check("Each token has its own id", "replays", "tokens", "accounts")
def _(s):
    made = client(s)
    equal(len({parts(exchange(s, made))[1]["jti"] for _ in range(5)}), 5)


@check("A token has the scopes that were asked for, and no more than the key", "least privilege", "tokens", "accounts")
def _(s):
    made = client(s, READ, WRITE)
    equal(parts(exchange(s, made, scope=READ))[1]["scope"], READ)
    refused = s.send("exchange", client(s)["key"], form={"scope": f"{READ} {WRITE}"})
    equal((refused.status, refused.json["error"], refused.json["code"]), (400, "invalid_scope", "missing_scope"))


@check("No token has a power over the key server", "a token that manages keys", "tokens", "accounts", "privilege")
def _(s):
    made = client(s, READ, "api-keys:read")
    token = exchange(s, made)
    equal(parts(token)[1]["scope"], READ)
    s.refused("get_key", "unauthenticated", caller=token, id="self")
    refused = s.send("exchange", made["key"], form={"scope": "api-keys:read"})
    equal((refused.status, refused.json["error"]), (400, "invalid_scope"))


@check("A token is for a known audience only", "a token at another API", "tokens", "accounts")
def _(s):
    made = client(s)
    other = "https://other.example.com"
    equal(parts(exchange(s, made, audience=other))[1]["aud"], other)
    assert parts(exchange(s, made))[1]["aud"] != other
    refused = s.send("exchange", made["key"], form={"audience": "https://evil.example"})
    equal((refused.status, refused.json["error"]), (400, "invalid_target"))


@check("A token never outlives its key", "a short key with a long arm", "tokens", "accounts", "expiry")
def _(s):
    made = client(s, expiresAt=instant(70))
    _, claims = parts(exchange(s, made))
    assert claims["exp"] <= time.time() + seconds_until(made["expiresAt"]) + 0.1, claims


@check("A key that is not accepted is not exchanged, and is told why", OFFLINE, "tokens", "accounts", "disable",
       "reasons")
def _(s):
    revoked, off = client(s), client(s, enabled=False)
    s.revoke(revoked)
    for key, code in ((revoked["key"], "key_revoked"), (off["key"], "key_disabled"), ("nope", "invalid_key"),
                      (None, "missing_key")):
        answer = s.send("exchange", key)
        equal((answer.status, answer.json["error"], answer.json["code"]), (400, "invalid_request", code))


@check("Only keys of accounts for which it is allowed are exchanged", "least privilege", "tokens", "accounts")
def _(s):
    made = s.account()["apiKey"]
    answer = s.send("exchange", made["key"])
    equal((answer.status, answer.json["error"]), (400, "unauthorized_client"))


@check("The address list and the rate limit of a key hold for its exchange", "two ways around a limit", "tokens",
       "accounts", "address_lists", "rate_limits", "client_address")
def _(s):
    made = client(s, allowedIps=["203.0.113.7"])
    codes = [s.send("exchange", made["key"], [("X-Forwarded-For", it)]).status for it in ("203.0.113.7", "1.2.3.4")]
    equal(codes, [200, 400])
    limited = client(s, rateLimit={"limit": 1, "windowSeconds": 2592000})
    answers = [s.send("exchange", limited["key"]) for _ in range(2)]
    equal([it.status for it in answers], [200, 429])
    assert answers[1].header("retry-after")


@check("A refusal has the form of OAuth", "RFC 6749, 5.2", "tokens")
def _(s):
    answer = s.send("exchange", s.root, form={"grant_type": "password"})
    equal((answer.status, answer.json["error"]), (400, "unsupported_grant_type"))
    equal((answer.header("content-type"), answer.header("cache-control")), ("application/json", "no-store"))
    assert answer.json["error_description"]


@check("Other methods and bodies than a form are refused", "RFC 6749, 3.2", "tokens", "http", "problems")
def _(s):
    request = s.request("exchange")
    equal(s.transmit(request.but(method="GET", body=None)).status, 405)
    other = request.without("Content-Type").plus(("Content-Type", "application/json")).but(body=b"{}")
    assert s.transmit(other).status in (400, 415)


@check("The server's keys and its metadata say where all is", "RFC 8414", "tokens")
def _(s):
    metadata = s.ok("token_metadata", None)
    path = lambda operation: s.request(operation, None).path
    equal((metadata["jwks_uri"], metadata["token_endpoint"]),
          (metadata["issuer"] + path("token_keys"), metadata["issuer"] + path("exchange")))
    assert "urn:ietf:params:oauth:grant-type:token-exchange" in metadata["grant_types_supported"]
    for it in s.ok("token_keys", None)["keys"]:
        assert it["kid"] and "d" not in it, it


@check("Keys and status list can be cached, and compared", "many gateways", "tokens", "http")
def _(s):
    for operation in ("token_keys", "token_status"):
        answer = s.send(operation, None)
        assert "max-age=" in answer.header("cache-control"), answer.headers
        again = s.send(operation, None, [("If-None-Match", answer.header("etag"))])
        assert again.status == 304 or again.header("etag") != answer.header("etag"), again


@check("The status list is signed, and says how long it holds", "draft-ietf-oauth-status-list", "tokens", "accounts")
def _(s):
    _, claims = verified(s, exchange(s, client(s)))
    header, listed = verified(s, s.ok("token_status", None))
    equal((header["typ"], listed["sub"]), ("statuslist+jwt", claims["status"]["status_list"]["uri"]))
    assert listed["iat"] <= time.time() < listed["exp"] and 2 <= listed["ttl"] <= 300, listed


@check("The list refuses the tokens of a revoked key soon after the revocation", "a stolen token", "tokens", "accounts")
def _(s):
    made, other = client(s), client(s)
    claims, others = parts(exchange(s, made))[1], parts(exchange(s, other))[1]
    equal((is_refused(s, claims), is_refused(s, others)), (False, False))
    s.revoke(made)
    eventually(lambda: is_refused(s, claims), "the list", within=10)
    equal(is_refused(s, others), False)


@check("The list refuses the tokens of a disabled key, until it is enabled", "a stolen token", "tokens", "accounts",
       "disable")
def _(s):
    made = client(s)
    claims = parts(exchange(s, made))[1]
    s.update(made, enabled=False)
    eventually(lambda: is_refused(s, claims), "the list", within=10)
    s.update(made, enabled=True)
    eventually(lambda: not is_refused(s, claims), "the list", within=10)


@check("The list refuses the tokens of a suspended account", "a customer that does not pay", "tokens", "accounts",
       "suspend")
def _(s):
    made = client(s)
    claims = parts(exchange(s, made))[1]
    s.ok("update_account", id=made["accountId"], body={"status": "suspended"})
    eventually(lambda: is_refused(s, claims), "the list", within=10)


@check("The list refuses the tokens of an old text once it has ended", "a rotation after a leak", "tokens", "accounts",
       "rotation")
def _(s):
    made = client(s)
    old = parts(exchange(s, made))[1]
    new = parts(exchange(s, s.rotate(made, gracePeriodSeconds=0)))[1]
    eventually(lambda: is_refused(s, old), "the list", within=10)
    equal(is_refused(s, new), False)


@check("The list refuses a token whose key lost a scope since", "a token that says too much", "tokens", "accounts",
       "update")
def _(s):
    made = client(s, READ, WRITE)
    wide = parts(exchange(s, made))[1]
    s.update(made, scopes=[READ])
    eventually(lambda: is_refused(s, wide), "the list", within=10)
    narrow = parts(exchange(s, made))[1]
    equal((narrow["scope"], is_refused(s, narrow)), (READ, False))
