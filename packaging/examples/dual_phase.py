#!/usr/bin/env python3
"""Rotates a key of keyward in the four steps of AWS Secrets Manager; Infisical's dual-phase rotation has the same.

    dual_phase.py STORE.json createSecret|setSecret|testSecret|finishSecret TOKEN

Each step can be repeated, and a rotation can stop after any step: the version AWSCURRENT always works. TOKEN names
the rotation and its new version. The key needs the scope api-keys:rotate. KEYWARD_URL is the address of keyward.
"""
import json, os, sys, urllib.request

SELF = os.environ.get("KEYWARD_URL", "http://127.0.0.1:8080").rstrip("/") + "/api/v1/api-keys/self"
GRACE = 86400  # Seconds that the old credential works: longer than a whole rotation, and than your clients cache it.


def ask(key, path="", body=None, **headers):
    headers |= {"X-API-Key": key, "Content-Type": "application/json"}
    request = urllib.request.Request(SELF + path, body and json.dumps(body).encode(), headers)
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with direct.open(request, timeout=10) as answer:
        return json.load(answer)


def create_secret(store, token):
    """Makes the new credential. The token as Idempotency-Key returns it again if the store did not get it."""
    if store.value(token) is None:
        # The version AWSPENDING of a rotation that never finished is newer than AWSCURRENT.
        newest = store.value(store.version("AWSPENDING")) or store.value(store.version("AWSCURRENT"))
        made = ask(newest, "/rotate", {"gracePeriodSeconds": GRACE}, **{"Idempotency-Key": token})
        store.put(token, made["key"])
    store.label(AWSPENDING=token)


def set_secret(store, token):
    """Has nothing to do: keyward accepts the new credential since createSecret, and the old one as well."""


def test_secret(store, token):
    """Uses the new credential."""
    pending = store.value(token)
    assert pending.startswith(ask(pending)["keyPrefix"])


def finish_secret(store, token):
    """Makes the new version the current one. Clients that cache the old one have until the end of its grace period."""
    if store.version("AWSCURRENT") != token:
        store.label(AWSCURRENT=token, AWSPREVIOUS=store.version("AWSCURRENT"))


class FileStore:
    """The part of a secrets manager that the steps need: versions, and labels that name one version each."""

    def __init__(self, path):
        self.path, self.data = path, json.load(open(path))

    def value(self, version):
        return self.data["versions"].get(version)

    def version(self, label):
        return self.data["labels"].get(label)

    def put(self, version, value):
        self.data["versions"][version] = value
        self.save()

    def label(self, **labels):
        self.data["labels"] |= labels
        self.save()

    def save(self):
        with open(os.open(self.path + ".new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            json.dump(self.data, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(self.path + ".new", self.path)


STEPS = {"createSecret": create_secret, "setSecret": set_secret, "testSecret": test_secret, "finishSecret": finish_secret}
if __name__ == "__main__":
    STEPS[sys.argv[2]](FileStore(sys.argv[1]), sys.argv[3])
