"""The audit log: each change is in it, once, with its author, and the log can be checked."""
import base64
import hashlib
import json
import subprocess
import tempfile
from pathlib import Path

from suite.check import equal, eventually, instant, theme, wait_until
from suite.session import READ
from suite.wire import read_lines

check = theme("Audit")
STORY = "who did what"


def sha256(*parts):
    return hashlib.sha256(b"".join(parts)).digest()


def signed_by(public, signature, text):
    """Returns whether this Ed25519 key signed the text."""
    with tempfile.TemporaryDirectory() as directory:
        files = {name: Path(directory) / name for name in ("key", "signature", "text")}
        files["key"].write_bytes(bytes.fromhex("302a300506032b6570032100") + public)
        files["signature"].write_bytes(signature)
        files["text"].write_bytes(text)
        command = ["openssl", "pkeyutl", "-verify", "-pubin", "-keyform", "DER", "-inkey", files["key"], "-rawin",
                   "-in", files["text"], "-sigfile", files["signature"]]
        return subprocess.run(command, capture_output=True).returncode == 0


def included(leaf, at, size, path, root):
    """Verifies an inclusion proof (RFC 6962, 2.1.1, as RFC 9162 words it)."""
    node, last, found = at, size - 1, leaf
    for it in path:
        if last == 0:
            return False
        if node % 2 or node == last:
            found = sha256(b"\1", it, found)
            while node % 2 == 0 and node:
                node, last = node // 2, last // 2
        else:
            found = sha256(b"\1", found, it)
        node, last = node // 2, last // 2
    return last == 0 and found == root


def types(s, subject, caller=None):
    return [it["type"] for it in s.events(caller or s.root, subject=subject)]


@check("Each change of a key has an event, in order", STORY, "events", "update", "rotation", "revoke")
def _(s):
    made = s.key()
    s.update(made, name="b")
    s.rotate(made, gracePeriodSeconds=600)
    s.ok("complete_rotation", id=made["id"])
    s.revoke(made)
    expected = ["created", "updated", "rotated", "grace_ended", "revoked"]
    equal(types(s, made["id"]), [f"api_key.{it}" for it in expected])


@check("Each change of an account has an event", "Unkey", "events", "suspend", "accounts")
def _(s):
    account = s.account()
    s.ok("update_account", id=account["id"], body={"status": "suspended"})
    s.ok("delete_account", id=account["id"])
    equal(types(s, account["id"]), ["account.created", "account.updated", "account.deleted"])
    equal(types(s, account["apiKey"]["id"]), ["api_key.created", "api_key.revoked"])


@check("A refused change has no event of a change", STORY, "events", "update")
def _(s):
    made = s.key()
    s.refused("update_key", "invalid", id=made["id"], body={"name": ""})
    s.refused("update_key", "forbidden", caller=s.key()["key"], id=made["id"], body={"name": "x"})
    equal(types(s, made["id"]), ["api_key.created"])


@check("An event names its author, the request and the time", STORY, "events", "update", "self")
def _(s):
    root = s.ok("get_key", id="self")
    made, request = s.key(), f"test-{s.unique()}"[:60]
    s.update(made, headers=[("X-Request-Id", request)], name="b")
    event = s.events(subject=made["id"], type="api_key.updated")[0]
    equal((event["actor"]["type"], event["actor"]["keyId"], event["actor"]["keyPrefix"], event["actor"]["accountId"]),
          ("key", root["id"], root["keyPrefix"], root["accountId"]))
    equal((event["requestId"], event["accountId"]), (request, made["accountId"]))
    equal(event["time"], s.show(made)["updatedAt"])


@check("An update's event has what was before and after, and no more", STORY, "events", "update")
def _(s):
    made = s.key(name="a")
    s.update(made, name="b")
    data = s.events(subject=made["id"], type="api_key.updated")[0]["data"]
    equal((data["before"], data["after"]), ({"name": "a"}, {"name": "b"}))


@check("The creator of a key is shown with the key", STORY, "get", "accounts", "privilege")
def _(s):
    creator = s.account()["apiKey"]
    equal(s.show(s.key(caller=creator["key"]), creator["key"])["createdBy"], creator["id"])


@check("No event holds a full key", "a log that many read", "events", "rotation", "accounts")
def _(s):
    account = s.account()
    made = s.key(account=account["id"])
    new = s.rotate(made)
    s.revoke(made)
    text = s.send("list_events", query={"account": account["id"], "limit": 100}).text
    assert made["id"] in text
    for secret in (made["key"], new["key"], account["apiKey"]["key"], made["key"][12:44], "pbkdf2"):
        assert secret not in text, secret


@check("Events have numbers without a gap, each with the hash of the one before", "a log that was cut", "events")
def _(s):
    s.key()
    first = s.events(limit=50)
    equal([it["seq"] for it in first], list(range(1, len(first) + 1)))
    for one, next_one in zip(first, first[1:]):
        equal(next_one["prevHash"], one["hash"])
    equal(s.ok("get_event", seq=2), first[1])


@check("Pages of events lose and repeat none, in both orders", "a reader that follows", "events", "update")
def _(s):
    made = s.key()
    for n in range(7):
        s.update(made, name=f"n{n}")
    found = {}
    for order in ("asc", "desc"):
        rows, cursor = [], None
        while (cursor or not rows) and len(rows) < 50:
            page = s.ok("list_events", query={"subject": made["id"], "limit": 3, "order": order,
                                              **({"cursor": cursor} if cursor else {})})
            rows, cursor = rows + page["data"], page["nextCursor"]
        found[order] = [it["seq"] for it in rows]
    equal((len(found["asc"]), sorted(set(found["asc"])), found["asc"]), (8, found["asc"], found["desc"][::-1]))


@check("Events are found by type, subject, actor, number and time", STORY, "events", "accounts", "update")
def _(s):
    account = s.account()
    actor = account["apiKey"]
    begin = s.key(caller=actor["key"])["createdAt"]
    wait_until(instant(0.01))
    made = s.key(caller=actor["key"])
    s.update(made, actor["key"], name="b")
    updated = s.events(actor=actor["id"], type="api_key.updated")
    equal([it["subject"] for it in updated], [made["id"]])
    equal([it["seq"] for it in s.events(actor=actor["id"], after=updated[0]["seq"] - 1)], [updated[0]["seq"]])
    equal(len(s.events(actor=actor["id"], since=begin, until=updated[0]["time"])), 2)
    equal({it["accountId"] for it in s.events(account=account["id"])}, {account["id"]})
    for wrong in ({"type": "no.such"}, {"after": "x"}, {"since": "soon"}, {"order": "up"}, {"seq": 1}):
        s.refused("list_events", "invalid", query=wrong)


@check("An account sees its own events only, without the operator's identity", "accounts are separate", "events",
       "accounts")
def _(s):
    mine, theirs = s.account(), s.account()
    s.key(account=mine["id"])
    events = s.events(mine["apiKey"]["key"])
    equal({it["accountId"] for it in events}, {mine["id"]})
    equal([(it["type"], it["actor"]["type"], it["actor"]["keyId"]) for it in events][:1],
          [("account.created", "operator", None)])
    hidden = s.events(subject=theirs["id"])[0]["seq"]
    answers = [s.refused("get_event", "not_found", caller=mine["apiKey"]["key"], seq=it) for it in (hidden, 10 ** 9)]
    equal(*[{**it.json, "requestId": None} for it in answers])


@check("An event cannot be changed or deleted", "a log that only grows", "events", "http")
def _(s):
    request = s.request("get_event", seq=1)
    for method in ("PUT", "PATCH", "DELETE", "POST"):
        answer = s.transmit(request.but(method=method))
        equal((answer.status, answer.header("allow")), (405, "GET, HEAD"), method)


@check("Changes at the same time are all in the log", "races", "events", "accounts")
def _(s):
    account = s.account()
    s.at_once(12, lambda n: s.key(caller=account["apiKey"]["key"]))
    events = s.events(account=account["id"])
    equal([it["type"] for it in events].count("api_key.created"), 13)
    equal([it["seq"] for it in events], sorted({it["seq"] for it in events}))


@check("Refused calls are in the log, together", "an attack", "events", "privilege")
def _(s):
    made = s.key()
    s.refused("list_keys", "forbidden", caller=made["key"])
    is_there = lambda: any(made["id"] in json.dumps(it) for it in s.events(type="auth.denied", order="desc", limit=50))
    eventually(is_there, "auth.denied", within=40)


@check("A stream sends each new event, and starts where the reader stopped", "a reader that follows", "stream",
       "events", "update")
def _(s):
    made = s.key()
    s.update(made, name="b")
    seqs = [it["seq"] for it in s.events(subject=made["id"])]
    request = s.request("event_stream", headers=[("Last-Event-ID", str(seqs[0] - 1))], query={"subject": made["id"]})
    lines = read_lines(s.adapter.address, request, lambda it: sum(line.startswith("data:") for line in it) == 2)
    found = [json.loads(it.removeprefix("data:")) for it in lines if it.startswith("data:")]
    if s.distort:
        found = []
    equal([it["seq"] for it in found], seqs)
    equal([it.removeprefix("event:").strip() for it in lines if it.startswith("event:")],
          ["api_key.created", "api_key.updated"])


@check("A stream needs the scope, and refuses a place that is none", "a reader that follows", "stream", "privilege")
def _(s):
    s.refused("event_stream", "forbidden", "missing_scope", caller=s.key()["key"])
    for wrong in ("x", "-1", str(10 ** 9)):
        s.refused("event_stream", "invalid", headers=[("Last-Event-ID", wrong)])


@check("A checkpoint is signed with the published Ed25519 key", "a log that was rewritten", "proofs")
def _(s):
    note, key = s.ok("last_checkpoint")["note"], s.ok("checkpoint_key")["publicKey"]
    text, _, signatures = note.partition("\n\n")
    name, _, encoded = key.strip().split("+", 2)
    dash, signer, signature = signatures.splitlines()[0].split(" ")
    equal((dash, signer), ("\u2014", name))
    public, signature = base64.b64decode(encoded)[1:], base64.b64decode(signature)[4:]
    assert signed_by(public, signature, f"{text}\n".encode()), note
    assert not signed_by(public, signature, f"{text}x\n".encode())


@check("A proof shows that an event is in the log of a checkpoint", "RFC 6962", "proofs", "events")
def _(s):
    size = s.ok("last_checkpoint")["size"]
    for seq in {1, (size + 1) // 2, size}:
        proof = s.ok("event_proof", seq=seq, query={"size": size})
        root, path = bytes.fromhex(proof["rootHash"]), [bytes.fromhex(it) for it in proof["path"]]
        # The leaf comes from the event itself, not from the proof.
        leaf = sha256(b"\0", bytes.fromhex(s.ok("get_event", seq=seq)["hash"]))
        assert included(leaf, seq - 1, size, path, root), proof
        assert not included(sha256(leaf), seq - 1, size, path, root)
    assert base64.b64encode(root).decode() in s.ok("last_checkpoint")["note"] or size < s.ok("last_checkpoint")["size"]
