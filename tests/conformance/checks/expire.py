"""Expiry: when a key ends, who may move its end, and the longest lifetime."""
from suite.check import equal, eventually, instant, seconds_until, theme, wait_until
from suite.session import OTHER, READ

check = theme("Expire")
WRITER = "api-keys:write"


@check("An expiry that is in the past, too far or no date is refused", "Unkey, Meilisearch", "expiry")
def _(s):
    for wrong, code in ((instant(-1), "in_the_past"), ("1969-01-01T00:00:00Z", "in_the_past"),
                        ("2025-02-30T00:00:00Z", "invalid_format"), ("tomorrow", "invalid_format"),
                        ("10000-01-01T00:00:00Z", "invalid_format"), (4102444800, "invalid_type")):
        body = {"name": "k", "scopes": [READ], "expiresAt": wrong}
        answer = s.refused("create_key", "invalid", body=body)
        if "faults" in s.adapter.provides and code == "in_the_past":
            equal(s.adapter.faults(answer), {("/expiresAt", code)})


@check("An expiry has a UTC offset, and answers are in UTC", "Meilisearch accepts a date without a time", "expiry")
def _(s):
    for given, shown in (("2050-11-13T00:00:00Z", "2050-11-13T00:00:00.000Z"),
                         ("2050-11-13T00:00:00.5Z", "2050-11-13T00:00:00.500Z"),
                         ("2050-11-13T00:00:00+01:00", "2050-11-12T23:00:00.000Z")):
        equal(s.key(expiresAt=given)["expiresAt"], shown)
    for wrong in ("2050-11-13", "2050-11-13T00:00:00"):
        s.refused("create_key", "invalid", body={"name": "k", "scopes": [READ], "expiresAt": wrong})


@check("A key without an expiry never expires", "Keygen", "expiry")
def _(s):
    equal((s.key()["expiresAt"], s.key(expiresAt=None)["expiresAt"]), (None, None))


@check("An expired key is refused as a caller on each operation, and told why", "Meilisearch, Keygen", "expiry", "self",
       "privilege", "events", "catalogue")
def _(s):
    made = s.key("api-keys:read", "events:read", expiresAt=instant(0.3))
    wait_until(made["expiresAt"])
    for operation in ("list_keys", "list_events", "list_scopes", "get_key"):
        s.refused(operation, "unauthenticated", "key_expired", caller=made["key"], id="self")


@check("An expired key stays visible with its status", "Better Auth deletes it", "expiry", "get")
def _(s):
    made = s.key(expiresAt=instant(0.3))
    wait_until(made["expiresAt"])
    equal(s.show(made)["status"], "expired")


@check("An expired key can be renamed, but not extended", "revived keys", "expiry", "update")
def _(s):
    made = s.key(expiresAt=instant(0.3))
    wait_until(made["expiresAt"])
    for later in (None, "2090-01-01T00:00:00Z"):
        s.refused("update_key", "conflict", "key_not_active", id=made["id"], body={"expiresAt": later})
    equal(s.update(made, name="old")["name"], "old")
    equal(s.code(made["key"]), "EXPIRED")


@check("The expiry can be given as a lifetime in seconds", "clients with a wrong clock", "expires_in", "update")
def _(s):
    made = s.key(expiresIn=3600)
    assert 3500 < seconds_until(made["expiresAt"]) <= 3600, made
    assert 7000 < seconds_until(s.update(made, expiresIn=7200)["expiresAt"]) <= 7200
    both = {"name": "k", "scopes": [READ], "expiresIn": 60, "expiresAt": "2090-01-01T00:00:00Z"}
    s.refused("create_key", "invalid", body=both)
    for wrong in (0, -1, "60", 1.5):
        s.refused("create_key", "invalid", body={"name": "k", "scopes": [READ], "expiresIn": wrong})


@check("A key that expires gives no key a later end", "a short key that makes a long one", "expiry", "privilege")
def _(s):
    caller = s.key(READ, WRITER, expiresAt=instant(3600))
    for later in (None, instant(7200)):
        s.refused("create_key", "invalid", fault=("/expiresAt", "expires_after_caller"), caller=caller["key"],
                  body={"name": "k", "scopes": [READ], "expiresAt": later})
    equal(s.key(caller=caller["key"])["expiresAt"], caller["expiresAt"])
    sooner = instant(60)
    equal(s.key(caller=caller["key"], expiresAt=sooner)["expiresAt"], sooner)


@check("A key that expires does not extend, rotate or enable a key that outlives it", "a short key with a long arm",
       "expiry", "privilege", "update", "rotation", "disable")
def _(s):
    caller = s.key(READ, OTHER, WRITER, expiresAt=instant(3600))["key"]
    long, off = s.key(), s.key(enabled=False)
    for operation, target, body in (("update_key", long, {"scopes": [READ, OTHER]}), ("rotate_key", long, None),
                                    ("update_key", off, {"enabled": True})):
        s.refused(operation, "invalid", caller=caller, id=target["id"], body=body)
    s.refused("update_key", "invalid", caller=caller, id="self", body={"expiresAt": None})
    equal((s.code(off["key"]), s.code(long["key"], scopes=[OTHER])), ("DISABLED", "INSUFFICIENT_SCOPES"))
    s.update(long, caller, name="shorter", expiresAt=instant(60))


@check("An account can have a maximum lifetime of keys", "keys that live for ever", "lifetimes", "update")
def _(s):
    account = s.account(maxKeyLifetimeSeconds=3600)
    made = s.key(account=account["id"])
    assert 3500 < seconds_until(made["expiresAt"]) <= 3600, made
    for later in (None, instant(3700)):
        s.refused("create_key", "invalid", fault=("/expiresAt", "expires_too_late"), account=account["id"],
                  body={"name": "k", "scopes": [READ], "expiresAt": later})
        s.refused("update_key", "invalid", fault=("/expiresAt", "expires_too_late"), id=made["id"],
                  body={"expiresAt": later})


@check("An account can have a default lifetime, and a request can name another", "keys that live for ever", "lifetimes")
def _(s):
    account = s.account(maxKeyLifetimeSeconds=7200, defaultKeyLifetimeSeconds=600)
    assert 500 < seconds_until(s.key(account=account["id"])["expiresAt"]) <= 600
    later = instant(7000)
    equal(s.key(account=account["id"], expiresAt=later)["expiresAt"], later)


@check("An update does not move the start of the maximum lifetime", "extending without an end", "lifetimes", "update")
def _(s):
    account = s.account(maxKeyLifetimeSeconds=3600)
    made = s.key(account=account["id"])
    wait_until(instant(0.05))
    s.refused("update_key", "invalid", id=made["id"], body={"expiresIn": 3600})
    equal(s.show(made)["expiresAt"], made["expiresAt"])


@check("The expiry of a key becomes an event", "the log as the whole story", "expiry", "events")
def _(s):
    made = s.key(expiresAt=instant(0.3))
    eventually(lambda: s.events(subject=made["id"], type="api_key.expired"), "the event", within=25)


@check("A key that is about to expire is announced once", "outages by forgotten keys", "expiry", "events", "update")
def _(s):
    made = s.key(expiresAt=instant(20 * 86400))
    notices = lambda: [it["data"]["days"] for it in s.events(subject=made["id"], type="api_key.expiring")]
    equal(notices(), [30])
    s.update(made, expiresAt=instant(0.5 * 86400))
    equal(notices(), [30, 1])
    s.update(made, name="other")
    equal(notices(), [30, 1])
