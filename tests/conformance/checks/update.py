"""Updates: what a change changes, what it leaves alone, and how two changes do not overwrite each other."""
from suite.check import equal, instant, theme, wait_until
from suite.session import ABSENT, OTHER, READ, WRITE

check = theme("Update")


@check("An update changes all that it names", "Unkey", "update", "metadata", "expiry", "disable")
def _(s):
    changes = {"name": "N2", "scopes": [WRITE], "expiresAt": "2088-01-01T00:00:00.000Z", "enabled": False,
               "metadata": {"z": 1}}
    made = s.key()
    changed = s.update(made, **changes)
    for found in changed, s.show(made):
        equal({name: found[name] for name in changes}, changes)


@check("An update leaves alone what it does not name", "Unkey", "update", "metadata", "expiry")
def _(s):
    made = s.key(metadata={"a": 1}, expiresAt="2080-01-01T00:00:00Z")
    changed = s.update(made, name="other")
    for name in ("metadata", "expiresAt", "scopes", "enabled", "createdAt", "keyPrefix", "id", "createdBy"):
        equal(changed[name], made[name], name)


@check("null clears the expiry and the metadata", "Unkey", "update", "metadata", "expiry")
def _(s):
    made = s.key(metadata={"a": 1}, expiresAt="2080-01-01T00:00:00Z")
    changed = s.update(made, metadata=None, expiresAt=None)
    equal((changed["metadata"], changed["expiresAt"]), ({}, None))


@check("null is refused where it means nothing", "a client that sends null by mistake", "update")
def _(s):
    made = s.key(name="stays")
    for member in ("name", "scopes", "enabled"):
        s.refused("update_key", "invalid", fault=(f"/{member}", "not_nullable"), id=made["id"], body={member: None})
    equal(s.show(made)["name"], "stays")


@check("Metadata is replaced as a whole", "Unkey", "update", "metadata")
def _(s):
    made = s.key(metadata={"a": 1, "b": 2})
    equal(s.update(made, metadata={"b": 3})["metadata"], {"b": 3})


@check("Metadata comes back as it was given", "Unkey", "get", "metadata")
def _(s):
    given = {"user": {"id": 1, "tags": ["a", "ü", "日本"], "n": None, "f": 1.5, "deep": {"x": {"y": [{"z": True}]}}}}
    made = s.key(metadata=given)
    equal((made["metadata"], s.show(made)["metadata"]), (given, given))


@check("Metadata is an object in each answer", "Better Auth", "update", "metadata", "list", "filters")
def _(s):
    made = s.key(metadata={"t": 1})
    listed = s.keys(q=made["id"])[0]
    for found in (made, s.show(made), s.update(made, metadata={"t": 2}), listed, s.verify(made["key"])):
        assert isinstance(found["metadata"], dict), found


@check("Metadata that is no object, or too large, is refused", "Better Auth", "metadata")
def _(s):
    made = s.key()
    for wrong in ("text", 1, [1], True, {"a": "x" * 5000}, {f"n{it}": 1 for it in range(51)}):
        s.refused("create_key", "invalid", body={"name": "k", "scopes": [READ], "metadata": wrong})
        s.refused("update_key", "invalid", id=made["id"], body={"metadata": wrong})


@check("A number in metadata that a double does not hold is refused, not rounded", "silent loss", "metadata", "http")
def _(s):
    request = s.request("create_key", body={})
    body = b'{"name":"k","scopes":["orders:read"],"metadata":{"n":123456789012345678901234567890}}'
    s.refusal(s.transmit(request.but(body=body)), "invalid")


@check("An update has the same limits for names as a creation", "Better Auth", "update")
def _(s):
    made = s.key()
    for name in ("", " ", "a" * 101, "\u200b", "a\u202eb"):
        s.refused("update_key", "invalid", id=made["id"], body={"name": name})
    for name in ("a", "a" * 100):
        equal(s.update(made, name=name)["name"], name)


@check("Scopes are replaced as a whole", "Unkey", "update")
def _(s):
    equal(s.update(s.key(READ, OTHER), scopes=[OTHER])["scopes"], [OTHER])


@check("A key cannot lose all its scopes", "a key that is good for nothing", "update")
def _(s):
    s.refused("update_key", "invalid", fault=("/scopes", "out_of_range"), id=s.key()["id"], body={"scopes": []})


@check("A member of the wrong type is refused, and named", "Unkey", "update", "faults")
def _(s):
    made = s.key()
    for member, wrong in (("name", 123), ("scopes", READ), ("enabled", "yes"), ("expiresAt", {"a": 1})):
        s.refused("update_key", "invalid", fault=(f"/{member}", "invalid_type"), id=made["id"], body={member: wrong})


@check("An update cannot change what only answers have", "Meilisearch", "update", "strict", "faults")
def _(s):
    body = {"id": "key_x", "createdAt": "2020-01-01T00:00:00Z", "updatedAt": "x", "key": "x", "accountId": "x"}
    answer = s.refused("update_key", "invalid", id=s.key()["id"], body=body)
    equal(s.adapter.faults(answer), {(f"/{it}", "unknown_field") for it in body})


@check("PATCH does the same as PUT", "Kong", "update", "http")
def _(s):
    made = s.key(metadata={"a": 1})
    changed = s.ok("patch_key", id=made["id"], body={"name": "patched"})
    equal((changed["name"], changed["scopes"], changed["metadata"]), ("patched", [READ], {"a": 1}))
    answer = s.refused("patch_key", "invalid", id=made["id"], body={"name": 123})
    equal(s.adapter.faults(answer), {("/name", "invalid_type")})


@check("An update moves updatedAt and no other time", "Meilisearch", "update")
def _(s):
    made = s.key()
    wait_until(instant(0.01))
    changed = s.update(made, name="other")
    assert changed["updatedAt"] > made["updatedAt"], changed
    equal((changed["createdAt"], changed["lastUsedAt"]), (made["createdAt"], None))


@check("An update that changes nothing succeeds and records nothing", "declarative clients", "update", "events", "etag")
def _(s):
    made = s.key()
    before = s.send("get_key", id=made["id"]).header("etag")
    for body in ({}, {"name": made["name"]}, {"scopes": made["scopes"]}):
        answer = s.send("update_key", id=made["id"], body=body)
        equal((answer.status, answer.header("etag")), (200, before))
    equal([it["type"] for it in s.events(subject=made["id"])], ["api_key.created"])


@check("Updates at the same time leave one of them, and none fails", "Unkey", "update")
def _(s):
    made = s.key()
    equal(set(s.at_once(16, lambda n: s.update(made, name=f"n{n}")["name"])), {f"n{n}" for n in range(16)})
    assert s.show(made)["name"] in {f"n{n}" for n in range(16)}


@check("Of several updates of one revision, one succeeds", "lost updates; Unkey", "update", "etag")
def _(s):
    made = s.key()
    tag = s.send("get_key", id=made["id"]).header("etag")
    match = [("If-Match", tag)]
    answers = s.at_once(8, lambda n: s.send("update_key", headers=match, id=made["id"], body={"name": f"w{n}"}))
    equal(sorted(it.status for it in answers), [200] + [412] * 7)


@check("The revision moves with a change and not with a use", "lost updates", "update", "etag")
def _(s):
    made = s.key()
    tag = lambda: s.send("get_key", id=made["id"]).header("etag")
    first = tag()
    s.verify(made["key"])
    equal(tag(), first)
    s.update(made, name="other")
    assert tag() != first and tag().startswith('"'), tag()


@check("An answer to a change has the new revision", "a second change without a read", "update", "etag", "rotation")
def _(s):
    created = s.send("create_key", body={"name": "k", "scopes": [READ]})
    id, tag = created.json["id"], created.header("etag")
    for operation, body in (("update_key", {"name": "b"}), ("rotate_key", None), ("update_key", {"name": "c"})):
        answer = s.send(operation, headers=[("If-Match", tag)], id=id, body=body)
        equal(answer.status, 200, f"{operation} {answer}")
        tag = answer.header("etag")


@check("No operation changes another revision than the one of If-Match", "lost updates", "etag", "rotation")
def _(s):
    made = s.key()
    stale = [("If-Match", '"no-such-revision"')]
    for operation, body in (("update_key", {"name": "x"}), ("patch_key", {"name": "x"}), ("rotate_key", None),
                            ("complete_rotation", None), ("revoke_key", None)):
        s.refused(operation, "changed", "precondition_failed", headers=stale, id=made["id"], body=body)
    found = s.show(made)
    equal((found["name"], found["rotatedAt"], s.code(made["key"])), (made["name"], None, "VALID"))


@check("If-Match with * matches each revision, and a weak tag none", "RFC 9110, 13.1.1", "update", "etag")
def _(s):
    made = s.key()
    equal(s.update(made, headers=[("If-Match", "*")], name="b")["name"], "b")
    tag = s.send("get_key", id=made["id"]).header("etag")
    s.refused("update_key", "changed", headers=[("If-Match", f"W/{tag}")], id=made["id"], body={"name": "c"})


@check("A key that does not exist, or is revoked, cannot be changed", "Unkey, Better Auth", "update")
def _(s):
    gone = s.key()
    s.revoke(gone)
    for id in (gone["id"], ABSENT):
        s.refused("update_key", "not_found", "not_found", id=id, body={"name": "x"})


@check("Without a key, no key is changed or read", "Better Auth", "update")
def _(s):
    made = s.key(name="mine")
    s.refused("update_key", "unauthenticated", caller=None, id=made["id"], body={"name": "x"})
    s.refused("get_key", "unauthenticated", caller=None, id=made["id"])
    equal(s.show(made)["name"], "mine")


@check("A key can read what it is, without any scope of the key server", "Unkey", "self")
def _(s):
    made = s.key(name="who", metadata={"a": 1})
    found = s.ok("get_key", made["key"], id="self")
    equal((found["id"], found["name"], found["metadata"]), (made["id"], "who", {"a": 1}))
    assert "key" not in found


@check("A disabled key cannot even read what it is", "a key that is switched off", "self", "disable")
def _(s):
    s.refused("get_key", "unauthenticated", "key_disabled", caller=s.key(enabled=False)["key"], id="self")


@check("A key is also found by its prefix", "a prefix in a log", "prefix", "rotation")
def _(s):
    made = s.key()
    equal(s.ok("get_key", id=made["keyPrefix"])["id"], made["id"])
    rotated = s.rotate(made)
    equal([s.ok("get_key", id=it["keyPrefix"])["id"] for it in (made, rotated)], [made["id"]] * 2)


@check("An id that cannot be is not found, and is not repeated", "Unkey; log injection", "get", "reasons")
def _(s):
    for id in ("x", "key_", "key_!!", "key_ü", "a" * 500, "%00", "00000000-0000-0000-0000-000000000000"):
        answer = s.send("get_key", id=id)
        assert answer.status in (400, 404), answer
        assert len(id) < 2 or id not in answer.text, answer


@check("The full text of a key is no id, and is not repeated", "Kong looks keys up by their text", "get")
def _(s):
    text = s.key()["key"]
    answer = s.send("get_key", id=text)
    assert answer.status in (400, 404) and text not in answer.text, answer


@check("The status of a key says disabled, expiring or active", "a list that people read", "get", "disable", "expiry")
def _(s):
    equal(s.key(enabled=False)["status"], "disabled")
    equal(s.key(expiresAt=instant(6 * 86400))["status"], "expiring")
    equal(s.key(expiresAt=instant(8 * 86400))["status"], "active")
