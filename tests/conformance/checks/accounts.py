"""Accounts: their life, and that one never sees or touches what belongs to another."""
from suite.check import equal, theme
from suite.session import ABSENT, ABSENT_ACCOUNT, OTHER, READ, WRITE

check = theme("Accounts")
SEPARATE = "accounts are separate"


def two(s):
    """Returns the caller of one account, and a key of another account."""
    mine, theirs = s.account(), s.account()
    return mine["apiKey"]["key"], s.key(account=theirs["id"], name="theirs")


def same_answers(s, *answers):
    """Checks that nothing but the request id tells these answers apart."""
    bodies = []
    for answer in answers:
        body = dict(answer.json)
        body.pop("requestId", None)
        bodies.append((answer.status, body))
    assert all(it == bodies[0] for it in bodies), bodies


@check("A new account has a key that manages the keys of the account", "Better Auth", "accounts", "privilege")
def _(s):
    account = s.account(allowedScopes=[READ])
    equal(account["apiKey"]["scopes"], [READ, "api-keys:read", "api-keys:write", "events:read"])
    caller = account["apiKey"]["key"]
    made = s.key(caller=caller)
    equal(made["accountId"], account["id"])
    s.update(made, caller, name="o")
    s.rotate(made, caller)
    s.revoke(made, caller)


@check("An account has the settings that were given, and shows no key later", "Unkey", "accounts", "metadata")
def _(s):
    given = {"name": "ünï 日本", "externalId": s.unique("cust"), "allowedScopes": [READ], "maxKeys": 5,
             "metadata": {"s": "日", "n": 1, "f": 1.25, "b": False, "z": None, "a": [1, "2", {}], "o": {}}}
    account = s.account(**given)
    answer = s.send("get_account", id=account["id"])
    for found in account, answer.json:
        equal({name: found[name] for name in given}, given)
    assert "apiKey" not in answer.json and account["apiKey"]["key"] not in answer.text


@check("An external id belongs to one account", "Unkey", "accounts")
def _(s):
    account = s.account(externalId=s.unique("cust"))
    taken = {"name": "x", "externalId": account["externalId"]}
    s.refused("create_account", "conflict", "external_id_taken", body=taken)
    s.refused("update_account", "conflict", "external_id_taken", id=s.account()["id"],
              body={"externalId": account["externalId"]})


@check("An account is found by its external id, and by a part of its name", "Unkey", "accounts", "filters")
def _(s):
    account = s.account(externalId=s.unique("cust"), name=s.unique("Firm"))
    ids = lambda **query: [it["id"] for it in s.ok("list_accounts", query=query)["data"]]
    equal(ids(externalId=account["externalId"]), [account["id"]])
    equal(ids(externalId=account["externalId"] + "x"), [])
    equal(ids(q=account["name"][1:].upper()), [account["id"]])
    assert account["id"] in ids(q=account["externalId"][:9])


@check("The external id of a deleted account is free again, and a second deletion finds none", "Unkey", "accounts")
def _(s):
    name = s.unique("again")
    for _ in range(2):
        account = s.account(externalId=name)
        s.ok("delete_account", id=account["id"])
        s.refused("delete_account", "not_found", id=account["id"])


@check("The keys of a deleted account are revoked", "Kong", "accounts", "verify")
def _(s):
    account = s.account()
    other = s.key(account=account["id"])
    s.ok("delete_account", id=account["id"])
    equal([s.code(it["key"]) for it in (account["apiKey"], other)], ["REVOKED"] * 2)
    s.refused("get_key", "unauthenticated", "key_revoked", caller=account["apiKey"]["key"], id="self")


@check("The keys of a suspended account stop, and work again when it is active", "Keygen", "suspend", "accounts",
       "self")
def _(s):
    account = s.account()
    caller = account["apiKey"]["key"]
    s.ok("update_account", id=account["id"], body={"status": "suspended"})
    equal(s.code(caller), "ACCOUNT_SUSPENDED")
    s.refused("list_keys", "unauthenticated", "account_suspended", caller=caller)
    s.ok("update_account", id=account["id"], body={"status": "active"})
    equal(s.code(caller), "VALID")
    s.ok("list_keys", caller)


@check("The operator can revoke keys of a suspended account", "Keygen", "suspend", "accounts")
def _(s):
    account = s.account()
    s.ok("update_account", id=account["id"], body={"status": "suspended"})
    s.revoke(account["apiKey"])
    equal(s.code(account["apiKey"]["key"]), "REVOKED")


@check("The account of the operator cannot be suspended, limited or deleted", "an operator who locks the door",
       "suspend", "quota")
def _(s):
    id = s.ok("get_key", id="self")["accountId"]
    s.refused("delete_account", "conflict", "operator_account", id=id)
    for body in ({"status": "suspended"}, {"maxKeys": 5}, {"allowedScopes": [READ]}):
        s.refused("update_account", "conflict", "operator_account", id=id, body=body)
    equal(s.code(s.root), "VALID")


@check("Settings of an account that cannot be are refused", "Unkey", "accounts", "quota", "metadata")
def _(s):
    for wrong in ({"externalId": ""}, {"externalId": "ä"}, {"externalId": "x" * 256}, {"metadata": {"a": "x" * 5000}},
                  {"name": ""}, {"maxKeys": -1}, {"maxKeys": "5"}, {"allowedScopes": ["no:such"]}, {"status": "gone"},
                  {"allowedScopes": ["*"]}, {"rateLimit": {"limit": 0, "windowSeconds": 60}}):
        s.refused("create_account", "invalid", body={"name": "x", **wrong})


@check("A key sees its own account and no other", SEPARATE, "accounts", "privilege")
def _(s):
    mine, theirs = s.account(), s.account()
    caller = mine["apiKey"]["key"]
    equal(s.ok("get_account", caller, id="self")["id"], mine["id"])
    s.refused("get_account", "forbidden", "missing_scope", caller=caller, id=theirs["id"])
    s.refused("list_accounts", "forbidden", "missing_scope", caller=caller)


@check("A list has keys of the caller's account only", "Better Auth; accounts are separate", "accounts", "list")
def _(s):
    mine, theirs = two(s)
    s.key(caller=mine)
    own = s.ok("get_key", mine, id="self")["accountId"]
    equal({it["accountId"] for it in s.keys(mine)}, {own})
    assert theirs["id"] not in s.send("list_keys", mine).text


@check("Another account's key answers like a key that never was", SEPARATE, "accounts", "rotation", "usage",
       "least_privilege")
def _(s):
    mine, theirs = two(s)
    for operation, body in (("get_key", None), ("update_key", {"name": "hax"}), ("patch_key", {"name": "hax"}),
                            ("rotate_key", None), ("complete_rotation", None), ("revoke_key", None),
                            ("key_usage", None), ("key_addresses", None)):
        answers = [s.refused(operation, "not_found", "not_found", caller=mine, id=it, body=body)
                   for it in (theirs["id"], ABSENT, theirs["keyPrefix"])]
        same_answers(s, *answers)
        assert theirs["id"] not in answers[0].text
    found = s.show(theirs)
    equal((found["name"], found["rotatedAt"], s.code(theirs["key"])), ("theirs", None, "VALID"))


@check("Another account's key answers the same with a wrong body or revision", SEPARATE, "accounts", "etag")
def _(s):
    mine, theirs = two(s)
    for body, headers in (({"name": 7}, []), ({"nope": 1}, []), ({"name": "x"}, [("If-Match", '"x"')])):
        same_answers(s, *[s.refused("update_key", "not_found", caller=mine, headers=headers, id=it, body=body)
                          for it in (theirs["id"], ABSENT)])


@check("Another account answers like an account that never was", "Unkey; accounts are separate", "accounts",
       "privilege")
def _(s):
    mine, theirs = s.account()["apiKey"]["key"], s.account()
    for operation in ("create_key", "list_keys"):
        body = {"name": "x", "scopes": [READ]} if operation == "create_key" else None
        answers = [s.send(operation, mine, account=it, body=body) for it in (theirs["id"], ABSENT_ACCOUNT)]
        same_answers(s, *answers)
        assert answers[0].status in (403, 404), answers[0]
    equal(len(s.keys(account=theirs["id"])), 1)


@check("An account cannot make a key for the operator", "Keygen", "accounts", "privilege")
def _(s):
    caller, operator = s.account()["apiKey"]["key"], s.ok("get_key", id="self")["accountId"]
    for account in (operator, None):
        answer = s.send("create_key", caller, account=account, body={"name": "x", "scopes": ["*"]})
        assert answer.status in (403, 404, 422), answer


@check("A key of an account cannot verify, not even its own keys", "Unkey", "accounts", "privilege")
def _(s):
    caller = s.account()["apiKey"]["key"]
    s.refused("verify", "forbidden", "missing_scope", caller=caller, body={"key": caller})


@check("The operator makes and manages keys of each account", "Keygen", "accounts", "rotation")
def _(s):
    account = s.account()
    made = s.key(account=account["id"])
    equal(made["accountId"], account["id"])
    s.update(made, name="x")
    new = s.rotate(made)
    equal((s.verify(new["key"])["accountId"], new["accountId"]), (account["id"], account["id"]))
    s.revoke(made)


@check("No key has a scope that its account does not allow", "Keygen", "accounts", "update")
def _(s):
    account = s.account(allowedScopes=[READ])
    made = s.key(account=account["id"])
    for caller in (s.root, account["apiKey"]["key"]):
        answer = s.refused("create_key", "forbidden", "scope_escalation", caller=caller,
                           account=account["id"] if caller == s.root else None, body={"name": "x", "scopes": [WRITE]})
        assert WRITE in answer.json["detail"], answer
        s.refused("update_key", "forbidden", "scope_escalation", caller=caller, id=made["id"],
                  body={"scopes": [READ, WRITE]})
    equal(s.show(made)["scopes"], [READ])


@check("A customer does not learn which keys the operator has", SEPARATE, "accounts", "events")
def _(s):
    account = s.account()
    caller = account["apiKey"]["key"]
    made = s.key(account=account["id"])
    operator = s.ok("get_key", id="self")
    equal((s.show(made)["createdBy"], s.show(made, caller)["createdBy"]), (operator["id"], "operator"))
    text = s.send("list_events", caller).text
    assert operator["id"] not in text and operator["keyPrefix"] not in text and operator["accountId"] not in text


@check("A link lets an account holder manage keys for a while", "customers without a program", "console_links")
def _(s):
    account = s.account(allowedScopes=[READ])
    link = s.ok("create_console_link", id=account["id"], body={"expiresIn": 600})
    text = link["url"].partition("#key=")[2]
    equal((link["apiKey"]["accountId"], link["apiKey"]["consoleLink"], "key" in link["apiKey"]),
          (account["id"], True, False))
    new = s.rotate({"id": "self"}, text, gracePeriodSeconds=0)
    s.refused("get_key", "unauthenticated", "key_rotated", caller=text, id="self")
    made = s.key(caller=new["key"])
    equal((made["accountId"], made["expiresAt"]), (account["id"], None))


@check("A link gives no more than the account allows, and no customer makes one", "a link as a way around rules",
       "console_links")
def _(s):
    account = s.account(allowedScopes=[READ])
    s.refused("create_console_link", "forbidden", "scope_escalation", id=account["id"], body={"scopes": [OTHER]})
    s.refused("create_console_link", "forbidden", "missing_scope", caller=account["apiKey"]["key"], id=account["id"])
    operator = s.ok("get_key", id="self")["accountId"]
    s.refused("create_console_link", "conflict", "operator_account", id=operator)
