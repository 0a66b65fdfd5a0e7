"""Webhooks: events are delivered to a receiver, signed, complete and in order."""
import base64
import hashlib
import hmac
import json
import time

from suite.check import equal, eventually, theme

check = theme("Webhooks")
STANDARD = "Standard Webhooks"


def delivered(s, *subjects, count=1):
    """Returns the deliveries about these subjects, once each has so many."""

    def found():
        about = [(headers, body, json.loads(body)) for headers, body in s.adapter.deliveries()]
        about = [it for it in about if it[2]["data"]["subject"] in subjects]
        return about if len({it[0]["webhook-id"] for it in about}) >= count * len(subjects) else None

    return eventually(found, "the deliveries")


@check("An event is delivered to the receiver", STANDARD, "webhooks")
def _(s):
    made = s.key()
    _, _, message = delivered(s, made["id"])[0]
    equal((message["type"], message["data"]["subject"]), ("api_key.created", made["id"]))


@check("A delivery is signed with the shared secret", STANDARD, "webhooks")
def _(s):
    headers, body, _ = delivered(s, s.key()["id"])[0]
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    mac = hmac.new(s.adapter.webhook_secret, signed, hashlib.sha256).digest()
    assert f"v1,{base64.b64encode(mac).decode()}" in headers["webhook-signature"].split(), headers
    assert abs(int(headers["webhook-timestamp"]) - time.time()) < 120, headers


@check("A delivery holds the event as the log has it", STANDARD, "webhooks", "events")
def _(s):
    made = s.key()
    headers, body, message = delivered(s, made["id"])[0]
    equal(message["data"], s.ok("get_event", seq=message["data"]["seq"]))
    equal(message["timestamp"], message["data"]["time"])
    assert made["key"] not in body.decode()
    equal(headers["content-type"], "application/json")


@check("Deliveries are in the order of the log, without a gap", STANDARD, "webhooks", "revoke")
def _(s):
    made = [s.key() for _ in range(5)]
    for it in made:
        s.revoke(it)
    found = delivered(s, *(it["id"] for it in made), count=2)
    seqs = list(dict.fromkeys(it[2]["data"]["seq"] for it in found))
    equal((len(seqs), seqs), (10, sorted(seqs)))


@check("Events that the receiver did not subscribe to are not delivered", STANDARD, "webhooks", "update", "revoke")
def _(s):
    made = s.key()
    s.update(made, name="other")
    s.revoke(made)
    equal([it[2]["type"] for it in delivered(s, made["id"], count=2)], ["api_key.created", "api_key.revoked"])
