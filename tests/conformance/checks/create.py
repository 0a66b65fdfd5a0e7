"""Keys are created: what a caller gets, once, and what is refused."""
from suite.check import equal, instant, theme
from suite.session import ABSENT_ACCOUNT, OTHER, READ, WRITE, WRONG_KEY

check = theme("Create")
RULES = "the promise of each key server"


@check("A new key has an id, the given name and scopes, and its full text", RULES, "create")
def _(s):
    made = s.key(name="Client")
    equal((made["name"], made["scopes"]), ("Client", [READ]))
    assert made["id"] and len(made["key"]) >= 20, made
    assert made["id"] not in made["key"]


@check("The full text is in no later answer about the key", "a leaked answer", "create", "get")
def _(s):
    made = s.key()
    answer = s.send("get_key", id=made["id"])
    equal(answer.status, 200)
    assert "key" not in s.adapter.result("get_key", answer) and made["key"] not in answer.text, answer


@check("Each key has its own id and text", "Kong, crates.io", "create")
def _(s):
    made = [s.key(name="same") for _ in range(8)]
    equal([len({it[part] for it in made}) for part in ("id", "key")], [8, 8])


@check("Two keys of the same name both work", "crates.io", "create", "verify")
def _(s):
    equal([s.code(s.key(name="same")["key"]) for _ in range(2)], ["VALID", "VALID"])


@check("Many creations at the same time give as many keys", "Unkey, Better Auth", "create", "verify")
def _(s):
    made = s.at_once(16, lambda n: s.key(name=f"n{n}"))
    equal([len({it[part] for it in made}) for part in ("id", "key")], [16, 16])
    equal({s.code(it["key"]) for it in made}, {"VALID"})


@check("A key that was made at the same time as others is in the list", "Better Auth", "accounts", "list")
def _(s):
    account = s.account()
    made = s.at_once(16, lambda n: s.key(caller=account["apiKey"]["key"], name=f"n{n}"))
    listed = {it["id"] for it in s.keys(account["apiKey"]["key"])}
    equal({it["id"] for it in made} - listed, set())


@check("Name, metadata, expiry and enabled of a new key are as given", "Unkey", "get", "metadata", "expiry", "disable")
def _(s):
    made = s.key(name="All", metadata={"m": True}, expiresAt="2090-05-01T10:00:00+02:00", enabled=False)
    for found in made, s.show(made):
        equal((found["name"], found["metadata"], found["enabled"]), ("All", {"m": True}, False))
        equal(found["expiresAt"], "2090-05-01T08:00:00.000Z")


@check("The answer to a creation names the address of the key", "RFC 9110, 15.3.2", "http")
def _(s):
    answer = s.send("create_key", body={"name": "k", "scopes": [READ]})
    id = answer.json["id"]
    equal((answer.status, answer.header("location")), (201, s.request("get_key", id=id).path))


@check("Times of a key are RFC 3339 in UTC, with milliseconds", "Meilisearch", "get", "expiry")
def _(s):
    made = s.key(expiresAt="2050-11-13T00:00:00Z")
    for name in ("createdAt", "updatedAt", "expiresAt"):
        assert len(made[name]) == 24 and made[name].endswith("Z") and made[name][19] == ".", made[name]
    assert abs(int(made["createdAt"][:4]) - int(instant()[:4])) <= 1


@check("The prefix of a key is the beginning of its text", "Better Auth", "get", "prefix")
def _(s):
    made = s.key()
    assert made["key"].startswith(made["keyPrefix"]) and len(made["keyPrefix"]) == 12, made["keyPrefix"]
    equal(s.show(made)["keyPrefix"], made["keyPrefix"])


@check("The text of a key needs no quotes anywhere", "shells, .env files, a double click", "create")
def _(s):
    text = s.key()["key"]
    assert text.isascii() and text.replace("_", "").isalnum(), text


@check("A creation without a name is refused", "Unkey, Better Auth", "create")
def _(s):
    s.refused("create_key", "invalid", fault=("/name", "required"), body={"scopes": [READ]})


@check("An empty name is refused", "crates.io, Better Auth", "create")
def _(s):
    s.refused("create_key", "invalid", fault=("/name", "out_of_range"), body={"name": "", "scopes": [READ]})


@check("A name has at most 100 characters, however many bytes they need", "Better Auth", "create")
def _(s):
    s.key(name="a" * 100)
    s.key(name="ä" * 100)
    s.refused("create_key", "invalid", fault=("/name", "out_of_range"), body={"name": "ä" * 101, "scopes": [READ]})


@check("A key without scopes is refused, because there is no default power", "least privilege", "create")
def _(s):
    s.refused("create_key", "invalid", fault=("/scopes", "required"), body={"name": "k"})
    s.refused("create_key", "invalid", body={"name": "k", "scopes": []})


@check("Scopes that are null or no list are refused", "crates.io", "create")
def _(s):
    s.refused("create_key", "invalid", body={"name": "k", "scopes": None})
    s.refused("create_key", "invalid", fault=("/scopes", "invalid_type"), body={"name": "k", "scopes": READ})


@check("A scope that does not exist is refused, and similar names are suggested", "a typo", "catalogue", "reasons")
def _(s):
    wrong = {"name": "k", "scopes": [READ, "order:read"]}
    answer = s.refused("create_key", "invalid", fault=("/scopes/1", "unknown_scope"), body=wrong)
    assert READ in answer.json["errors"][0]["detail"], answer


@check("Empty and overlong scopes are refused", "Unkey", "catalogue")
def _(s):
    for scope in ("", "a" * 600, "orders:*", "*:read", "crash", "Orders:Read"):
        s.refused("create_key", "invalid", body={"name": "k", "scopes": [scope]})


@check("A key has each scope once, in the order of the catalogue", "stable answers", "catalogue")
def _(s):
    equal(s.key(OTHER, WRITE, READ, WRITE)["scopes"], [READ, WRITE, OTHER])


@check("The catalogue describes each scope, to each key", "people who choose scopes", "catalogue")
def _(s):
    scopes = s.ok("list_scopes", s.key()["key"])["data"]
    assert {READ, WRITE, OTHER} <= {it["name"] for it in scopes} and all(it["description"] for it in scopes), scopes


@check("The caller cannot choose the text of a key", "Kong allows it", "strict")
def _(s):
    s.refused("create_key", "invalid", fault=("/key", "unknown_field"),
              body={"name": "k", "scopes": [READ], "key": "1234567890123456789012345"})


@check("The caller cannot name the owner of a key in the body", "Better Auth", "strict", "accounts")
def _(s):
    body = {"name": "k", "scopes": [READ], "accountId": s.account()["id"]}
    s.refused("create_key", "invalid", fault=("/accountId", "unknown_field"), body=body)


@check("A creation without a key is refused", "Better Auth, Meilisearch", "create")
def _(s):
    s.refused("create_key", "unauthenticated", "missing_key", caller=None, body={"name": "k", "scopes": [READ]})


@check("A creation with a wrong key is refused", "Unkey, Keygen", "create")
def _(s):
    for wrong in (WRONG_KEY, s.root[:-1], s.root + "0", s.root.upper()):
        s.refused("create_key", "unauthenticated", "invalid_key", caller=wrong, body={"name": "k", "scopes": [READ]})


@check("A key without the right to create creates nothing", "Unkey, Gitea", "create")
def _(s):
    s.refused("create_key", "forbidden", "missing_scope", caller=s.key()["key"], body={"name": "k", "scopes": [READ]})


@check("A revoked key creates nothing", "Better Auth", "create", "revoke", "privilege")
def _(s):
    caller = s.key(READ, "api-keys:write")
    s.revoke(caller)
    body = {"name": "k", "scopes": [READ]}
    s.refused("create_key", "unauthenticated", "key_revoked", caller=caller["key"], body=body)


@check("A creation in an account that does not exist is refused", "Unkey", "accounts")
def _(s):
    gone = s.account()
    s.ok("delete_account", id=gone["id"])
    for id in (ABSENT_ACCOUNT, gone["id"], "acct_x"):
        s.refused("create_key", "not_found", account=id, body={"name": "k", "scopes": [READ]})
