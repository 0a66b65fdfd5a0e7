"""Revocation: by the operator, by the holder, and by any finder of a leaked key."""
from suite.check import equal, instant, theme, wait_until
from suite.session import ABSENT, READ

check = theme("Revoke")


@check("A revoked key is gone from get and list", "Unkey, crates.io, Meilisearch", "revoke", "get", "accounts", "list")
def _(s):
    account = s.account()
    made = s.key(account=account["id"])
    s.revoke(made)
    s.refused("get_key", "not_found", "not_found", id=made["id"])
    equal([it["id"] for it in s.keys(account["apiKey"]["key"])], [account["apiKey"]["id"]])


@check("A key cannot be revoked twice, and one that never was cannot be revoked", "Unkey, Gitea", "create", "revoke")
def _(s):
    made = s.key()
    s.revoke(made)
    for id in (made["id"], ABSENT, "x"):
        s.refused("revoke_key", "not_found", "not_found", id=id)


@check("A revocation revokes one key and no other", "crates.io", "verify", "revoke")
def _(s):
    gone, other = s.key(name="same"), s.key(name="same")
    s.revoke(gone)
    equal(s.code(other["key"]), "VALID")


@check("Without a good caller no key is revoked", "Unkey, Better Auth", "verify", "revoke")
def _(s):
    made = s.key()
    for caller in (None, "nope", made["key"][:-1]):
        s.refused("revoke_key", "unauthenticated", caller=caller, id=made["id"])
    equal(s.code(made["key"]), "VALID")


@check("A key without the right to revoke revokes no other key", "Unkey", "verify", "revoke")
def _(s):
    made = s.key()
    s.refused("revoke_key", "forbidden", "missing_scope", caller=s.key()["key"], id=made["id"])
    equal(s.code(made["key"]), "VALID")


@check("A revoked key is refused as a caller, and told why", "crates.io", "revoke", "self")
def _(s):
    made = s.key()
    s.revoke(made)
    s.refused("get_key", "unauthenticated", "key_revoked", caller=made["key"], id="self")


@check("The address of all keys cannot be deleted", "a lost id in a script", "http", "list")
def _(s):
    request = s.request("list_keys")
    equal(s.transmit(request.but(method="DELETE")).status, 405)
    assert s.transmit(request.but(method="DELETE", path=request.path + "/")).status in (404, 405)


@check("Each key can revoke itself, with any scopes",
       "a holder who finds a leak", "self_revoke", "verify")
def _(s):
    made = s.key()
    s.ok("revoke_key", made["key"], id="self")
    equal(s.code(made["key"]), "REVOKED")


@check("Without a key, there is no own key to revoke", "crates.io", "self_revoke")
def _(s):
    s.refused("revoke_key", "unauthenticated", caller=None, id="self")


@check("The last root key cannot be revoked, disabled or made to expire", "an operator who locks the door", "last_root",
       "disable", "update")
def _(s):
    root = s.ok("get_key", id="self")
    for operation, body in (("revoke_key", None), ("update_key", {"enabled": False}),
                            ("update_key", {"expiresAt": instant(3600)}), ("update_key", {"scopes": [READ]})):
        s.refused(operation, "conflict", "last_root_key", id="self", body=body)
    equal(s.code(s.root), "VALID")
    equal(s.ok("get_key", id="self")["scopes"], root["scopes"])


@check("A revocation needs no budget of changes", "a thief who spends the budget", "revoke", "accounts", "http")
def _(s):
    caller = s.account()["apiKey"]["key"]
    made = s.key(caller=caller)
    answers = []
    while len(answers) < 1500 and (not answers or answers[-1].status != 429):
        answers += s.at_once(8, lambda n: s.send("update_key", caller, id=made["id"], body={}))
    assert any(it.status == 429 for it in answers), f"no 429 in {len(answers)} changes"
    limited = next(it for it in answers if it.status == 429)
    equal((s.adapter.reason(limited), limited.header("retry-after").isdigit()), ("too_many_changes", True))
    s.revoke(made, caller)
    equal(s.code(made["key"]), "REVOKED")


@check("A finder of a key can revoke it without a key", "secret scanning", "leak_reports")
def _(s):
    made = s.key()
    answer = s.send("report_leak", None, body={"keys": [made["key"]], "location": "https://git.example/commit/1"})
    equal((answer.status, answer.json), (200, {"received": 1}))
    equal(s.code(made["key"]), "REVOKED")
    event = s.events(subject=made["id"], type="api_key.revoked")[0]
    equal((event["data"]["reason"], event["data"]["location"]), ("leaked", "https://git.example/commit/1"))


@check("The answer to a leak report does not tell which keys exist", "probing for keys", "leak_reports")
def _(s):
    made, revoked = s.key(), s.key()
    s.revoke(revoked)
    answers = [s.send("report_leak", None, body={"keys": [it]}) for it in (made["key"], revoked["key"], "x", "rg_" * 9)]
    equal({(it.status, it.body) for it in answers}, {(200, answers[0].body)})
    equal(answers[0].json, {"received": 1})


@check("A part of a key is no proof of possession", "prefixes are public", "leak_reports")
def _(s):
    made = s.key()
    s.ok("report_leak", None, body={"keys": [made["keyPrefix"], made["key"][:-1], made["id"]]})
    equal(s.code(made["key"]), "VALID")


@check("A report of an old credential leaves the new one alone", "an old leak", "leak_reports", "rotation")
def _(s):
    made = s.key()
    new = s.rotate(made)
    s.ok("report_leak", None, body={"keys": [made["key"]]})
    equal((s.code(made["key"]), s.code(new["key"])), ("ROTATED", "VALID"))


@check("A leak report is bounded", "memory", "leak_reports")
def _(s):
    for wrong in ([], ["x"] * 101, "x", [1]):
        s.refused("report_leak", "invalid", caller=None, body={"keys": wrong})
    s.refused("report_leak", "invalid", caller=None, body={"keys": ["x"], "location": "x" * 201})


@check("A revocation has one event, with the actor and the reason", "Keygen", "events", "revoke")
def _(s):
    made = s.key()
    s.ok("revoke_key", id=made["id"], query={"reason": "left the company"})
    events = s.events(subject=made["id"], type="api_key.revoked")
    equal([it["actor"]["keyId"] for it in events], [s.ok("get_key", id="self")["id"]])
    equal(events[0]["data"]["reasonText"], "left the company")


@check("An expired key can be revoked", "Keygen", "revoke", "expiry")
def _(s):
    made = s.key(expiresAt=instant(0.3))
    wait_until(made["expiresAt"])
    s.revoke(made)
    equal(s.code(made["key"]), "REVOKED")
