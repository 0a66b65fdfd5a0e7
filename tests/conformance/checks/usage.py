"""Usage: when a key was last used, and how often."""
from datetime import datetime, timezone

from suite.check import equal, eventually, instant, seconds_until, theme
from suite.session import READ, WRITE

check = theme("Usage")


def last_use(s, made):
    return eventually(lambda: s.show(made)["lastUsedAt"], "lastUsedAt")


@check("A new key was never used", "unused keys", "usage")
def _(s):
    made = s.key()
    equal((made["lastUsedAt"], s.show(made)["lastUsedAt"]), (None, None))


@check("An accepted verification is a use", "Better Auth", "usage")
def _(s):
    made = s.key()
    s.verify(made["key"])
    assert -60 < seconds_until(last_use(s, made)) <= 0


@check("A call of the key server is a use of the caller", "crates.io", "usage", "self")
def _(s):
    made = s.key()
    s.ok("get_key", made["key"], id="self")
    assert -60 < seconds_until(last_use(s, made)) <= 0


@check("A passed question of a proxy is a use", "unused keys", "usage", "forward_auth")
def _(s):
    made = s.key()
    equal(s.send("ask", made["key"], scopes=[READ]).status, 200)
    assert -60 < seconds_until(last_use(s, made)) <= 0


@check("A refused request is no use", "a thief that keeps a key alive", "usage", "scopes", "disable")
def _(s):
    made = s.key()
    s.verify(made["key"], scopes=[WRITE])
    s.update(made, enabled=False)
    s.verify(made["key"])
    s.update(made, enabled=True)
    equal(s.show(made)["lastUsedAt"], None)


@check("An update of a key is no use of it", "Better Auth", "usage", "update")
def _(s):
    made = s.key()
    s.update(made, name="other")
    equal(s.show(made)["lastUsedAt"], None)


@check("The last use of a key does not go back", "several threads", "usage")
def _(s):
    made = s.key()
    s.verify(made["key"])
    first = last_use(s, made)
    s.at_once(8, lambda n: s.verify(made["key"]))
    assert s.show(made)["lastUsedAt"] >= first


@check("Uses are counted by day, with the reasons of refusals", "a bill, an attack", "usage", "scopes", "disable")
def _(s):
    made = s.key()
    for question in ({}, {}, {"scopes": [WRITE]}):
        s.verify(made["key"], **question)
    s.update(made, enabled=False)
    s.verify(made["key"])
    total = lambda: [sum(it["allowed"] for it in s.ok("key_usage", id=made["id"])["data"]),
                     sum(it["denied"]["insufficientScopes"] for it in s.ok("key_usage", id=made["id"])["data"]),
                     sum(it["denied"]["disabled"] for it in s.ok("key_usage", id=made["id"])["data"])]
    eventually(lambda: total() == [2, 1, 1], "the counts")


@check("Days without a use are listed with zero, the number of days is chosen", "a chart without gaps", "usage")
def _(s):
    made = s.key()
    for days in (1, 30, 366):
        data = s.ok("key_usage", id=made["id"], query={"days": days})["data"]
        equal((len(data), {it["allowed"] for it in data}), (days, {0}))
    dates = [it["date"] for it in s.ok("key_usage", id=made["id"])["data"]]
    equal((len(dates), len(set(dates))), (30, 30))
    today = datetime.now(timezone.utc).strftime("%Y-%m-%d")
    assert max(dates) in (today, instant(-60)[:10]), dates
    for wrong in ("0", "367", "x"):
        s.refused("key_usage", "invalid", id=made["id"], query={"days": wrong})


@check("The uses of an account are the sum of those of its keys", "a bill", "usage", "accounts")
def _(s):
    account = s.account()
    for it in (account["apiKey"], s.key(account=account["id"])):
        s.verify(it["key"])
    total = lambda: sum(it["allowed"] for it in s.ok("account_usage", id=account["id"])["data"])
    eventually(lambda: total() == 2, "the sum")
    own = s.ok("account_usage", account["apiKey"]["key"], id="self")["data"]
    assert sum(it["allowed"] for it in own) >= 2


@check("Uses of a key at the same time are all counted", "several threads", "usage")
def _(s):
    made = s.key()
    s.at_once(8, lambda n: [s.verify(made["key"]) for _ in range(10)])
    total = lambda: sum(it["allowed"] for it in s.ok("key_usage", id=made["id"])["data"])
    eventually(lambda: total() == 80, "the count")
