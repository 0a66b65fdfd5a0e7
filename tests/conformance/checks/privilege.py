"""Least privilege: each operation needs its scope, and no caller gives more than it has."""
from suite.check import equal, theme
from suite.session import OTHER, READ, WRITE

check = theme("Privilege")
# Each operation, and the scopes of which one is enough.
OPERATIONS = [
    ("list_keys", {"api-keys:read"}), ("create_key", {"api-keys:write"}),
    ("get_key", {"api-keys:read", "accounts:read"}), ("update_key", {"api-keys:write", "accounts:write"}),
    ("patch_key", {"api-keys:write", "accounts:write"}), ("revoke_key", {"api-keys:write", "accounts:write"}),
    ("rotate_key", {"api-keys:write", "accounts:write"}), ("complete_rotation", {"api-keys:write", "accounts:write"}),
    ("key_usage", {"api-keys:read", "accounts:read"}), ("key_addresses", {"api-keys:read", "accounts:read"}),
    ("verify", {"api-keys:verify"}), ("list_accounts", {"accounts:read"}), ("create_account", {"accounts:write"}),
    ("get_account", {"accounts:read"}), ("update_account", {"accounts:write"}), ("patch_account", {"accounts:write"}),
    ("delete_account", {"accounts:write"}), ("account_usage", {"accounts:read"}),
    ("create_console_link", {"accounts:write"}), ("list_events", {"events:read"}), ("get_event", {"events:read"}),
    ("event_proof", {"events:read"}), ("event_stream", {"events:read"}),
]
ALL = [READ, WRITE, "api-keys:read", "api-keys:write", "api-keys:rotate", "events:read", "api-keys:verify",
       "accounts:read", "accounts:write", "metrics:read"]
CHANGES = ("create_key", "update_key", "patch_key", "verify", "create_account", "update_account", "patch_account")


@check("Each operation is refused to a key with all scopes but its own", "Gitea", "privilege", "rotation", "usage",
       "events", "stream", "proofs", "console_links", "least_privilege")
def _(s):
    key, account, callers, wrong = s.key()["id"], s.account()["id"], {}, []
    for operation, scopes in OPERATIONS:
        held = tuple(it for it in ALL if it not in scopes)
        callers[held] = callers.get(held) or s.key(*held)["key"]
        id = account if "account" in operation or "console" in operation else key
        answer = s.send(operation, callers[held], id=id, seq=1, body={} if operation in CHANGES else None)
        if (answer.status, s.adapter.reason(answer)) != (403, "missing_scope"):
            wrong.append((operation, answer.status, s.adapter.reason(answer)))
    equal(wrong, [])


@check("A key that may write may not read, and the other way round", "Unkey", "privilege", "update")
def _(s):
    made = s.key()
    for scope in ("api-keys:write", "api-keys:verify", "events:read", READ, "api-keys:rotate"):
        s.refused("get_key", "forbidden", "missing_scope", caller=s.key(scope)["key"], id=made["id"])
    reader = s.key("api-keys:read")["key"]
    equal(s.show(made, reader)["id"], made["id"])
    s.refused("update_key", "forbidden", "missing_scope", caller=reader, id=made["id"], body={"name": "x"})
    s.refused("create_key", "forbidden", "missing_scope", caller=reader, body={"name": "x", "scopes": [READ]})


@check("A key without a scope of the key server can only look at itself", "Better Auth", "privilege", "self")
def _(s):
    made = s.key()
    s.refused("list_keys", "forbidden", "missing_scope", caller=made["key"])
    equal(s.ok("get_key", made["key"], id="self")["id"], made["id"])


@check("A caller gives no scope that it does not hold", "Keygen, crates.io", "privilege", "update")
def _(s):
    caller = s.key("api-keys:write", READ)["key"]
    made = s.key(caller=caller)
    answer = s.refused("create_key", "forbidden", "scope_escalation", caller=caller,
                       body={"name": "x", "scopes": [READ, WRITE]})
    assert WRITE in answer.json["detail"] and READ not in answer.json["detail"], answer
    wider = {"scopes": [READ, WRITE]}
    s.refused("update_key", "forbidden", "scope_escalation", caller=caller, id=made["id"], body=wider)
    s.refused("update_key", "forbidden", "scope_escalation", caller=caller, id="self",
              body={"scopes": ["api-keys:write", READ, WRITE]})
    equal(s.show(made)["scopes"], [READ])


@check("A caller does not rotate, change or revoke a stronger key", "taking over a key", "privilege", "rotation")
def _(s):
    caller, strong = s.key("api-keys:write", READ)["key"], s.key(READ, OTHER)
    for operation, body in (("rotate_key", None), ("update_key", {"name": "mine"}), ("revoke_key", None),
                            ("complete_rotation", None)):
        s.refused(operation, "forbidden", "scope_escalation", caller=caller, id=strong["id"], body=body)
    equal((s.code(strong["key"]), s.show(strong)["name"]), ("VALID", strong["name"]))


@check("The powers of the operator reach no other account", "a root key at a customer", "privilege", "accounts", "list")
def _(s):
    account = s.account()
    for scope in ("*", "accounts:read", "accounts:write", "api-keys:verify", "metrics:read"):
        answer = s.send("create_key", account=account["id"], body={"name": "x", "scopes": [scope]})
        assert answer.status in (403, 422), f"{scope}: {answer}"
    equal(len(s.keys(account=account["id"])), 1)


@check("A key with all power may do all that is there", "Meilisearch", "privilege", "events", "proofs", "catalogue")
def _(s):
    made = s.key("*")
    try:
        for operation in ("list_keys", "list_accounts", "list_events", "list_scopes", "list_checkpoints"):
            s.ok(operation, made["key"])
    finally:
        s.revoke(made)


@check("The right to write includes the right to give the right to rotate oneself", "workloads that renew their key",
       "privilege", "self_rotation")
def _(s):
    caller = s.key("api-keys:write", READ)["key"]
    equal(s.key(READ, "api-keys:rotate", caller=caller)["scopes"], [READ, "api-keys:rotate"])


@check("A key that loses a right cannot use it any more", "Authelia", "privilege", "update")
def _(s):
    caller = s.key("api-keys:read", READ)
    s.ok("list_keys", caller["key"])
    s.update(caller, scopes=[READ])
    s.refused("list_keys", "forbidden", "missing_scope", caller=caller["key"])


@check("Unused scopes are listed until an accepted request requires them", "scopes that can go", "least_privilege",
       "scopes")
def _(s):
    made = s.key(READ, WRITE, OTHER)
    equal(made["unusedScopes"], [READ, WRITE, OTHER])
    s.verify(made["key"])
    s.verify(made["key"], scopes=[READ, "inventory:read"])
    equal(s.show(made)["unusedScopes"], [READ, WRITE, OTHER])
    s.verify(made["key"], scopes=[READ, OTHER])
    equal(s.show(made)["unusedScopes"], [WRITE])


@check("Keys with unused scopes can be selected", "scopes that can go", "least_privilege", "filters", "accounts",
       "scopes")
def _(s):
    caller = s.account(allowedScopes=[READ])["apiKey"]["key"]
    busy, idle = s.key(caller=caller), s.key(caller=caller)
    s.verify(busy["key"], scopes=[READ])
    found = {flag: [it["id"] for it in s.keys(caller, unusedScopes=flag)] for flag in ("true", "false")}
    assert idle["id"] in found["true"] and busy["id"] not in found["true"], found
    assert busy["id"] in found["false"], found


@check("The last addresses of the clients of a key are listed, the newest first", "a thief from elsewhere",
       "least_privilege", "address_lists")
def _(s):
    made = s.key()
    for address in ("203.0.113.1", "203.0.113.2", "2001:db8:1:2::7", "::ffff:203.0.113.3"):
        s.verify(made["key"], clientIp=address)
    found = [it["address"] for it in s.ok("key_addresses", id=made["id"])["data"]]
    equal(set(found), {"203.0.113.1", "203.0.113.2", "203.0.113.3", "2001:db8:1:2::/64"})
    for n in range(10, 14):
        s.verify(made["key"], clientIp=f"203.0.113.{n}")
    found = [it["address"] for it in s.ok("key_addresses", id=made["id"])["data"]]
    equal((len(found), "203.0.113.1" in found), (5, False))
