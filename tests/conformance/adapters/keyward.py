"""Starts keyward in a temporary directory, and says how each operation looks in its HTTP."""
import base64
import http.server
import json
import os
import queue
import shutil
import subprocess
import tempfile
import threading
from pathlib import Path
from urllib.parse import quote, urlencode

from suite.adapter import CAPABILITIES, Adapter
from suite.wire import Request, send

API = "/api/v1"
KEY, ACCOUNT = API + "/api-keys/{id}", API + "/accounts/{id}"
FORM = "application/x-www-form-urlencoded"
OPERATIONS = {
    "create_key": ("POST", API + "/api-keys"),
    "list_keys": ("GET", API + "/api-keys"),
    "get_key": ("GET", KEY),
    "update_key": ("PUT", KEY),
    "patch_key": ("PATCH", KEY),
    "revoke_key": ("DELETE", KEY),
    "rotate_key": ("POST", KEY + "/rotate"),
    "complete_rotation": ("POST", KEY + "/rotate/complete"),
    "key_usage": ("GET", KEY + "/usage"),
    "key_addresses": ("GET", KEY + "/addresses"),
    "verify": ("POST", API + "/api-keys/verify"),
    "list_scopes": ("GET", API + "/scopes"),
    "create_account": ("POST", API + "/accounts"),
    "list_accounts": ("GET", API + "/accounts"),
    "get_account": ("GET", ACCOUNT),
    "update_account": ("PUT", ACCOUNT),
    "patch_account": ("PATCH", ACCOUNT),
    "delete_account": ("DELETE", ACCOUNT),
    "account_usage": ("GET", ACCOUNT + "/usage"),
    "create_console_link": ("POST", ACCOUNT + "/console-links"),
    "list_events": ("GET", API + "/events"),
    "get_event": ("GET", API + "/events/{seq}"),
    "event_proof": ("GET", API + "/events/{seq}/proof"),
    "event_stream": ("GET", API + "/events/stream"),
    "list_checkpoints": ("GET", API + "/checkpoints"),
    "last_checkpoint": ("GET", API + "/checkpoints/last"),
    "checkpoint_key": ("GET", API + "/checkpoints/key"),
    "checkpoint_consistency": ("GET", API + "/checkpoints/consistency"),
    "report_leak": ("POST", API + "/leaked-keys"),
    "exchange": ("POST", API + "/token"),
    "token_keys": ("GET", "/.well-known/jwks.json"),
    "token_metadata": ("GET", "/.well-known/oauth-authorization-server"),
    "token_status": ("GET", "/token-status/1"),
    "live": ("GET", "/livez"),
    "ready": ("GET", "/readyz"),
    "metrics": ("GET", "/metrics"),
    "api_document": ("GET", "/openapi.json"),
}
IDENTITY = {"keyId": "key-id", "keyName": "key-name", "accountId": "account-id", "externalId": "external-id",
            "scopes": "scopes"}
ROUTES = """
[[route]]
path = "/health"
methods = ["GET", "HEAD"]
public = true

[[route]]
path = "/catalogue/**"
methods = ["GET", "HEAD"]
optional = true

[[route]]
path = "/orders/**"
methods = ["GET", "HEAD"]
scopes = ["orders:read"]

[[route]]
path = "/orders/**"
methods = ["POST", "PUT", "PATCH", "DELETE"]
scopes = ["orders:write"]

[[route]]
path = "/products/**"
methods = ["GET", "HEAD"]
scopes = ["products:read"]
"""
SETTINGS = """
listen = "127.0.0.1:0"
data_dir = "data"
public_url = "https://keys.example.com"
[authz]
policy_file = "routes.toml"
[tokens]
audiences = ["https://api.example.com", "https://other.example.com"]
[[webhooks]]
name = "conformance"
url = "http://127.0.0.1:{port}/hook"
events = ["api_key.created", "api_key.revoked"]
secret_file = "webhook.secret"
allow_private = true
"""


class Receiver(http.server.ThreadingHTTPServer):
    """Receives the webhook, and keeps what was delivered."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.deliveries = []
        threading.Thread(target=self.serve_forever, daemon=True).start()


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.deliveries.append(({name.lower(): it for name, it in self.headers.items()}, body))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_):
        pass


class Keyward(Adapter):
    name = "keyward"
    provides = frozenset(CAPABILITIES)
    statuses = Adapter.statuses | {"invalid": [422]}
    mounts = ("nginx", "forward", "envoy")

    def __init__(self, settings):
        super().__init__(settings)
        self.work = self.process = self.receiver = None

    def start(self):
        binary = os.path.realpath(self.settings["binary"] or "target/release/keyward")
        self.work = Path(tempfile.mkdtemp(prefix="keyward-conformance-"))
        self.receiver = Receiver()
        self.webhook_secret = os.urandom(32)
        files = {
            "keyward.toml": SETTINGS.replace("{port}", str(self.receiver.server_port)),
            "routes.toml": ROUTES,
            "webhook.secret": f"whsec_{base64.b64encode(self.webhook_secret).decode()}\n",
        }
        for name, text in files.items():
            (self.work / name).write_text(text)
            (self.work / name).chmod(0o600)
        # No setting of the surroundings reaches the server.
        environment = {name: it for name, it in os.environ.items() if not name.startswith("KEYWARD_")}
        self.command = lambda *words: ([binary, *words], {"cwd": self.work, "env": environment})
        command, options = self.command("serve", "--config", "keyward.toml")
        with open(self.work / "log", "wb") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log,
                                            text=True, **options)
        self.address = ("127.0.0.1", self.port())
        if send(self.address, self.request("ready")).status != 200:
            raise SystemExit(f"keyward is not ready: {self.log()}")
        self.root = (self.work / "data/initial-root-key").read_text().strip()

    def port(self):
        """Returns the port that the server prints when it listens."""
        lines = queue.Queue()

        def read():
            for line in self.process.stdout:
                lines.put(line)
            lines.put(None)

        threading.Thread(target=read, daemon=True).start()
        try:
            while (line := lines.get(timeout=60)) is not None:
                if "http://127.0.0.1:" in line:
                    return int(line.split("http://127.0.0.1:")[1].split()[0].rstrip("/.,"))
        except queue.Empty:
            pass
        raise SystemExit(f"keyward does not listen: {self.log()}")

    def log(self):
        return (self.work / "log").read_text()

    def stop(self):
        if self.process:
            self.process.terminate()
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        if self.receiver:
            self.receiver.shutdown()
            self.receiver.server_close()
        if self.work:
            shutil.rmtree(self.work)

    def present(self, key):
        return [("X-API-Key", key)]

    def request(self, operation, **parts):
        if operation == "ask":
            return question(**parts)
        method, path = OPERATIONS[operation]
        if parts.get("account") and operation in ("create_key", "list_keys"):
            path = API + f"/accounts/{quote(parts['account'], safe='')}/api-keys"
        path = path.format(id=quote(str(parts.get("id", "")), safe=""), seq=parts.get("seq"))
        if parts.get("query"):
            path += "?" + urlencode(parts["query"], doseq=True)
        if operation == "exchange":
            form = {"grant_type": "urn:ietf:params:oauth:grant-type:token-exchange"} | parts.get("form", {})
            return Request(method, path, (("Content-Type", FORM),), urlencode(form).encode())
        if parts.get("body") is None:
            return Request(method, path)
        return Request(method, path, (("Content-Type", "application/json"),), json.dumps(parts["body"]).encode())

    def result(self, operation, answer):
        if operation == "ask":
            return {name: answer.header(f"x-keyward-{header}") for name, header in IDENTITY.items()}
        return answer.json if answer.json is not None else answer.text

    def reason(self, answer):
        return answer.json["code"] if isinstance(answer.json, dict) else answer.header("x-keyward-reason")

    def faults(self, answer):
        return {(it["pointer"], it["code"]) for it in answer.json.get("errors", [])}

    def deliveries(self):
        return list(self.receiver.deliveries)

    def import_rows(self, rows):
        """Imports keys by their digests, as an operator does. Returns the lines that were refused."""
        command, options = self.command("import", "-", "--data-dir", "data", "-o", "json")
        text = "".join(json.dumps(it) + "\n" for it in rows)
        done = subprocess.run(command, input=text, text=True, capture_output=True, timeout=60, **options)
        if done.returncode not in (0, 3):
            raise AssertionError(f"keyward import: {done.returncode} {done.stderr}")
        report = json.loads(done.stdout)
        assert (done.returncode == 3) == bool(report["refusals"]), done.stdout
        return {it["line"] for it in report["refusals"]}


def question(mount=None, method="GET", uri="/orders/7", host="api.example.com", scopes=(), omit=None):
    """Returns the question of a proxy about a request to the protected API."""
    query = "?" + urlencode([("scope", it) for it in scopes]) if scopes else ""
    if mount == "envoy":
        return Request(method, f"/authz/envoy{uri}", (("Host", host),))
    headers = {
        None: {},
        "nginx": {"X-Original-Method": method, "X-Original-URI": uri, "Host": host},
        "forward": {"X-Forwarded-Method": method, "X-Forwarded-Uri": uri, "X-Forwarded-Host": host},
    }[mount]
    sent = tuple((name, it) for name, it in headers.items() if name.rsplit("-", 1)[-1].lower() != omit)
    return Request("GET", f"/authz/{mount}" + query if mount else "/authz" + query, sent)
