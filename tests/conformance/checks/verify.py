"""Verification: the question of a gateway, and the verdict."""
from suite.check import before, equal, instant, theme, wait_until
from suite.session import OTHER, READ, WRITE, WRONG_KEY

check = theme("Verify")
ALL = ["orders:read", "orders:write", "products:read", "products:write", "inventory:read", "inventory:write",
       "commissions:read", "webhooks:read", "webhooks:write"]


def altered(text, at):
    """Returns the text with another character at this place."""
    other = "0" if text[at] != "0" else "1"
    return text[:at] + other + text[at:][1:]


@check("A new key is valid", "the promise of each key server", "create", "verify")
def _(s):
    made = s.key()
    verdict = s.verify(made["key"])
    equal((verdict["valid"], verdict["code"], verdict["keyId"]), (True, "VALID", made["id"]))


@check("A text that is no key is not valid, and is no error", "Better Auth", "verify")
def _(s):
    for text in ("invalid", "rg_", " ", "日本", "x" * 3000, "null", "' OR 1=1 --", "%00", "*"):
        assert s.code(text) in ("MALFORMED", "NOT_FOUND"), text


@check("A key with one other character anywhere is not valid", "a typo, a guess", "create", "verify")
def _(s):
    text = s.key()["key"]
    for at in range(0, len(text)):
        assert s.code(altered(text, at)) in ("MALFORMED", "NOT_FOUND"), at


@check("A key that is shorter, longer or in other case is not valid", "a comparison of a part", "create", "verify")
def _(s):
    text = s.key()["key"]
    for other in (text[:-1], text[1:], text + "0", f"{text}{text}", text.swapcase(), f" {text}", f"{text}\n"):
        assert s.code(other) in ("MALFORMED", "NOT_FOUND"), other


@check("A well-formed key that was never made is NOT_FOUND, without an identity", "Unkey", "reasons", "verify")
def _(s):
    import zlib
    digits = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
    text = s.key()["key"]
    body, end = text[:3] + text[3:12][::-1] + text[12:44], ""
    number = zlib.crc32(body.encode())
    for _ in range(6):
        number, end = number // 62, digits[number % 62] + end
    verdict = s.verify(body + end)
    equal((verdict["valid"], verdict["code"], verdict["keyId"]), (False, "NOT_FOUND", None))


@check("A key with a wrong checksum is MALFORMED, and is not looked up", "guesses cost nothing", "reasons", "verify")
def _(s):
    equal(s.code(altered(s.key()["key"], -1)), "MALFORMED")


@check("A revoked key is REVOKED from the answer to its revocation on", "Unkey, Kong", "verify", "revoke")
def _(s):
    made = s.key()
    equal(s.code(made["key"]), "VALID")
    s.revoke(made)
    equal(s.code(made["key"]), "REVOKED")


@check("A disabled key is DISABLED, and an enabled one is valid again", "Unkey", "disable", "update")
def _(s):
    made = s.key(enabled=False)
    equal(s.code(made["key"]), "DISABLED")
    s.update(made, enabled=True)
    equal(s.code(made["key"]), "VALID")


@check("A key is valid before its expiry and EXPIRED after it", "Unkey, Kong", "expiry")
def _(s):
    made = s.key(expiresAt=instant(1.5))
    equal(before(made["expiresAt"], lambda: s.code(made["key"])), "VALID")
    wait_until(made["expiresAt"])
    equal(s.code(made["key"]), "EXPIRED")


@check("A key with the required scopes is valid", "Unkey, Better Auth", "scopes")
def _(s):
    text = s.key(READ, WRITE)["key"]
    for scopes in ([], [READ], [WRITE], [READ, WRITE]):
        equal(s.code(text, scopes=scopes), "VALID", str(scopes))


@check("A key without a required scope is refused", "Unkey, Better Auth", "scopes")
def _(s):
    text = s.key(READ)["key"]
    for scopes in ([WRITE], [READ, WRITE]):
        verdict = s.verify(text, scopes=scopes)
        equal((verdict["valid"], verdict["code"]), (False, "INSUFFICIENT_SCOPES"), str(scopes))


@check("The verdict names the scopes that are missing", "an error that helps", "scopes", "reasons")
def _(s):
    equal(s.verify(s.key(OTHER)["key"], scopes=[READ, OTHER, WRITE])["missingScopes"], [READ, WRITE])


@check("Reading and writing do not imply each other", "Gitea", "scopes")
def _(s):
    for held, asked in ((READ, WRITE), (WRITE, READ)):
        equal(s.code(s.key(held)["key"], scopes=[asked]), "INSUFFICIENT_SCOPES")


@check("All scopes of the catalogue can be required at once, also several times", "Unkey", "catalogue")
def _(s):
    equal(s.code(s.key(*ALL)["key"], scopes=ALL * 3), "VALID")


@check("A required scope that does not exist is an error of the question", "a gateway that asks for a typo",
       "catalogue")
def _(s):
    for text in (s.key()["key"], s.root):
        for wrong in ("orders read AND", "order:read", "orders:*"):
            s.refused("verify", "invalid", fault=("/scopes/0", "unknown_scope"), body={"key": text, "scopes": [wrong]})


@check("One of several scopes is enough if the question says so", "routes with alternatives", "catalogue",
       "rate_limits")
def _(s):
    text = s.key(READ)["key"]
    equal(s.code(text, anyScopes=[WRITE, READ]), "VALID")
    equal(s.code(text, anyScopes=[WRITE, OTHER]), "INSUFFICIENT_SCOPES")


@check("The verdict has the identity, expiry, scopes and metadata of the key", "Unkey", "accounts", "metadata",
       "expiry")
def _(s):
    account = s.account(externalId=s.unique("cust"), metadata={"tier": "gold"})
    made = s.key(account=account["id"], name="Info", metadata={"n": {"x": [1, 2]}}, expiresAt="2090-01-01T00:00:00Z")
    expected = {
        "keyId": made["id"], "keyPrefix": made["keyPrefix"], "name": "Info", "accountId": account["id"],
        "externalId": account["externalId"], "scopes": [READ], "metadata": {"n": {"x": [1, 2]}},
        "accountMetadata": {"tier": "gold"}, "expiresAt": "2090-01-01T00:00:00.000Z",
    }
    verdict = s.verify(made["key"])
    equal({name: verdict[name] for name in expected}, expected)


@check("The identity of a refused key is known only with its whole text", "probing for keys", "verify", "revoke",
       "reasons")
def _(s):
    made = s.key()
    s.revoke(made)
    equal(s.verify(made["key"])["keyId"], made["id"])
    equal(s.verify(altered(made["key"], 20))["keyId"], None)


@check("Each change of a key is in force for the next verification", "Unkey", "disable", "update")
def _(s):
    made = s.key()
    for enabled in (False, True) * 5:
        s.update(made, enabled=enabled)
        equal(s.verify(made["key"])["valid"], enabled)


@check("Scopes that a key gains or loses count for the next verification", "Better Auth, Authelia", "scopes", "update")
def _(s):
    made = s.key(READ)
    equal(s.code(made["key"], scopes=[READ]), "VALID")
    s.update(made, scopes=[OTHER])
    equal([s.code(made["key"], scopes=[it]) for it in (READ, OTHER)], ["INSUFFICIENT_SCOPES", "VALID"])


def accepted_after(s, made, end):
    """Verifies a key in six threads while a seventh ends it. Returns how many accepted it after the answer."""
    ended = []

    def ask(n):
        if n == 0:
            end()
            ended.append(True)
            return 0
        late = 0
        for _ in range(25):
            is_over = bool(ended)
            late += s.code(made["key"]) == "VALID" and is_over
        return late

    return sum(s.at_once(7, ask))


@check("No verification accepts a key after its revocation was answered", "Better Auth: caches", "verify", "revoke")
def _(s):
    made = s.key()
    equal(accepted_after(s, made, lambda: s.revoke(made)), 0)
    equal(s.code(made["key"]), "REVOKED")


@check("No verification accepts a key after it was disabled", "Better Auth: caches", "disable", "update")
def _(s):
    made = s.key()
    equal(accepted_after(s, made, lambda: s.update(made, enabled=False)), 0)
    equal(s.show(made)["enabled"], False)


@check("A question without a key is refused", "Unkey", "verify")
def _(s):
    s.refused("verify", "invalid", fault=("/key", "required"), body={})


@check("A question with wrong JSON types is refused", "Unkey", "verify", "reasons")
def _(s):
    s.refused("verify", "invalid", fault=("/key", "invalid_type"), body={"key": 7})
    s.refused("verify", "invalid", fault=("/scopes", "invalid_type"), body={"key": "x", "scopes": READ})


@check("A question without a caller's key is refused", "Unkey", "verify")
def _(s):
    s.refused("verify", "unauthenticated", "missing_key", caller=None, body={"key": s.key()["key"]})


@check("A question with a wrong caller's key is refused", "Unkey", "verify")
def _(s):
    s.refused("verify", "unauthenticated", "invalid_key", caller=WRONG_KEY, body={"key": s.key()["key"]})


@check("A caller without the right to verify learns nothing about a key", "Unkey", "create", "verify")
def _(s):
    caller, good = s.key()["key"], s.key()["key"]
    answers = [s.refused("verify", "forbidden", "missing_scope", caller=caller, body={"key": it})
               for it in (good, altered(good, -1))]
    equal(*[s.adapter.reason(it) for it in answers])


@check("The first reason in the documented order is told", "stable verdicts", "disable", "scopes", "accounts",
       "suspend")
def _(s):
    account = s.account()
    made = s.key(account=account["id"], enabled=False)
    equal(s.code(made["key"], scopes=[WRITE]), "DISABLED")
    s.ok("update_account", id=account["id"], body={"status": "suspended"})
    equal(s.code(made["key"], scopes=[WRITE]), "ACCOUNT_SUSPENDED")
    s.revoke(made)
    equal(s.code(made["key"], scopes=[WRITE]), "REVOKED")
