"""Lists: pages, filters and order."""
from urllib.parse import urlsplit

from suite.check import equal, instant, theme, wait_until
from suite.session import OTHER, READ, WRITE

check = theme("List")


def walk(s, caller, operation="list_keys", **query):
    """Returns all rows, page by page."""
    rows, cursor = [], None
    while True:
        page = s.ok(operation, caller, query={**query, **({"cursor": cursor} if cursor else {})})
        rows += page["data"]
        cursor = page["nextCursor"]
        if not cursor:
            return rows
        assert len(rows) < 5000, "the pages do not end"


def filled(s, count):
    """Returns the first key of a new account, and the ids of all its keys in the order of their creation."""
    first = s.account()["apiKey"]
    return first["key"], [first["id"], *(s.key(caller=first["key"], name=f"k{n}")["id"] for n in range(count))]


@check("A new key is in the list at once", "Better Auth", "list", "accounts")
def _(s):
    caller, ids = filled(s, 1)
    equal([it["id"] for it in s.keys(caller)], ids)


@check("Pages lose and repeat no key", "Unkey", "list", "accounts")
def _(s):
    caller, ids = filled(s, 10)
    for limit in (1, 3, 5, 11, 12):
        equal([it["id"] for it in walk(s, caller, limit=limit)], ids, f"limit {limit}")


@check("A key that is created between two pages moves no other", "offsets that shift", "list", "accounts")
def _(s):
    caller, ids = filled(s, 5)
    first = s.ok("list_keys", caller, query={"limit": 3})
    s.ok("revoke_key", caller, id=ids[1])
    ids.append(s.key(caller=caller)["id"])
    second = s.ok("list_keys", caller, query={"limit": 10, "cursor": first["nextCursor"]})
    equal([it["id"] for it in first["data"] + second["data"]], ids)


@check("A page with a successor links to it", "RFC 8288", "list", "accounts", "http")
def _(s):
    caller, ids = filled(s, 2)
    answer = s.send("list_keys", caller, query={"limit": 2})
    target, _, rest = answer.header("link").partition(">")
    equal(rest.strip().replace('"', ""), "; rel=next")
    parts = urlsplit(target.lstrip("<"))
    found = s.transmit(s.request("list_keys", caller).but(path=f"{parts.path}?{parts.query}"))
    equal([it["id"] for it in found.json["data"]], ids[2:])
    equal(found.header("link"), None)


@check("Keys are in the order of their creation, or the newest first", "Unkey, Better Auth", "list", "accounts",
       "filters")
def _(s):
    caller, ids = filled(s, 5)
    equal([it["id"] for it in s.keys(caller)], ids)
    equal([it["id"] for it in walk(s, caller, order="desc", limit=2)], ids[::-1])
    s.refused("list_keys", "invalid", query={"order": "down"})


@check("The number of keys on all pages is told on demand", "Better Auth", "filters", "accounts")
def _(s):
    caller, ids = filled(s, 4)
    equal(s.ok("list_keys", caller, query={"limit": 2, "total": "true"})["total"], len(ids))
    assert "total" not in s.ok("list_keys", caller, query={"limit": 2})


@check("A list holds no secret", "Unkey, Meilisearch", "list", "accounts")
def _(s):
    account = s.account()["apiKey"]
    made = s.key(caller=account["key"])
    text = s.send("list_keys", account["key"]).text
    for secret in (made["key"], account["key"], '"key":', "pbkdf2", "hash", "salt"):
        assert secret not in text, secret


@check("A list without rows is an empty list", "Unkey, Better Auth", "list", "accounts", "filters")
def _(s):
    answer = s.ok("list_keys", s.account()["apiKey"]["key"], query={"q": s.unique("no-such")})
    equal(answer, {"data": [], "nextCursor": None})


@check("A limit that is no number from 1 to 1000 is refused", "Unkey, Better Auth", "list")
def _(s):
    for wrong in ("-1", "0", "1001", "99999999999999999999", "x", "", "+5", "5.0", "0x5", "5 "):
        s.refused("list_keys", "invalid", query={"limit": wrong})
    for good in ("1", "1000"):
        s.ok("list_keys", query={"limit": good})


@check("A cursor that the server did not make is refused", "Unkey", "list", "accounts")
def _(s):
    caller, _ = filled(s, 2)
    real = s.ok("list_keys", caller, query={"limit": 1})["nextCursor"]
    for wrong in ("!!!", "abc", "eHh4", real[:-2], real + "x", "key_0000000000000000000000"):
        s.refused("list_keys", "invalid", caller=caller, query={"cursor": wrong})


@check("A cursor of one order is refused with the other", "pages that make no sense", "filters", "accounts")
def _(s):
    caller, _ = filled(s, 2)
    cursor = s.ok("list_keys", caller, query={"limit": 1})["nextCursor"]
    s.refused("list_keys", "invalid", caller=caller, query={"limit": 1, "order": "desc", "cursor": cursor})


@check("All faults of a query are told at once", "Unkey", "list", "strict", "faults")
def _(s):
    answer = s.refused("list_keys", "invalid", query={"limit": 0, "status": "nope", "foo": 1})
    equal({it for it, _ in s.adapter.faults(answer)}, {"/limit", "/status", "/foo"})


@check("Keys are found by a part of their name, in any case, with literal signs", "Unkey", "filters", "accounts")
def _(s):
    account = s.account()
    for name in ("Alpha-Beta", "100%", "under_score", "undersXcore", "Ünïcode"):
        s.key(account=account["id"], name=name)
    named = lambda q: [it["name"] for it in s.keys(account["apiKey"]["key"], q=q)]
    for q, found in (("HA-B", ["Alpha-Beta"]), ("%", ["100%"]), ("r_s", ["under_score"]), ("zzz", []),
                     ("ünï", ["Ünïcode"])):
        equal(named(q), found, q)


@check("Keys are found by id and by prefix", "a prefix in a log", "filters", "prefix")
def _(s):
    made = s.key()
    for q in (made["id"], made["keyPrefix"], made["keyPrefix"][:10]):
        assert made["id"] in [it["id"] for it in s.keys(q=q)], q


@check("Expired keys are in the list, and can be selected", "crates.io", "filters", "accounts", "expiry")
def _(s):
    account = s.account()
    made = s.key(account=account["id"], expiresAt=instant(0.3))
    wait_until(made["expiresAt"])
    caller = account["apiKey"]["key"]
    equal([it["id"] for it in s.keys(caller, status="expired")], [made["id"]])
    equal([it["id"] for it in s.keys(caller, status="active")], [account["apiKey"]["id"]])


@check("Keys can be selected by status, scope, creator and expiry", "clearing up", "filters", "accounts", "disable")
def _(s):
    account = s.account()
    caller = account["apiKey"]["key"]
    mine, theirs = s.key(WRITE, caller=caller, enabled=False), s.key(OTHER, account=account["id"])
    soon = s.key(READ, caller=caller, expiresAt=instant(3600))
    listed = lambda **query: [it["id"] for it in s.keys(caller, **query)]
    equal(listed(status="disabled"), [mine["id"]])
    equal(listed(status="expiring"), [soon["id"]])
    equal(listed(scope=OTHER), [account["apiKey"]["id"], theirs["id"]])
    equal(listed(createdBy=account["apiKey"]["id"]), [mine["id"], soon["id"]])
    equal(listed(createdBy="operator"), [account["apiKey"]["id"], theirs["id"]])
    equal(listed(expiringBefore=instant(7200)), [soon["id"]])
    equal(listed(status="disabled", scope=OTHER), [])


@check("Unused keys can be selected", "clearing up", "filters", "accounts", "usage")
def _(s):
    account = s.account()
    caller = account["apiKey"]["key"]
    used, unused = s.key(caller=caller), s.key(caller=caller)
    s.verify(used["key"])
    found = [it["id"] for it in s.keys(caller, unusedSince=instant(60))]
    assert unused["id"] in found, found


@check("A filter with an impossible value is refused", "a typo that lists all", "filters")
def _(s):
    for name, wrong in (("status", "nope"), ("scope", "order:read"), ("expiringBefore", "soon"), ("total", "yes"),
                        ("unusedSince", "2025-02-30T00:00:00Z"), ("unusedScopes", "1")):
        s.refused("list_keys", "invalid", query={name: wrong})


@check("The operator lists the keys of one account, or of all", "Keygen", "filters", "accounts", "privilege")
def _(s):
    one, other = s.account(), s.account()
    equal([it["id"] for it in s.keys(account=one["id"])], [one["apiKey"]["id"]])
    found = {it["accountId"] for it in walk(s, s.root, account="all", order="desc", limit=1000)}
    assert {one["id"], other["id"]} <= found


@check("A key of an account cannot list all accounts", "accounts are separate", "filters", "accounts", "privilege")
def _(s):
    one, other = s.account(), s.account()
    for account in ("all", other["id"]):
        s.refused("list_keys", "forbidden", "missing_scope", caller=one["apiKey"]["key"], query={"account": account})
