#!/usr/bin/env python3
"""A test against a real keyward, with the standard library alone. `keyward dev` has a key for every verdict.

    KEYWARD=target/release/keyward packaging/examples/test_with_keyward.py
"""
import json
import os
import subprocess
import unittest
import urllib.request

HOUR = 60 * 60
# No proxy from the environment: it cannot reach this server.
direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class KeysTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        keyward = os.environ.get("KEYWARD", "keyward")
        cls.server = subprocess.Popen(
            [keyward, "dev", "--listen", "127.0.0.1:0", "--now", "2027-01-01T00:00:00Z", "--log-level", "error"],
            stdout=subprocess.PIPE, text=True)
        # The last cleanup runs first. They also run if the rest of this function fails, unlike tearDownClass.
        cls.addClassCleanup(cls.server.communicate)
        cls.addClassCleanup(cls.server.terminate)
        cls.url = cls.server.stdout.readline().split(" · ")[1]  # keyward is ready when it prints this line.
        cls.keys = {it["name"]: it["key"] for it in cls.call("/dev/keys")["data"]}

    @classmethod
    def call(cls, path, body=None):
        headers = {"Content-Type": "application/json"}
        if body and "key" in body:
            headers["X-API-Key"] = cls.keys["gateway"]
        request = urllib.request.Request(cls.url + path, body and json.dumps(body).encode(), headers)
        with direct.open(request, timeout=10) as answer:
            return json.load(answer)

    def verdict(self, name):
        """Asks keyward directly. In your test, send a request with this key to your own API."""
        return self.call("/api/v1/api-keys/verify", {"key": self.keys[name], "scopes": ["orders:read"]})["code"]

    def test_a_suspended_customer_is_refused(self):
        self.assertEqual(self.verdict("valid"), "VALID")
        self.assertEqual(self.verdict("suspended"), "ACCOUNT_SUSPENDED")

    def test_a_key_ends_when_it_expires(self):
        self.assertEqual(self.verdict("expiring"), "VALID")
        self.call("/dev/clock", {"advanceSeconds": HOUR})
        self.assertEqual(self.verdict("expiring"), "EXPIRED")


if __name__ == "__main__":
    unittest.main()
