#!/usr/bin/env python3
"""Runs the middlewares of docs/integrate.md with their frameworks, in front of a real keyward.

    tests/examples.py target/release/keyward [NAME...]

Each block of commands in the page is run as it stands, in a directory of its own. Every middleware must give the
same answers to the same requests. Needs the programs that the blocks name; uses ports that the system chooses.
"""
import http.client
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import zlib

sys.dont_write_bytecode = True
from example_addresses import end, try_unknown_addresses  # noqa: E402

ROOT = pathlib.Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs/integrate.md").read_text()
EXAMPLES = {
    "Express": "express.mjs",
    "FastAPI": "fastapi_keyward.py",
    "Django": "django_keyward.py",
    "Go": "nethttp.go",
    "axum": "axum/src/keyward.rs",
    "PHP": "middleware.php",
}
# PHP forgets the handle, and so its connection, at the end of each request.
WITHOUT_KEEP_ALIVE = {"PHP"}
PROGRAMS = {".mjs", ".py", ".go", ".rs", ".php", ".sh"}
LINES = 60
# SIGTERM also ends the programs that a test has started.
signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
PATIENCE = 3.0  # Seconds: the time-out of 2, and some for the rest.


def blocks(heading, page=PAGE):
    """Returns the blocks of commands below a heading, up to the next heading."""
    section = re.search(rf"^##+ {re.escape(heading)}$(.*?)(?=^##|\Z)", page, re.M | re.S)
    return re.findall(r"^```sh\n(.*?)^```$", section[1], re.M | re.S)


def check_sources(names):
    """Every block of the page belongs to a test, and every middleware is short and formatted."""
    known = ["Set up", *EXAMPLES, "Test against a real keyward", "Rotate your own key", "Rotation by a secrets manager"]
    run = sum(len(blocks(it)) for it in known)
    assert PAGE.count("\n```sh\n") == run, "docs/integrate.md has a block that no test runs"
    long = {it: n for it in names if (n := lines_of_code(ROOT / "packaging/examples" / EXAMPLES[it])) > LINES}
    assert not long, f"more than {LINES} lines: {long}"
    assert f"at most {LINES} lines" in PAGE, "docs/integrate.md promises another number of lines"
    # Each of these is tried with a slash at the end of KEYWARD_URL: here, in example_rotations.py and in tokens.py.
    tried = {*EXAMPLES.values(), "rotate-own-key.sh", "dual_phase.py", "token_gateway.py", "verify_token.mjs"}
    sources = (it for it in (ROOT / "packaging/examples").rglob("*.*") if "target" not in it.parts)
    asking = {it for it in sources if it.suffix in PROGRAMS and "KEYWARD_URL" in it.read_text()}
    asking = {str(it.relative_to(ROOT / "packaging/examples")) for it in asking}
    assert asking == tried, f"examples that no test gives a KEYWARD_URL with a slash: {asking ^ tried}"
    formatters = {"Go": ["gofmt", "-l", "nethttp.go", "nethttp_sample.go"],
                  "axum": ["cargo", "fmt", "--check", "--manifest-path", "axum/Cargo.toml"]}
    for command in [command for name, command in formatters.items() if name in names]:
        done = subprocess.run(command, cwd=ROOT / "packaging/examples", stdout=subprocess.PIPE, text=True)
        assert done.returncode == 0 and not done.stdout, f"{command[0]}: {done.stdout}"


def lines_of_code(path):
    """Counts the lines of a middleware by the rule of docs/integrate.md: without blank lines, comments and imports.

    A line that holds only brackets counts. A sample below a mark is not a part of the middleware.
    """
    text = path.read_text().partition("---- End of the middleware.")[0]
    text = re.sub(r"^import \($.*?^\)$", "", text, flags=re.M | re.S)
    skipped = r"\s*(//|#(?!\[)|/\*\*|<\?php$|import |from \S+ import |use |$)"
    return sum(not re.match(skipped, line) for line in text.splitlines())


class Server:
    """keyward itself, on a port that stays the same."""

    def __init__(self, binary, work):
        self.binary, self.work = binary, work
        self.data = work / "data"
        self.reserved = Port()
        self.port = self.reserved.number
        self.environment = {name: it for name, it in os.environ.items()
                            if not name.startswith("KEYWARD_") and name != "PYTHONPATH"}
        self.environment |= {
            "KEYWARD_DATA_DIR": str(self.data),
            "PATH": f"{pathlib.Path(binary).parent}:{os.environ['PATH']}",
        }
        self.root = self.process = None

    def start(self):
        command = [self.binary, "serve", "--listen", f"127.0.0.1:{self.port}"]
        with open(self.work / "keyward.log", "ab") as log:
            self.process = subprocess.Popen(
                command, env=self.environment, cwd=self.work, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        for _ in range(600):
            if self.ready():
                break
            assert self.process.poll() is None, (self.work / "keyward.log").read_text()
            time.sleep(0.1)
        self.root = self.root or (self.data / "initial-root-key").read_text().strip()

    def ready(self):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request("GET", "/readyz")
            return connection.getresponse().status == 200
        except OSError:
            return False
        finally:
            connection.close()

    def stop(self):
        self.process.terminate()
        assert self.process.wait(60) == 0

    def end(self):
        """Ends the server after a failed test, too."""
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def call(self, method, path, body=None):
        """Sends a request as the operator, and returns the answer's body."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        headers = {"X-API-Key": self.root, "Content-Type": "application/json"}
        connection.request(method, "/api/v1" + path, body and json.dumps(body), headers)
        answer = connection.getresponse()
        text = answer.read()
        connection.close()
        assert answer.status < 300, f"{method} {path}: {answer.status} {text}"
        return json.loads(text) if text else None

    def key(self, scopes=("orders:read",), account=None, **settings):
        body = {"name": "A client", "scopes": list(scopes), **settings}
        return self.call("POST", f"/accounts/{account}/api-keys" if account else "/api-keys", body)


class Wire:
    """Stands between a middleware and keyward. It passes questions on, or misbehaves as `mode` says."""

    CANNED = {
        "a 500": (500, b'{"code":"internal_error"}'),
        "a 401 for the own key": (401, b'{"code":"invalid_key"}'),
        "a 422": (422, b'{"code":"invalid_request"}'),
        "no JSON": (200, b"ECHO"),
        "half a JSON": (200, b'{"valid":true,"code":"VALID","keyId":"ECHO'),
        "null": (200, b"null"),
        "a list": (200, b'[{"valid":true,"code":"VALID"}]'),
        "an unknown code": (200, b'{"valid":false,"code":"ECHO"}'),
        "an unknown code that is valid": (200, b'{"valid":true,"code":"FINE"}'),
        "VALID, but not valid": (200, b'{"valid":false,"code":"VALID"}'),
        "VALID, but valid is a text": (200, b'{"valid":"true","code":"VALID"}'),
        "a code that is no text": (200, b'{"valid":true,"code":["VALID"]}'),
        "a redirection": (307, b""),
        "a 200 without a body": (200, b""),
        "an empty object": (200, b"{}"),
    }

    def __init__(self, upstream):
        self.upstream = upstream
        self.mode = "pass"
        self.connections = self.requests = self.strays = 0
        self.lock = threading.Lock()
        self.open = set()
        self.released = threading.Event()
        self.reserved = Port()
        self.port = self.reserved.number
        self.listener = None
        self.trap = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=self.accept_strays, daemon=True).start()
        self.listen()

    def listen(self):
        self.listener = socket.create_server(("127.0.0.1", self.port), backlog=128)
        threading.Thread(target=self.accept, args=(self.listener,), daemon=True).start()

    def set(self, mode):
        """Changes the behaviour from the next question on."""
        if self.mode == "refused" and mode != "refused":
            self.listen()
        if mode == "refused":
            self.listener.shutdown(socket.SHUT_RDWR)
            self.listener.close()
            self.close_all()
        self.released.set()
        self.released = threading.Event()
        self.mode, self.connections, self.requests = mode, 0, 0

    def close_all(self):
        with self.lock:
            connections, self.open = self.open, set()
        for it in connections:
            try:
                it.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def accept_strays(self):
        while True:
            connection, _ = self.trap.accept()
            self.strays += 1
            connection.close()

    def accept(self, listener):
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            self.connections += 1
            with self.lock:
                self.open.add(connection)
            threading.Thread(target=self.serve, args=(connection,), daemon=True).start()

    def serve(self, connection):
        upstream, answered = None, 0
        try:
            with connection, connection.makefile("rb") as reader:
                while (request := read_message(reader)) is not None:
                    self.requests += 1
                    mode = self.mode
                    if mode == "drop a kept connection" and answered:
                        self.mode = "pass"
                        return
                    if mode == "drop every connection":
                        return
                    if mode == "hang":
                        self.released.wait(30)
                        return
                    if mode == "drip":
                        self.drip(connection)
                        return
                    if mode in self.CANNED:
                        connection.sendall(self.canned(mode, request))
                    else:
                        upstream = upstream or socket.create_connection(("127.0.0.1", self.upstream), timeout=30)
                        upstream.sendall(request)
                        with upstream.makefile("rb", buffering=0) as answers:
                            answer = read_message(answers)
                        if answer is None or mode == "lose the answer":
                            return
                        connection.sendall(answer)
                    answered += 1
        except OSError:
            pass
        finally:
            if upstream:
                upstream.close()
            with self.lock:
                self.open.discard(connection)

    def drip(self, connection):
        """Sends an answer in parts, so slowly that no time-out of a single read ends it."""
        for byte in b"HTTP/1.1 200 OK\r\nX-Slow: " + b"x" * 40:
            connection.sendall(bytes([byte]))
            if self.released.wait(0.25):
                return

    def canned(self, mode, request):
        status, body = self.CANNED[mode]
        # An answer that repeats the question holds the key; no log may contain it.
        question = json.loads(request.partition(b"\r\n\r\n")[2])
        body = body.replace(b"ECHO", question.get("key", "").encode())
        head = f"HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        if status == 307:
            head += f"Location: http://127.0.0.1:{self.trap.getsockname()[1]}/\r\n"
        return head.encode() + b"\r\n" + body


def read_message(reader):
    """Returns the next HTTP message with its body, or None at the end of the connection."""
    message = b""
    while not message.endswith(b"\r\n\r\n"):
        line = reader.readline()
        if not line:
            return None
        message += line
    length = re.search(rb"(?i)^content-length: *(\d+)", message, re.M)
    left = int(length[1]) if length else 0
    while left and (part := reader.read(left)):
        message, left = message + part, left - len(part)
    return message


class Port:
    """A port that the system gives to no other program while this object exists.

    A socket is bound to it and does not listen. A program that sets SO_REUSEADDR, as servers do, can listen on it.
    """

    def __init__(self):
        self.socket = socket.socket()
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(("127.0.0.1", 0))
        self.number = self.socket.getsockname()[1]


def wait_for_port(port, process, seconds=60):
    for _ in range(seconds * 20):
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return
        except OSError:
            assert process.poll() is None, f"the program ended with {process.returncode}"
            time.sleep(0.05)
    raise AssertionError(f"no program listens on port {port} after {seconds} seconds")


class Answer:
    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body
        self.json = json.loads(body) if body[:1] == b"{" else {}


class Example:
    """A framework that runs its sample in a directory of its own."""

    def __init__(self, name, server, work):
        self.name, self.server, self.work = name, server, work / name
        self.wire = Wire(server.port)
        self.reserved = Port()
        self.port = self.reserved.number
        self.failures = []
        self.secrets = []
        self.cases = 0
        self.process = None
        self.log = self.work / "log"

    def start(self):
        # The copies are new, so that cargo builds them, and does not take what an earlier run built from other files.
        shutil.copytree(ROOT / "packaging", self.work / "packaging", ignore=shutil.ignore_patterns("target"),
                        copy_function=shutil.copy)
        *install, run = blocks(self.name)
        set_up, _ = blocks("Set up")
        environment = {
            **self.server.environment,
            "CARGO_TARGET_DIR": str(pathlib.Path(self.server.binary).parent.parent / "examples"),
            "PHP_CLI_SERVER_WORKERS": "4",
            "PORT": str(self.port),
        }
        begin = time.monotonic()
        self.run_block(environment, "\n".join([set_up, *install]), "install.log")
        mode = (self.work / "keyward.key").stat().st_mode & 0o777
        assert mode == 0o600, f"the own key has mode {mode:o}"
        if self.name == "axum":
            self.run_block(environment, run.replace("cargo run", "cargo build"), "build.log")
        self.installed = time.monotonic() - begin
        environment["KEYWARD_URL"] = f"http://127.0.0.1:{self.wire.port}"
        environment["KEYWARD_KEY_FILE"] = str(self.work / "keyward.key")
        # A middleware must not send keys to a proxy that is meant for other programs.
        self.no_proxy = Port()
        dead = f"http://127.0.0.1:{self.no_proxy.number}"
        environment |= {name: dead for name in ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"]}
        environment = {name: it for name, it in environment.items() if name.lower() != "no_proxy"}
        self.environment, self.command = environment, run
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                ["bash", "-euc", run], cwd=self.work, env=environment, stdout=log, stderr=log,
                stdin=subprocess.DEVNULL, start_new_session=True)
        wait_for_port(self.port, self.process)
        self.own = (self.work / "keyward.key").read_text().strip()
        self.secrets.append(self.own)

    def run_block(self, environment, block, log):
        done = subprocess.run(["bash", "-euc", block], cwd=self.work, env=environment, stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=900)
        (self.work / log).write_bytes(done.stdout)
        assert done.returncode == 0, f"{block}\n{done.stdout.decode(errors='replace')}"

    def stop(self):
        if self.process:
            end(self.process)

    def try_it(self):
        """Runs the block that tries a sample. It names port 3000, which curl here takes for the sample's own."""
        _, block = blocks("Set up")
        (self.work / ".curlrc").write_text(f"connect-to = localhost:3000:127.0.0.1:{self.port}\nnoproxy = *\n")
        environment = {**self.server.environment, "CURL_HOME": str(self.work)}
        done = subprocess.run(["bash", "-euc", block], cwd=self.work, env=environment, stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, timeout=60)
        promised = re.findall(r"^curl .*# (\d+)$", block, re.M)
        self.same("the answers to the page's requests", re.findall(r"HTTP/1.1 (\d+)", done.stdout), promised)

    def handle_in_a_worker(self, own):
        """PHP that goes on after a request keeps its connection, and cURL opens another if that was closed."""
        server = {"REQUEST_METHOD": "GET", "REQUEST_URI": "/whoami", "REMOTE_ADDR": "127.0.0.1", "HTTP_X_API_KEY": own}
        program = ("$_SERVER = json_decode(getenv('SERVER'), true) + $_SERVER;"
                   "require 'packaging/examples/middleware_sample.php'; keyward('orders:read'); echo keyward()['code'];")
        environment = {**self.environment, "SERVER": json.dumps(server)}
        for mode, connections, questions in [("pass", 1, 3), ("drop a kept connection", 2, 4)]:
            self.wire.set(mode)
            said = subprocess.run(["php", "-r", program], cwd=self.work, env=environment, stdout=subprocess.PIPE,
                                  text=True, timeout=60).stdout
            self.true(f"three questions of one PHP: {said}", said.endswith("VALID"))
            self.same("their connections", (self.wire.connections, self.wire.requests), (connections, questions))

    def send(self, *headers, method="GET", path="/orders", to=None):
        connection = to or http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        connection.putrequest(method, path)
        for name, value in headers:
            connection.putheader(name, value)
        connection.putheader("Content-Length", "0")
        connection.endheaders()
        answer = connection.getresponse()
        found = Answer(answer.status, answer.headers, answer.read())
        connection.close()
        return found

    def log_text(self):
        return self.log.read_text(errors="replace")

    def complaints(self):
        return self.log_text().count("keyward cannot verify")

    def expect(self, case, answer, status, code=None):
        """Checks an answer against the table of docs/integrate.md."""
        self.cases += 1
        wrong = []
        statuses = status if isinstance(status, tuple) else (status,)
        if answer.status not in statuses:
            wrong.append(f"status {answer.status}")
        if answer.status >= 400:
            title = http.client.responses.get(answer.status)
            if answer.headers["Content-Type"] != "application/problem+json":
                wrong.append(f"Content-Type {answer.headers['Content-Type']}")
            if (answer.json.get("type"), answer.json.get("title")) != ("about:blank", title):
                wrong.append("type or title")
            if answer.json.get("status") != answer.status:
                wrong.append("the status in the body")
            if code and answer.json.get("code") != code:
                wrong.append(f"code {answer.json.get('code')}")
        challenge = answer.headers["WWW-Authenticate"] or ""
        if (answer.status == 401) != challenge.startswith("ApiKey "):
            wrong.append(f"WWW-Authenticate {challenge}")
        wait = answer.headers["Retry-After"]
        if answer.status == 503 and wait != "5" or answer.status == 429 and not 1 <= int(wait) <= 30 * 86400:
            wrong.append(f"Retry-After {wait}")
        if wrong:
            self.failures.append(f"{case}: expected {status} {code or ''}, got {', '.join(wrong)}")
        return answer

    def same(self, case, found, expected):
        self.cases += 1
        if found != expected:
            self.failures.append(f"{case}: expected {expected!r}, got {found!r}")

    def true(self, case, fine):
        self.same(case, bool(fine), True)

    def new_key(self, *args, **settings):
        made = self.server.key(*args, **settings)
        self.secrets.append(made["key"])
        return made

    def verdicts(self, shared):
        self.try_it()
        good = self.new_key(account=shared["account"]["id"])
        own = ("X-API-Key", good["key"])
        bearer = ("Authorization", f"Bearer {good['key']}")
        answer = self.expect("a good key", self.send(own), 200)
        self.same("the identity", answer.json, {
            "account": shared["account"]["id"], "key": good["id"], "scopes": ["orders:read"]})
        self.expect("a bearer token", self.send(bearer), 200)
        self.expect("a bearer token in small letters", self.send(("authorization", f"bearer  {good['key']}")), 200)
        self.expect("the same key twice", self.send(own, bearer), 200)
        self.expect("a key and another scheme", self.send(own, ("Authorization", "Basic eDp5")), 200)
        self.expect("no scope needed", self.send(own, path="/whoami"), 200)
        self.expect("no key", self.send(), 401, "MISSING_KEY")
        self.expect("another scheme alone", self.send(("Authorization", "Basic eDp5")), 401, "MISSING_KEY")
        self.expect("Bearer without a token", self.send(("Authorization", "Bearer")), 401, "MISSING_KEY")
        self.expect("an empty key", self.send(("X-API-Key", "")), 401)
        self.expect("an empty key beside a token", self.send(("X-API-Key", ""), bearer), (400, 401))
        self.expect("no key at all", self.send(("X-API-Key", "hello")), 401, "MALFORMED")
        self.expect("a long key", self.send(("X-API-Key", "x" * 4000)), 401, "MALFORMED")
        self.expect("bytes that are no text", self.send(("X-API-Key", b"rg_\xff\xfe")), 401, "MALFORMED")
        self.expect("a key in quotes", self.send(("X-API-Key", f'"{good["key"]}"')), 401, "MALFORMED")
        self.expect("two different keys", self.send(own, ("Authorization", f"Bearer {shared['unknown']}")), 400,
                    "CONFLICTING_KEYS")
        self.expect("two headers with different keys", self.send(own, ("X-API-Key", shared["unknown"])), (400, 401))
        self.expect("two headers, the other way round", self.send(("X-API-Key", shared["unknown"]), own), (400, 401))
        self.expect("two headers, and the first as a token", self.send(own, ("X-API-Key", shared["unknown"]), bearer),
                    (400, 401))
        for code, key in shared["refused"].items():
            self.expect(code, self.send(("X-API-Key", key)), 401, code)
        answer = self.expect("a missing scope", self.send(own, method="POST"), 403, "INSUFFICIENT_SCOPES")
        self.same("the missing scopes", answer.json.get("missingScopes"), ["orders:write"])
        elsewhere = self.new_key(allowedIps=["203.0.113.0/24"])
        self.expect("another address", self.send(("X-API-Key", elsewhere["key"])), 403, "IP_NOT_ALLOWED")
        forged = ("X-Forwarded-For", "203.0.113.7")
        self.expect("an address that the client claims", self.send(("X-API-Key", elsewhere["key"]), forged), 403)
        here = self.new_key(allowedIps=["127.0.0.0/8"])
        self.expect("this address", self.send(("X-API-Key", here["key"])), 200)
        limited = self.new_key(rateLimit={"limit": 1, "windowSeconds": 30 * 86400})
        self.expect("the first request of one", self.send(("X-API-Key", limited["key"])), 200)
        self.expect("the second", self.send(("X-API-Key", limited["key"])), 429, "RATE_LIMITED")
        revoked = self.new_key()
        self.expect("before the revocation", self.send(("X-API-Key", revoked["key"])), 200)
        self.server.call("DELETE", f"/api-keys/{revoked['id']}")
        self.expect("after the revocation", self.send(("X-API-Key", revoked["key"])), 401, "REVOKED")
        self.same("nothing of this is a failure of keyward", self.complaints(), 0)
        return own

    def failures_of_keyward(self, own):
        for mode in [*Wire.CANNED, "refused", "hang", "drip", "drop every connection"]:
            self.wire.set(mode)
            before, begin = self.complaints(), time.monotonic()
            self.expect(mode, self.send(own), 503, "UNAVAILABLE")
            took = time.monotonic() - begin
            self.true(f"{mode}: answered after {took:.1f} s", took < PATIENCE)
            self.same(f"{mode}: lines in the log", self.complaints() - before, 1)
            self.true(f"{mode}: {self.wire.requests} questions", self.wire.requests <= 2)
            self.wire.set("pass")
            self.expect(f"{mode} is over", self.send(own), 200)
        self.same("a redirection is not followed", self.wire.strays, 0)

    def connections(self, own):
        self.wire.close_all()
        self.wire.set("pass")
        for _ in range(20):
            self.expect("one of twenty", self.send(own), 200)
        expected = 20 if self.name in WITHOUT_KEEP_ALIVE else 1
        self.same("connections for twenty requests", self.wire.connections, expected)
        if self.name not in WITHOUT_KEEP_ALIVE:
            self.wire.set("drop a kept connection")
            self.expect("a kept connection is closed under the question", self.send(own), 200)
            self.same("questions then", self.wire.requests, 2)
        else:
            self.handle_in_a_worker(own[1])
        self.wire.close_all()
        self.expect("keyward closed all connections", self.send(own), 200)

    def at_once(self, shared):
        """Many requests at once: each gets the identity of its own key."""
        keys = [self.new_key(account=shared["account"]["id"]) for _ in range(4)]
        wrong = []

        def repeat(key):
            for _ in range(15):
                answer = self.send(("X-API-Key", key["key"]))
                if answer.json.get("key") != key["id"]:
                    wrong.append(answer.body)

        threads = [threading.Thread(target=repeat, args=(it,)) for it in keys * 2]
        for it in threads:
            it.start()
        for it in threads:
            it.join()
        self.same("answers for another key", wrong, [])

    def own_key(self, own):
        """The own key is revoked, and then replaced in its file."""
        gateway = self.server.key(scopes=["api-keys:verify"])
        self.secrets.append(gateway["key"])
        file = self.work / "keyward.key"
        file.write_text(gateway["key"] + "\n")
        self.expect("a new own key, without a restart", self.send(own), 200)
        self.server.call("DELETE", f"/api-keys/{gateway['id']}")
        self.expect("the own key is revoked", self.send(own), 503, "UNAVAILABLE")
        file.unlink()
        self.expect("the own key is missing", self.send(own), 503, "UNAVAILABLE")
        file.write_text(self.own)
        self.expect("the own key is back", self.send(own), 200)

    def logs(self):
        """Not even a part of a key is in the log, which messages of JSON parsers show."""
        text = self.log_text()
        self.true("the log holds no key", not any(it[:9] in text for it in self.secrets))


def prepare(server):
    """Makes the keys that all examples use. None of them is accepted."""
    account = server.call("POST", "/accounts", {"name": "Acme", "allowedScopes": ["orders:read", "orders:write"]})
    suspended = server.call("POST", "/accounts", {"name": "Gone", "allowedScopes": ["orders:read"]})
    expired = server.key(expiresIn=1)
    disabled, revoked, rotated = server.key(), server.key(), server.key()
    server.call("PUT", f"/api-keys/{disabled['id']}", {"enabled": False})
    server.call("DELETE", f"/api-keys/{revoked['id']}")
    server.call("POST", f"/api-keys/{rotated['id']}/rotate", {"gracePeriodSeconds": 0})
    server.call("PUT", f"/accounts/{suspended['id']}", {"status": "suspended"})
    forged = forge(server.key()["key"])
    deadline = time.monotonic() + 30
    while server.call("POST", "/api-keys/verify", {"key": expired["key"]})["code"] != "EXPIRED":
        assert time.monotonic() < deadline
        time.sleep(0.1)
    refused = {"EXPIRED": expired["key"], "DISABLED": disabled["key"], "REVOKED": revoked["key"],
               "ROTATED": rotated["key"], "NOT_FOUND": forged, "ACCOUNT_SUSPENDED": suspended["apiKey"]["key"]}
    return {"account": account, "unknown": forged, "refused": refused}


def forge(key):
    """Returns a key with the same prefix, another secret and a correct checksum."""
    digits = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
    body = key[:12] + "0" * 32
    number, checksum = zlib.crc32(body.encode()), ""
    for _ in range(6):
        number, checksum = number // 62, digits[number % 62] + checksum
    return body + checksum


def in_parallel(action, examples):
    """Runs an action for each example. An exception is a failure of that example."""
    def guarded(example):
        try:
            action(example)
        except Exception as error:
            example.failures.append(f"{type(error).__name__}: {error}")
    threads = [threading.Thread(target=guarded, args=(it,), daemon=True) for it in examples]
    for it in threads:
        it.start()
    for it in threads:
        it.join()


def main():
    binary = os.path.realpath(sys.argv[1])
    names = sys.argv[2:] or list(EXAMPLES)
    check_sources(names)
    with tempfile.TemporaryDirectory(prefix="keyward-examples-") as directory:
        work = pathlib.Path(directory)
        server = Server(binary, work)
        examples = [Example(it, server, work) for it in names]
        try:
            server.start()
            shared = prepare(server)
            for it in examples:
                it.work.mkdir()
                it.secrets += [server.root, shared["unknown"], *shared["refused"].values()]
            in_parallel(Example.start, examples)

            def life(example):
                if example.process is None:
                    return
                own = example.verdicts(shared)
                example.failures_of_keyward(own)
                example.connections(own)
                example.at_once(shared)
                example.own_key(own)
                try_unknown_addresses(example)
                example.good = own

            in_parallel(life, examples)
            running = [it for it in examples if hasattr(it, "good")]
            server.stop()
            for it in running:
                it.wire.close_all()  # As keyward has closed its ends of them.
            in_parallel(lambda it: it.expect("keyward is stopped", it.send(it.good), 503, "UNAVAILABLE"), running)
            server.start()
            in_parallel(lambda it: it.expect("keyward is back", it.send(it.good), 200), running)
            in_parallel(Example.logs, running)
        finally:
            for it in examples:
                it.stop()
            server.end()
        failed = [it for it in examples if it.failures]
        for it in examples:
            lines = lines_of_code(ROOT / "packaging/examples" / EXAMPLES[it.name])
            print(f"{it.name}: {it.cases} checks, {len(it.failures)} failed; {lines} lines; "
                  f"installed in {getattr(it, 'installed', 0):.0f} s")
        for it in failed:
            print(f"\n{it.name}:", *it.failures, sep="\n  ", file=sys.stderr)
            print("the end of its log:", it.log_text()[-2000:] if it.log.exists() else "none", file=sys.stderr)
        sys.exit(bool(failed))


if __name__ == "__main__":
    main()
