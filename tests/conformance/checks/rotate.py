"""Rotation: a new text for the same key, and a grace period in which the old text still works."""
from suite.check import before, equal, eventually, instant, seconds_until, theme, wait_until
from suite.session import ABSENT, OTHER, READ, WRITE

check = theme("Rotate")
SELF = "api-keys:rotate"


@check("A rotation gives a new text, and the new text is valid", "the promise of each rotation", "rotation")
def _(s):
    made = s.key()
    new = s.rotate(made)
    assert new["key"] != made["key"] and new["keyPrefix"] == new["key"][:12] != made["keyPrefix"], new
    equal(s.code(new["key"]), "VALID")


@check("A rotation changes nothing else of the key", "Unkey", "rotation", "metadata", "expiry")
def _(s):
    made = s.key(READ, WRITE, name="R", metadata={"a": 1}, expiresAt="2090-01-01T00:00:00Z")
    new = s.rotate(made)
    for name in ("id", "name", "scopes", "metadata", "expiresAt", "enabled", "createdAt", "accountId", "createdBy",
                 "allowedIps", "rateLimit"):
        equal(new[name], made[name], name)


@check("A rotation neither adds nor moves an expiry", "Keygen", "rotation", "expiry")
def _(s):
    for end in (None, "2050-06-01T00:00:00.000Z"):
        equal(s.rotate(s.key(expiresAt=end))["expiresAt"], end)


@check("The old text works in the grace period, and not after it", "Unkey, which rounds up", "rotation")
def _(s):
    made = s.key()
    new = s.rotate(made, gracePeriodSeconds=2)
    end = new["previousKeys"][0]["validUntil"]
    equal(before(end, lambda: s.code(made["key"])), "VALID")
    wait_until(end)
    equal((s.code(made["key"]), s.code(new["key"])), ("ROTATED", "VALID"))


@check("Without a grace period the old text ends with the answer", "a leaked key", "rotation")
def _(s):
    made = s.key()
    new = s.rotate(made, gracePeriodSeconds=0)
    equal((s.code(made["key"]), s.code(new["key"]), new["previousKeys"]), ("ROTATED", "VALID", []))


@check("A rotation that names no grace period has one", "clients that are slow to change", "rotation")
def _(s):
    made = s.key()
    until = s.rotate(made)["previousKeys"][0]["validUntil"]
    assert 60 < seconds_until(until) <= 300, until
    equal(s.code(made["key"]), "VALID")


@check("A grace period never outlives the key", "Unkey had this fault", "rotation", "expiry")
def _(s):
    new = s.rotate(s.key(expiresAt=instant(100)), gracePeriodSeconds=3600)
    equal(new["previousKeys"][0]["validUntil"], new["expiresAt"])


@check("A grace period that is negative, too long or no integer is refused", "Unkey", "rotation")
def _(s):
    made = s.key()
    for wrong in (-1, 604801, "300", 1.5, True, None):
        s.refused("rotate_key", "invalid", id=made["id"], body={"gracePeriodSeconds": wrong})
    equal(s.show(made)["rotatedAt"], None)


@check("The old texts are listed with their ends, and never in full", "people who wait for clients", "rotation")
def _(s):
    made = s.key()
    second = s.rotate(made, gracePeriodSeconds=600)
    third = s.rotate(second, gracePeriodSeconds=100)
    equal([it["keyPrefix"] for it in third["previousKeys"]], [made["keyPrefix"], second["keyPrefix"]])
    shown = s.send("get_key", id=made["id"])
    equal(shown.json["previousKeys"], third["previousKeys"])
    assert not any(it["key"] in shown.text for it in (made, second, third))


@check("A rotation in a grace period shortens no earlier promise", "clients that were told an end", "rotation")
def _(s):
    made = s.key()
    first = s.rotate(made, gracePeriodSeconds=600)["previousKeys"][0]
    equal(s.rotate(made, gracePeriodSeconds=60)["previousKeys"][0]["validUntil"], first["validUntil"])


@check("At most three texts of a key work at a time", "forgotten texts", "rotation")
def _(s):
    made = s.key()
    second = s.rotate(made, gracePeriodSeconds=600)
    third = s.rotate(made, gracePeriodSeconds=600)
    answer = s.refused("rotate_key", "conflict", "too_many_live_keys", id=made["id"], body={"gracePeriodSeconds": 600})
    assert answer.header("retry-after").isdigit()
    equal([s.code(it["key"]) for it in (made, second, third)], ["VALID"] * 3)


@check("A rotation without a grace period ends all older texts", "a leaked key", "rotation")
def _(s):
    made = s.key()
    second = s.rotate(made, gracePeriodSeconds=600)
    third = s.rotate(made, gracePeriodSeconds=600)
    last = s.rotate(made, gracePeriodSeconds=0)
    codes = [s.code(it["key"]) for it in (made, second, third, last)]
    equal(codes, ["ROTATED"] * 3 + ["VALID"])


@check("Completing a rotation ends the old texts at once", "all clients have changed", "rotation")
def _(s):
    made = s.key()
    new = s.rotate(made, gracePeriodSeconds=600)
    equal(s.ok("complete_rotation", id=made["id"])["previousKeys"], [])
    equal((s.code(made["key"]), s.code(new["key"])), ("ROTATED", "VALID"))


@check("An old text cannot complete the rotation before the new one was used", "a caller that locks itself out",
       "rotation", "privilege")
def _(s):
    made = s.key(READ, "api-keys:write")
    new = s.rotate(made, gracePeriodSeconds=600)
    s.refused("complete_rotation", "conflict", "successor_unused", caller=made["key"], id=made["id"])
    s.verify(new["key"])
    s.ok("complete_rotation", made["key"], id=made["id"])
    equal(s.code(made["key"]), "ROTATED")


@check("An old text is refused as a caller after its end, and told why", "an error that helps", "rotation", "self")
def _(s):
    made = s.key()
    s.rotate(made, gracePeriodSeconds=0)
    s.refused("get_key", "unauthenticated", "key_rotated", caller=made["key"], id="self")


@check("An expired key cannot be rotated", "Keygen", "rotation", "expiry")
def _(s):
    made = s.key(expiresAt=instant(0.3))
    wait_until(made["expiresAt"])
    s.refused("rotate_key", "conflict", "key_not_active", id=made["id"])


@check("A key that does not exist, or is revoked, cannot be rotated", "Unkey", "rotation")
def _(s):
    gone = s.key()
    s.revoke(gone)
    for id in (gone["id"], ABSENT):
        s.refused("rotate_key", "not_found", "not_found", id=id)


@check("A caller without the right to write rotates nothing", "Unkey", "rotation", "privilege")
def _(s):
    made = s.key()
    for caller in (s.key(READ), s.key("api-keys:read")):
        s.refused("rotate_key", "forbidden", "missing_scope", caller=caller["key"], id=made["id"])
    for caller in (None, "nope"):
        s.refused("rotate_key", "unauthenticated", caller=caller, id=made["id"])
    equal(s.code(made["key"]), "VALID")


@check("A key with one scope for it can rotate itself and nothing else", "workloads that renew their key",
       "self_rotation")
def _(s):
    made, other = s.key(SELF, READ), s.key()
    new = s.rotate({"id": "self"}, made["key"])
    equal((new["id"], s.code(new["key"]), s.code(made["key"])), (made["id"], "VALID", "VALID"))
    s.refused("rotate_key", "forbidden", "missing_scope", caller=new["key"], id=other["id"])
    s.refused("list_keys", "forbidden", "missing_scope", caller=new["key"])


@check("A key without the scope for it cannot rotate itself", "least privilege", "self_rotation")
def _(s):
    made = s.key()
    s.refused("rotate_key", "forbidden", "missing_scope", caller=made["key"], id="self")


@check("A key that rotates itself keeps a grace period of a minute", "a lost answer", "self_rotation", "faults")
def _(s):
    made = s.key(SELF)
    for seconds in (0, 59):
        s.refused("rotate_key", "invalid", fault=("/gracePeriodSeconds", "grace_required"), caller=made["key"],
                  id="self", body={"gracePeriodSeconds": seconds})
    new = s.rotate({"id": "self"}, made["key"], gracePeriodSeconds=60)
    assert 0 < seconds_until(new["previousKeys"][0]["validUntil"]) <= 60, new
    equal(s.code(made["key"]), "VALID")


@check("A repeated self-rotation whose answer was lost replaces the lost text", "a lost answer", "self_rotation")
def _(s):
    made = s.key(SELF)
    lost = s.rotate({"id": "self"}, made["key"])
    new = s.rotate({"id": "self"}, made["key"])
    equal([s.code(it["key"]) for it in (made, lost, new)], ["VALID", "ROTATED", "VALID"])
    equal(new["previousKeys"][0]["validUntil"], lost["previousKeys"][0]["validUntil"])


@check("An old text cannot rotate once the new one was used", "a thief with an old text", "self_rotation")
def _(s):
    made = s.key(SELF)
    new = s.rotate({"id": "self"}, made["key"])
    s.verify(new["key"])
    s.refused("rotate_key", "conflict", "superseded", caller=made["key"], id="self")
    equal(s.code(new["key"]), "VALID")


@check("A wrong or expired key cannot rotate itself", "Keygen", "self_rotation", "expiry")
def _(s):
    made = s.key(SELF, expiresAt=instant(0.3))
    wait_until(made["expiresAt"])
    s.refused("rotate_key", "unauthenticated", "key_expired", caller=made["key"], id="self")
    s.refused("rotate_key", "unauthenticated", "invalid_key", caller="someBadToken", id="self")


@check("Rotations at the same time leave one current text, and none is lost silently", "races", "rotation")
def _(s):
    made = s.key()
    answers = s.at_once(8, lambda n: s.send("rotate_key", id=made["id"], body={"gracePeriodSeconds": 600}))
    good = [it.json for it in answers if it.status == 200]
    equal((len(good), {it.status for it in answers}), (2, {200, 409}))
    equal([s.code(it["key"]) for it in (made, *good)], ["VALID"] * 3)


@check("Changes of the key count for its old text, too", "a second copy of the rules", "rotation", "scopes", "update")
def _(s):
    made = s.key(READ, OTHER)
    new = s.rotate(made, gracePeriodSeconds=600)
    s.update(made, scopes=[OTHER])
    equal([s.code(it["key"], scopes=[READ]) for it in (made, new)], ["INSUFFICIENT_SCOPES"] * 2)
    s.revoke(made)
    equal([s.code(it["key"]) for it in (made, new)], ["REVOKED"] * 2)


@check("A rotation has an event, and the use of an ended text has one, too", "a thief with an old text", "rotation",
       "events")
def _(s):
    made = s.key()
    s.rotate(made, gracePeriodSeconds=0)
    equal(s.code(made["key"]), "ROTATED")
    kinds = lambda: [it["type"] for it in s.events(subject=made["id"])]
    eventually(lambda: "api_key.retired_key_used" in kinds(), "the event of an ended text")
    equal(kinds().count("api_key.rotated"), 1)
