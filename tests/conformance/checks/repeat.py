"""Idempotency keys: a create or rotate whose answer was lost is repeated without a second effect."""
from suite.check import equal, theme
from suite.session import ABSENT, READ

check = theme("Repeat")
LOST = "a lost answer"
BODY = {"name": "once", "scopes": [READ]}


def with_token(token):
    return [("Idempotency-Key", token)]


@check("A repeated creation gives the first answer, and makes no second key", LOST, "idempotency", "accounts", "list")
def _(s):
    caller, token = s.account()["apiKey"]["key"], with_token(s.unique())
    first, again = (s.send("create_key", caller, token, body=BODY) for _ in range(2))
    equal((first.status, again.status, again.body), (201, 201, first.body))
    equal([it.header("idempotency-replayed") for it in (first, again)], [None, "true"])
    for name in ("location", "etag"):
        equal(again.header(name), first.header(name), name)
    equal(len(s.keys(caller)), 2)


@check("A repeated rotation gives the first answer, and makes no second text", LOST, "idempotency", "rotation",
       "events")
def _(s):
    made, token = s.key(), with_token(s.unique())
    first, again = (s.send("rotate_key", headers=token, id=made["id"]) for _ in range(2))
    equal((first.status, again.body), (200, first.body))
    equal(len(s.events(subject=made["id"], type="api_key.rotated")), 1)


@check("A repeated self-rotation gives the first answer, also with the old text", LOST, "idempotency", "self_rotation")
def _(s):
    made, token = s.key("api-keys:rotate"), with_token(s.unique())
    first, again = (s.send("rotate_key", made["key"], token, id="self") for _ in range(2))
    equal((first.status, again.body), (200, first.body))


@check("A repeated creation of an account makes one account", LOST, "idempotency", "accounts")
def _(s):
    token, name = with_token(s.unique()), s.unique("once")
    first, again = (s.send("create_account", headers=token, body={"name": name}) for _ in range(2))
    equal((first.status, again.body), (201, first.body))
    equal(len(s.ok("list_accounts", query={"q": name})["data"]), 1)


@check("The same value with another request is refused", "a value that is used twice by mistake", "idempotency",
       "rotation")
def _(s):
    token = with_token(s.unique())
    made = s.ok("create_key", headers=token, body=BODY)
    s.refused("create_key", "invalid", "idempotency_key_reused", headers=token, body=BODY | {"name": "twice"})
    s.refused("rotate_key", "invalid", "idempotency_key_reused", headers=token, id=made["id"])
    equal(s.show(made)["rotatedAt"], None)


@check("Another value, and no value, make another key", "two keys on purpose", "idempotency")
def _(s):
    headers = [with_token(s.unique()), with_token(s.unique()), []]
    equal(len({s.ok("create_key", headers=it, body=BODY)["id"] for it in headers}), 3)


@check("Another caller does not get the answer", "a guessed value", "idempotency", "accounts")
def _(s):
    token, callers = with_token(s.unique()), [s.account()["apiKey"]["key"] for _ in range(2)]
    answers = [s.send("create_key", it, token, body=BODY) for it in callers]
    equal([(it.status, it.header("idempotency-replayed")) for it in answers], [(201, None)] * 2)
    assert answers[0].json["key"] != answers[1].json["key"]


@check("A refused request keeps nothing, and can be corrected", "a first try with a mistake", "idempotency")
def _(s):
    token = with_token(s.unique())
    s.refused("create_key", "invalid", headers=token, body={"name": ""})
    assert s.ok("create_key", headers=token, body=BODY)["key"]


@check("Of equal requests at the same time, one makes a key", "a client with two threads", "idempotency", "accounts",
       "list")
def _(s):
    caller, token = s.account()["apiKey"]["key"], with_token(s.unique())
    answers = s.at_once(8, lambda n: s.send("create_key", caller, token, body=BODY))
    good = {it.body for it in answers if it.status == 201}
    equal((len(good), {it.status for it in answers} <= {201, 409}), (1, True))
    assert all(it.header("retry-after") for it in answers if it.status == 409)
    equal(len(s.keys(caller)), 2)


@check("A caller that may not create any more does not get the answer", "a stolen old request", "idempotency",
       "privilege", "update")
def _(s):
    caller, token = s.key(READ, "api-keys:write"), with_token(s.unique())
    s.ok("create_key", caller["key"], token, body=BODY)
    s.update(caller, scopes=[READ])
    s.refused("create_key", "forbidden", "missing_scope", caller=caller["key"], headers=token, body=BODY)
    s.revoke(caller)
    s.refused("create_key", "unauthenticated", "key_revoked", caller=caller["key"], headers=token, body=BODY)


@check("The text of a key that was revoked since is not repeated", "a secret that is no use", "idempotency")
def _(s):
    token = with_token(s.unique())
    made = s.ok("create_key", headers=token, body=BODY)
    s.revoke(made)
    answer = s.refused("create_key", "conflict", "idempotent_result_revoked", headers=token, body=BODY)
    assert made["key"] not in answer.text


@check("A value in quotes is the same value", "draft-ietf-httpapi-idempotency-key-header-07", "idempotency")
def _(s):
    token = s.unique()
    first, again = (s.ok("create_key", headers=with_token(it), body=BODY) for it in (token, f'"{token}"'))
    equal((again["id"], again["key"]), (first["id"], first["key"]))


@check("A value that cannot be is refused", "a value that is cut somewhere", "idempotency")
def _(s):
    for wrong in ("", "x" * 256, "ä".encode().decode("latin-1"), '"open'):
        s.refused("create_key", "malformed", "invalid_idempotency_key", headers=with_token(wrong), body=BODY)
    twice = with_token("a") + with_token("b")
    s.refused("create_key", "malformed", "duplicate_header", headers=twice, body=BODY)


@check("A value does not hide that a key does not exist", "the same rules for a repeat", "idempotency", "rotation")
def _(s):
    s.refused("rotate_key", "not_found", headers=with_token(s.unique()), id=ABSENT)
