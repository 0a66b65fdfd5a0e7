"""Limits: how many keys an account has, and how often a key is accepted."""
import time

from suite.check import TooSlow, equal, seconds_until, theme
from suite.session import READ, WRITE

check = theme("Limits")
# A window that ends at midnight, so that a check within it sees one window.
DAY = 86400


def limited(s, limit, window=DAY, **settings):
    return s.key(rateLimit={"limit": limit, "windowSeconds": window}, **settings)


def in_one_window(ask, window=DAY):
    """Returns what `ask` returns, if no window ended in between."""
    begin = time.time() // window
    found = ask()
    if time.time() // window != begin:
        raise TooSlow
    return found


@check("An account has at most as many keys as it may have", "crates.io", "quota")
def _(s):
    account = s.account(maxKeys=2)
    caller = account["apiKey"]["key"]
    s.key(caller=caller)
    for who, where in ((caller, None), (s.root, account["id"])):
        s.refused("create_key", "conflict", "too_many_keys", caller=who, account=where,
                  body={"name": "x", "scopes": [READ]})


@check("A revoked key makes room for another one", "crates.io", "quota")
def _(s):
    caller = s.account(maxKeys=2)["apiKey"]["key"]
    s.revoke(s.key(caller=caller), caller)
    s.key(caller=caller)


@check("Creations at the same time do not exceed the number of keys", "races", "quota")
def _(s):
    caller = s.account(maxKeys=4)["apiKey"]["key"]
    answers = s.at_once(12, lambda n: s.send("create_key", caller, body={"name": f"n{n}", "scopes": [READ]}))
    equal(sorted(it.status for it in answers), [201] * 3 + [409] * 9)
    equal(len(s.keys(caller)), 4)


@check("A lower number of keys ends no key", "a plan that becomes smaller", "quota", "verify")
def _(s):
    account = s.account(maxKeys=3)
    made = s.key(account=account["id"])
    s.ok("update_account", id=account["id"], body={"maxKeys": 1})
    equal(s.code(made["key"]), "VALID")
    s.refused("create_key", "conflict", "too_many_keys", account=account["id"], body={"name": "x", "scopes": [READ]})


@check("An account without a number has the limit of the server", "a plan without a limit", "quota")
def _(s):
    account = s.account()
    equal(account["maxKeys"], None)
    s.key(account=account["id"])


@check("A key is accepted as often as its limit says, and then refused", "Unkey, Better Auth, Kong", "rate_limits")
def _(s):
    made = limited(s, 3)
    codes = in_one_window(lambda: [s.code(made["key"]) for _ in range(5)])
    equal(codes, ["VALID"] * 3 + ["RATE_LIMITED"] * 2)


@check("The verdict says what is left, and when the next window begins", "Unkey", "rate_limits")
def _(s):
    made = limited(s, 3)
    states = in_one_window(lambda: [s.verify(made["key"])["rateLimit"] for _ in range(4)])
    equal([(it["limit"], it["remaining"]) for it in states], [(3, 2), (3, 1), (3, 0), (3, 0)])
    equal(len({it["resetAt"] for it in states}), 1)
    assert states[0]["resetAt"].endswith("T00:00:00.000Z") and 0 < seconds_until(states[0]["resetAt"]) <= DAY


@check("A key without a limit is never limited", "the rule without an exception", "rate_limits")
def _(s):
    made = s.key()
    equal((made["rateLimit"], s.verify(made["key"])["rateLimit"]), (None, None))
    equal({s.code(made["key"]) for _ in range(30)}, {"VALID"})


@check("A new window grants the limit again", "Unkey", "rate_limits")
def _(s):
    made = limited(s, 1, 1)
    used = in_one_window(lambda: [s.code(made["key"]) for _ in range(2)], 1)
    equal(used, ["VALID", "RATE_LIMITED"])
    end = s.verify(made["key"], cost=0)["rateLimit"]["resetAt"]
    time.sleep(max(0, seconds_until(end)) + 0.02)
    equal(in_one_window(lambda: s.code(made["key"]), 1), "VALID")


@check("Questions at the same time are never granted more than the limit", "Better Auth", "rate_limits")
def _(s):
    made = limited(s, 20)
    codes = in_one_window(lambda: sum(s.at_once(8, lambda n: [s.code(made["key"]) for _ in range(5)]), []))
    equal((codes.count("VALID"), codes.count("RATE_LIMITED")), (20, 20))


@check("A refused request uses nothing of the limit", "a client that asks for too much", "rate_limits", "scopes")
def _(s):
    made = limited(s, 1)
    ask = lambda: [s.code(made["key"], scopes=[WRITE]) for _ in range(3)] + [s.code(made["key"])]
    equal(in_one_window(ask), ["INSUFFICIENT_SCOPES"] * 3 + ["VALID"])


@check("A request can cost more, and a cost is used as a whole or not at all", "Unkey", "rate_limits")
def _(s):
    made = limited(s, 10)
    ask = lambda cost: (lambda it: (it["code"], it["rateLimit"]["remaining"]))(s.verify(made["key"], cost=cost))
    found = in_one_window(lambda: [ask(it) for it in (7, 4, 3, 1)])
    equal(found, [("VALID", 3), ("RATE_LIMITED", 3), ("VALID", 0), ("RATE_LIMITED", 0)])


@check("A question with the cost 0 uses nothing, and is never limited", "a dashboard", "rate_limits")
def _(s):
    made = limited(s, 1)
    ask = lambda: [s.verify(made["key"], cost=0), s.verify(made["key"]), s.verify(made["key"], cost=0)]
    equal([(it["code"], it["rateLimit"]["remaining"]) for it in in_one_window(ask)],
          [("VALID", 1), ("VALID", 0), ("VALID", 0)])


@check("A rotation or an update does not give the limit again", "a way around the limit", "rate_limits", "rotation",
       "update")
def _(s):
    made = limited(s, 2)

    def ask():
        first = s.code(made["key"])
        new = s.rotate(made)
        s.update(made, name="other")
        return [first, s.code(new["key"]), s.code(made["key"]), s.code(new["key"])]

    equal(in_one_window(ask), ["VALID", "VALID", "RATE_LIMITED", "RATE_LIMITED"])


@check("A limit can be changed and removed", "Unkey", "rate_limits", "update")
def _(s):
    made = limited(s, 1)
    s.verify(made["key"])
    s.update(made, rateLimit={"limit": 3, "windowSeconds": DAY})
    found = in_one_window(lambda: [s.code(made["key"]) for _ in range(3)])
    equal(found, ["VALID", "VALID", "RATE_LIMITED"])
    equal(s.update(made, rateLimit=None)["rateLimit"], None)
    equal(s.code(made["key"]), "VALID")


@check("All keys of an account share the ceiling of the account", "Unkey: limits of an identity", "rate_limits",
       "accounts")
def _(s):
    account = s.account(rateLimit={"limit": 3, "windowSeconds": DAY})
    other = s.key(account=account["id"])
    keys = [account["apiKey"]["key"], other["key"]] * 2
    equal(in_one_window(lambda: [s.code(it) for it in keys]), ["VALID"] * 3 + ["RATE_LIMITED"])


@check("A key without an own limit has that of its account", "a plan", "rate_limits", "accounts")
def _(s):
    account = s.account(keyRateLimit={"limit": 1, "windowSeconds": DAY})
    own = limited(s, 2, account=account["id"])
    ask = lambda key, times: in_one_window(lambda: [s.code(key) for _ in range(times)])
    equal(ask(account["apiKey"]["key"], 2), ["VALID", "RATE_LIMITED"])
    equal(ask(own["key"], 3), ["VALID", "VALID", "RATE_LIMITED"])


@check("A customer cannot change the limits of its account", "a way around the plan", "rate_limits", "accounts")
def _(s):
    caller = s.account(rateLimit={"limit": 3, "windowSeconds": DAY})["apiKey"]["key"]
    s.refused("update_account", "forbidden", "missing_scope", caller=caller, id="self", body={"rateLimit": None})


@check("A limit that cannot be is refused", "Unkey", "rate_limits")
def _(s):
    for wrong in ({"limit": 0, "windowSeconds": 60}, {"limit": 1, "windowSeconds": 0}, {"limit": 1}, 5, "5/m",
                  {"limit": 1.5, "windowSeconds": 60}, {"limit": 1, "windowSeconds": 2592001},
                  {"limit": 1, "windowSeconds": 60, "burst": 2}):
        s.refused("create_key", "invalid", body={"name": "k", "scopes": [READ], "rateLimit": wrong})
    for wrong in (-1, 1.5, "1", None):
        s.refused("verify", "invalid", body={"key": s.root, "cost": wrong})


@check("A proxy is told the limit, and when to come back", "RateLimit headers, Retry-After", "rate_limits",
       "forward_auth")
def _(s):
    made = limited(s, 2)
    answers = in_one_window(lambda: [s.send("ask", made["key"], scopes=[READ]) for _ in range(3)])
    equal([it.status for it in answers], [200, 200, 429])
    equal(answers[0].header("ratelimit-policy"), f'"key";q=2;w={DAY}')
    assert answers[0].header("ratelimit").startswith('"key";r=1;t='), answers[0].headers
    assert 0 < int(answers[2].header("retry-after")) <= DAY
    equal(s.adapter.reason(answers[2]), "rate_limited")


@check("A proxy and a question use the same limit", "two ways around a limit", "rate_limits", "forward_auth")
def _(s):
    made = limited(s, 1)
    asked = in_one_window(lambda: (s.send("ask", made["key"], scopes=[READ]).status, s.code(made["key"])))
    equal(asked, (200, "RATE_LIMITED"))


@check("Calls of the key server's own API use nothing of the limit", "a customer that cannot rotate", "rate_limits",
       "self")
def _(s):
    made = limited(s, 1)
    for _ in range(3):
        s.ok("get_key", made["key"], id="self")
    equal(in_one_window(lambda: s.code(made["key"])), "VALID")
