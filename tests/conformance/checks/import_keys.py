"""Import: keys that another system issued go on working, by their digests alone."""
import base64
import hashlib

from suite.check import equal, theme
from suite.session import READ, WRITE

check = theme("Import")
MOVE = "customers keep their keys"


def row(text, **members):
    return {"name": "moved", "scopes": [READ], "sha256": hashlib.sha256(text.encode()).hexdigest(), **members}


def foreign(s):
    """Returns a key as another system makes them."""
    return f"sk_live_{s.unique('51Habcdef')}_GHIJKLmnopQR"


@check("A key that is imported by its digest verifies at once", f"Unkey; {MOVE}", "import", "scopes")
def _(s):
    text = foreign(s)
    assert not s.verify(text)["valid"]
    equal(s.adapter.import_rows([row(text)]), set())
    equal([s.code(text, scopes=[it]) for it in (READ, WRITE)], ["VALID", "INSUFFICIENT_SCOPES"])
    equal(s.code(text[:-1]) in ("MALFORMED", "NOT_FOUND"), True)


@check("SHA-512, and a digest in base64, are understood", MOVE, "import")
def _(s):
    one, other = foreign(s), foreign(s)
    rows = [{"name": "a", "scopes": [READ], "sha512": hashlib.sha512(one.encode()).hexdigest()},
            row(other, sha256=base64.b64encode(hashlib.sha256(other.encode()).digest()).decode())]
    equal(s.adapter.import_rows(rows), set())
    equal([s.code(it) for it in (one, other)], ["VALID"] * 2)


@check("A key that was imported before is refused, and stays one key", "Unkey: an import that is repeated", "import",
       "filters")
def _(s):
    text, name = foreign(s), s.unique("moved")
    rows = [row(text, name=name)]
    equal([s.adapter.import_rows(rows) for _ in range(2)], [set(), {1}])
    equal(len(s.keys(q=name)), 1)


@check("A bad row is refused by its line, and the others are imported", "Unkey", "import")
def _(s):
    one, other = foreign(s), foreign(s)
    rows = [row(one), row(one), row(foreign(s), scopes=[""]), row(foreign(s), sha256=""), row(foreign(s), expiresAt=-1),
            row(other), row(foreign(s), scopes=["no:such"]), row(foreign(s), account=s.unique("absent"))]
    equal(s.adapter.import_rows(rows), {2, 3, 4, 5, 7, 8})
    equal([s.code(it) for it in (one, other)], ["VALID"] * 2)


@check("An imported key is listed, disabled and revoked like another", MOVE, "import", "filters", "disable", "accounts")
def _(s):
    text, account = foreign(s), s.account(externalId=s.unique("cust"))
    equal(s.adapter.import_rows([row(text, account=account["externalId"])]), set())
    verdict = s.verify(text)
    equal((verdict["accountId"], verdict["externalId"]), (account["id"], account["externalId"]))
    made = {"id": verdict["keyId"]}
    assert made["id"] in [it["id"] for it in s.keys(account=account["id"])]
    s.update(made, enabled=False)
    equal(s.code(text), "DISABLED")
    s.revoke(made)
    equal(s.code(text), "REVOKED")


@check("A revoked key cannot be imported again", "a leak in an old file", "import")
def _(s):
    text = foreign(s)
    s.adapter.import_rows([row(text)])
    s.revoke({"id": s.verify(text)["keyId"]})
    equal(s.adapter.import_rows([row(text)]), {1})
    equal(s.code(text), "REVOKED")


@check("A rotation gives an imported key a new text, and the old one a grace period", MOVE, "import", "rotation")
def _(s):
    text = foreign(s)
    s.adapter.import_rows([row(text)])
    made = {"id": s.verify(text)["keyId"]}
    new = s.rotate(made, gracePeriodSeconds=600)
    equal((s.code(text), s.code(new["key"])), ("VALID", "VALID"))
    s.ok("complete_rotation", id=made["id"])
    equal((s.code(text), s.code(new["key"])), ("ROTATED", "VALID"))


@check("An imported key is a caller, as a bearer token too", MOVE, "import", "self", "http")
def _(s):
    text = foreign(s)
    s.adapter.import_rows([row(text)])
    equal(s.ok("get_key", text, id="self")["name"], "moved")
    answer = s.transmit(s.request("get_key", None, id="self").plus(("Authorization", f"Bearer {text}")))
    equal(answer.status, 200)
