"""A toy: a key server in memory. It shows what an adapter needs at least. With `--set fault=NAME` it has a fault."""
import hashlib
import http.server
import json
import secrets
import threading

from suite.adapter import Adapter
from suite.wire import Request

#: Faults that the toy can have. The suite's own test knows which checks must find each.
FAULTS = ("revoked_keys_stay_valid", "any_key_is_valid", "the_secret_part_is_ignored", "keys_repeat",
          "callers_need_no_key", "the_key_is_shown_again", "all_scopes_are_granted")


class Store:
    """The keys, by the digest of their text."""

    def __init__(self, fault):
        self.fault, self.lock, self.keys = fault, threading.Lock(), {}
        self.root = self.add({"name": "root", "scopes": ["*"]})["key"]

    def digest(self, text):
        part = text[:10] if self.fault == "the_secret_part_is_ignored" else text
        return hashlib.sha256(part.encode()).hexdigest()

    def add(self, body):
        random = "0" * 40 if self.fault == "keys_repeat" and self.keys else secrets.token_hex(20)
        key = {"id": secrets.token_hex(8), "name": body["name"], "scopes": body["scopes"], "revoked": False}
        with self.lock:
            self.keys[self.digest(f"toy_{random}")] = key
        return {**key, "key": f"toy_{random}"}

    def find(self, text):
        return self.keys.get(self.digest(text or ""))

    def revoke(self, id):
        found = next((it for it in self.keys.values() if it["id"] == id and not it["revoked"]), None)
        if found:
            found["revoked"] = self.fault != "revoked_keys_stay_valid"
        return found

    def verdict(self, question):
        found = self.find(question["key"])
        if self.fault == "any_key_is_valid":
            found = next(iter(self.keys.values()))
        if found is None:
            return {"valid": False, "code": "NOT_FOUND", "keyId": None}
        missing = [it for it in question.get("scopes", []) if it not in found["scopes"]]
        code = "REVOKED" if found["revoked"] else "INSUFFICIENT_SCOPES" if missing else "VALID"
        if self.fault == "all_scopes_are_granted" and missing:
            code = "VALID"
        return {"valid": code == "VALID", "code": code, "keyId": found["id"], "scopes": found["scopes"]}


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self):
        store, length = self.server.store, int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length)
        text = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
        caller = store.find(text)
        if store.fault != "callers_need_no_key" and (caller is None or caller["revoked"]):
            return 401, {"error": "the caller has no good key"}
        if store.fault != "callers_need_no_key" and "*" not in caller["scopes"]:
            return 403, {"error": "only the root key may do this"}
        if self.command == "DELETE":
            return (204, None) if store.revoke(self.path.removeprefix("/keys/")) else (404, {"error": "no such key"})
        if self.command == "GET":
            found = next((it for it in store.keys.values() if self.path == f"/keys/{it['id']}"), None)
            extra = {"key": "toy_shown"} if store.fault == "the_key_is_shown_again" else {}
            return (200, found | extra) if found and not found["revoked"] else (404, {"error": "no such key"})
        try:
            body = json.loads(body)
        except ValueError:
            return 400, {"error": "not JSON"}
        if self.path == "/verify":
            good = isinstance(body.get("key"), str) and body["key"]
            return (200, store.verdict(body)) if good else (422, {"error": "no key"})
        name, scopes = body.get("name"), body.get("scopes")
        good = isinstance(name, str) and 0 < len(name) <= 100 and isinstance(scopes, list) and scopes
        return (201, store.add(body)) if good else (422, {"error": "name or scopes are wrong"})

    def respond(self):
        status, body = self.answer()
        text = b"" if body is None else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        if status != 204:
            self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    do_GET = do_POST = do_DELETE = respond

    def log_message(self, *_):
        pass


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128


class Toy(Adapter):
    name = "toy"
    provides = frozenset(["create", "verify", "revoke", "get", "scopes"])

    def start(self):
        fault = self.settings.get("fault")
        assert fault is None or fault in FAULTS, f"the toy has no fault {fault}"
        self.server = Server(("127.0.0.1", 0), Handler)
        self.server.store = Store(fault)
        self.address, self.root = self.server.server_address, self.server.store.root
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def stop(self):
        self.server.shutdown()
        self.server.server_close()

    def request(self, operation, id=None, body=None, **_):
        method, path = {
            "create_key": ("POST", "/keys"),
            "get_key": ("GET", f"/keys/{id}"),
            "revoke_key": ("DELETE", f"/keys/{id}"),
            "verify": ("POST", "/verify"),
        }[operation]
        return Request(method, path, (), None if body is None else json.dumps(body).encode())
