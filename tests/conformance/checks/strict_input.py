"""Strict input: what an operation does not know is refused, not ignored."""
from suite.check import equal, theme
from suite.session import READ, WRITE

check = theme("Strict input")
WHY = "a typo that is ignored"


@check("An unknown member of a body is refused, and named", "Meilisearch, Better Auth", "strict")
def _(s):
    made, account = s.key(), s.account()
    good = {"name": "k", "scopes": [READ]}
    for operation, body in (("create_key", good), ("update_key", {}), ("patch_key", {}), ("rotate_key", {}),
                            ("verify", {"key": "x"}), ("create_account", {"name": "x"}), ("update_account", {})):
        id = account["id"] if "account" in operation else made["id"]
        s.refused(operation, "invalid", fault=("/expire", "unknown_field"), id=id, body=body | {"expire": None})
    equal(s.show(made)["rotatedAt"], None)


@check("An unknown parameter of a list is refused, and named", "Meilisearch", "strict")
def _(s):
    for operation in ("list_keys", "list_accounts", "list_events", "list_scopes"):
        s.refused(operation, "invalid", fault=("/doggo", "unknown_parameter"), query={"doggo": "no_limit"})


@check("A parameter that no operation knows does not change what it does", "dryRun, scope and others that are ignored",
       "strict", "rotation")
def _(s):
    made = s.key()
    for operation, query, body in (("verify", {"scope": WRITE}, {"key": made["key"]}),
                                   ("rotate_key", {"gracePeriodSeconds": 0}, None),
                                   ("update_key", {"validateOnly": "true"}, {"name": "z"}),
                                   ("revoke_key", {"dryRun": "true"}, None), ("get_key", {"expand": "all"}, None),
                                   ("create_key", {"dryRun": 1}, {"name": "x", "scopes": [READ]}),
                                   ("complete_rotation", {"now": 1}, None)):
        s.refused(operation, "invalid", id=made["id"], query=query, body=body)
    found = s.show(made)
    equal((found["name"], found["rotatedAt"], s.code(made["key"])), (made["name"], None, "VALID"))


@check("A parameter that is given twice is refused", "two readings of one request", "strict", "list")
def _(s):
    s.refused("list_keys", "invalid", fault=("/limit", "duplicate"), query=[("limit", 1), ("limit", 2)])


@check("An operation without a body refuses one, unless it is empty", WHY, "strict", "revoke")
def _(s):
    made = s.key()
    for operation in ("revoke_key", "complete_rotation", "get_key"):
        s.refused(operation, "malformed", "unexpected_body", id=made["id"], body={"reason": "x"})
    equal(s.code(made["key"]), "VALID")
    s.ok("revoke_key", id=made["id"], body={})


@check("Names of members and scopes are case-sensitive", WHY, "strict")
def _(s):
    s.refused("create_key", "invalid", fault=("/Name", "unknown_field"), body={"Name": "k", "scopes": [READ]})
    s.refused("create_key", "invalid", body={"name": "k", "scopes": [READ.upper()]})


@check("A value of a similar type is not converted", WHY, "strict", "expires_in", "disable")
def _(s):
    for wrong in ({"enabled": "true"}, {"enabled": 1}, {"expiresIn": "60"}, {"name": 7}, {"scopes": {"0": READ}},
                  {"expiresAt": 0}, {"expiresAt": False}):
        s.refused("create_key", "invalid", body={"name": "k", "scopes": [READ]} | wrong)


@check("Invisible characters and reversed text are no name", "two names that look the same", "strict")
def _(s):
    for wrong in ("\u200b", "a\u200bb", "a\u202eb", "a\u0000b", "a\nb", "\u2066x", " "):
        s.refused("create_key", "invalid", body={"name": wrong, "scopes": [READ]})
    for good in ("日本 ünï", "👩‍💻", "a  b", "O'Brien; DROP TABLE"):
        equal(s.key(name=good)["name"], good)


@check("Name and metadata do not take a key", "a key in the wrong field", "strict", "metadata")
def _(s):
    text = s.key()["key"]
    s.refused("create_key", "invalid", fault=("/name", "contains_api_key"), body={"name": text, "scopes": [READ]})
    s.refused("create_key", "invalid", body={"name": "k", "scopes": [READ], "metadata": {"old": f"it was {text}"}})
    s.refused("create_account", "invalid", fault=("/name", "contains_api_key"), body={"name": f"x {text}"})


@check("A reason of a revocation is one readable line", "a log that people read", "strict", "events", "revoke")
def _(s):
    made = s.key()
    for wrong in ("", "x" * 201, "a\nb"):
        s.refused("revoke_key", "invalid", fault=None, id=made["id"], query={"reason": wrong})
    equal(s.code(made["key"]), "VALID")
