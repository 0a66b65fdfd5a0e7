#!/usr/bin/env python3
"""Verifies tokens of a real keyward with parts that others wrote: Envoy, PyJWT and jose.

    tests/tokens.py target/release/keyward

Runs the blocks of commands of docs/tokens.md that are about them, for EdDSA and for ES256, each with a keyward of
its own. Needs envoy, node and npm. Uses ports that the system chooses. Waits a minute for a status list to end.
"""
import base64
import hashlib
import hmac
import http.client
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.parse

sys.dont_write_bytecode = True
from examples import LINES, ROOT, Port, Server, Wire, blocks, in_parallel, lines_of_code, wait_for_port  # noqa: E402

PAGE = (ROOT / "docs/tokens.md").read_text()
EXAMPLES = ["token_gateway.py", "verify_token.mjs"]
SECTIONS = ["Python", "Node"]
ENVOY = ROOT / "packaging/envoy/tokens.yaml"
# The shortest that keyward allows, in seconds.
LIFETIME, TTL = 60, 2
# A gateway must know of a revocation after TTL and a second. The rest is for a busy machine.
PROMISE = TTL + 1 + 7
ADDRESSES = ["/token-status/1", "/.well-known/jwks.json", "/.well-known/oauth-authorization-server"]
# Reads jwks, lists and a token. Prints what the gateway answers to the token after each list in turn.
LISTS_IN_PYTHON = """
import json, sys, time, types
import token_gateway as example

given = json.load(sys.stdin)
example.fetch = lambda path: given["jwks" if path.endswith("jwks.json") else name].encode()
keyward, answers = example.Keyward(), []
for name, clock in [("old", 0), ("new", 0), ("old", 0), ("new", 0), ("old", -60)]:
    example.time = types.SimpleNamespace(time=lambda: time.time() + clock)
    keyward.update()
    try: answers.append(keyward.verify("Bearer " + given["token"])["client_id"])
    except example.Refused as refused: answers.append(refused.args[1])
print(json.dumps(answers))
"""
# Prints what jose's program answers to a token with its list, with the list after its end, and with no end.
LISTS_IN_NODE = """
import { fetchList, verifyToken } from "./packaging/examples/verify_token.mjs";
const said = (it) => verifyToken(process.argv[1], it, "orders:read").then((it) => it.client_id, (it) => it.message);
const list = await fetchList();
const ended = { ...list, exp: Math.floor(Date.now() / 1000) };
console.log(JSON.stringify([await said(list), await said(ended), await said({ bits: list.bits }), typeof list.iat]));
"""


def encoded(value):
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def decoded(part):
    return json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))


def issued(token):
    return decoded(token.split(".")[1])["iat"]


class Api:
    """The API behind Envoy: answers with the headers of each request."""

    def __init__(self):
        import http.server
        import threading

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                body = json.dumps({name.lower(): value for name, value in self.headers.items()}).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_POST = do_GET

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.server.server_port
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


class Program:
    """A gateway that runs: Envoy, or the one of the page."""

    def __init__(self, command, work, name, environment, port):
        self.port, self.log = port.number, work / f"{name}.log"
        self.reserved = port
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(command, cwd=work, env=environment, stdin=subprocess.DEVNULL, stdout=log,
                                            stderr=log, start_new_session=True)
        try:
            wait_for_port(self.port, self.process)
        except AssertionError as error:
            raise AssertionError(f"{name}: {error}: {self.log.read_text()}") from None

    def send(self, token=None, method="GET", path="/orders", **headers):
        """Returns the status, the headers and the members of the answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        if token:
            headers["Authorization"] = f"Bearer {token}"
        connection.request(method, path, headers=headers)
        answer = connection.getresponse()
        text = answer.read()
        connection.close()
        return answer.status, answer.headers, json.loads(text) if text[:1] == b"{" else {}

    def status(self, *args, **settings):
        return self.send(*args, **settings)[0]

    def stop(self):
        for sent in [signal.SIGTERM, signal.SIGKILL]:
            try:
                os.killpg(self.process.pid, sent)
                self.process.wait(10)
            except (ProcessLookupError, subprocess.TimeoutExpired):
                pass


class Stage:
    """A keyward that signs with one algorithm, and the gateways that trust it."""

    def __init__(self, algorithm, binary, work, api):
        self.name, self.work, self.api = algorithm, work / algorithm, api
        self.work.mkdir()
        shutil.copytree(ROOT / "packaging", self.work / "packaging", ignore=shutil.ignore_patterns("target"))
        self.server = Server(binary, self.work)
        self.issuer = f"http://127.0.0.1:{self.server.port}"
        self.server.environment |= {
            "KEYWARD_PUBLIC_URL": self.issuer, "KEYWARD_TOKENS_ALGORITHM": algorithm,
            "KEYWARD_TOKENS_LIFETIME": f"{LIFETIME}s", "KEYWARD_TOKENS_STATUS_TTL": f"{TTL}s",
            "KEYWARD_TOKENS_AUDIENCES": f"{self.issuer},other",
        }
        self.failures, self.programs, self.cases = [], [], 0

    # What is checked.

    def same(self, case, found, expected):
        self.cases += 1
        if found != expected:
            self.failures.append(f"{case}: expected {expected!r}, got {found!r}")

    def within(self, case, seconds, done):
        """Asks again and again until it is done. Returns how long that took."""
        begin, self.cases = time.monotonic(), self.cases + 1
        while not done():
            if seconds < time.monotonic() - begin:
                self.failures.append(f"{case}: not after {seconds} s")
                break
            time.sleep(0.1)
        return time.monotonic() - begin

    # What runs.

    def start(self):
        self.server.start()
        scopes = ["orders:read", "orders:write"]
        account = {"name": "Acme", "allowedScopes": scopes, "tokenExchange": True}
        self.account = self.server.call("POST", "/accounts", account)["id"]
        self.wire = Wire(self.server.port)
        environment = {name: it for name, it in self.server.environment.items() if not name.startswith("KEYWARD_")}
        # A gateway must not ask a proxy that is meant for other programs.
        self.dead = Port()
        names = ["http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"]
        self.install = environment
        self.environment = environment | {it: f"http://127.0.0.1:{self.dead.number}" for it in names}
        self.environment.pop("no_proxy", None)
        self.environment |= {"KEYWARD_URL": f"http://127.0.0.1:{self.wire.port}", "TOKEN_ISSUER": self.issuer}
        self.with_slash = {it: f"{self.environment[it]}/" for it in ["KEYWARD_URL", "TOKEN_ISSUER"]}
        for section in SECTIONS:
            self.run_block(blocks(section, PAGE)[0])

    def run_block(self, block):
        done = subprocess.run(["bash", "-euc", block], cwd=self.work, env=self.install, stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=600)
        assert done.returncode == 0, f"{block}\n{done.stdout.decode(errors='replace')}"

    def started(self, *args):
        self.programs.append(Program(*args))
        return self.programs[-1]

    def new_gateway(self, name, **settings):
        port = Port()
        command = ["bash", "-euc", blocks("Python", PAGE)[1]]
        return self.started(command, self.work, name, self.environment | settings | {"PORT": str(port.number)},
                            port)

    def new_envoy(self, name):
        port, text = Port(), ENVOY.read_text()
        for shipped, here in [
            ("127.0.0.1:8080", f"127.0.0.1:{self.server.port}"), ("port_value: 8080", f"port_value: {self.server.port}"),
            ("port_value: 3000", f"port_value: {self.api.port}"), ("https://keys.example.com", self.issuer),
            ("0.0.0.0, port_value: 80 ", f"127.0.0.1, port_value: {port.number} "),
            ("cache_duration: 300s", "cache_duration: 1s"), ("duration: 5s", "duration: 1s"),
        ]:
            assert shipped in text, shipped
            text = text.replace(shipped, here)
        (self.work / f"{name}.yaml").write_text(text)
        command = ["envoy", "--use-dynamic-base-id", "--concurrency", "1", "-l", "warning", "-c", f"{name}.yaml"]
        return self.started(command, self.work, name, self.install, port)

    def node(self, token, *scopes, end=""):
        """Returns the claims that the page's program prints, or what it complained about."""
        block = blocks("Node", PAGE)[1]
        assert "orders:read" in block, block
        (self.work / "token.txt").write_text(token)
        done = subprocess.run(["bash", "-euc", block.replace("orders:read", " ".join(scopes))], cwd=self.work,
                              env=self.environment | {"KEYWARD_URL": f"{self.issuer}{end}"},
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                              timeout=60)
        return json.loads(done.stdout) if done.returncode == 0 else done.stderr

    # What keyward gives.

    def key(self, *scopes):
        return self.server.key(scopes or ["orders:read"], account=self.account)

    def token(self, key, **terms):
        form = {"grant_type": "urn:ietf:params:oauth:grant-type:token-exchange", **terms}
        connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=30)
        headers = {"X-API-Key": key["key"], "Content-Type": "application/x-www-form-urlencoded"}
        connection.request("POST", "/api/v1/token", urllib.parse.urlencode(form), headers)
        answer = connection.getresponse()
        text = answer.read()
        connection.close()
        assert answer.status == 200, text
        return json.loads(text)["access_token"]

    def get(self, path):
        return self.ask(path)[1].decode()

    def ask(self, path):
        connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=30)
        connection.request("GET", path)
        answer = connection.getresponse()
        found = answer.status, answer.read()
        connection.close()
        return found

    # What happens.

    def life(self, elsewhere):
        # Here, because Envoy ends with the thread that started it.
        self.gateway, self.envoy = self.new_gateway("gateway", **self.with_slash), self.new_envoy("envoy")
        key = self.key("orders:read")
        good = self.token(key)
        self.same("the algorithm", decoded(good.partition(".")[0])["alg"], self.name)
        self.within("the gateway has keys and list", PROMISE, lambda: self.gateway.status(good) == 200)
        self.good_tokens(key, good)
        self.bad_tokens(key, good, elsewhere)
        self.revocations(key)
        self.older_lists()
        self.cut_off(key)
        self.stopped(key)

    def good_tokens(self, key, good):
        status, _, found = self.gateway.send(good)
        expected = {"account": self.account, "key": key["id"], "scopes": ["orders:read"]}
        self.same("the gateway", (status, found), (200, expected))
        self.same("a missing scope at the gateway", self.gateway.status(good, "POST"), 403)
        self.same("no token at the gateway", self.gateway.status(), 401)
        forged = {"X-Keyward-Key-Id": "key_forged", "X-Keyward-Account-Id": "acct_forged", "X-Keyward-Admin": "1"}
        status, _, headers = self.envoy.send(good, path="/orders/7", X_API_Key=key["key"], **forged)
        named = {name: it for name, it in headers.items() if "keyward" in name}
        expected = {"x-keyward-key-id": key["id"], "x-keyward-account-id": self.account, "x-keyward-scopes": "orders:read"}
        self.same("Envoy: the identity of the token, and no other", (status, named), (200, expected))
        self.same("Envoy removes key and token", {"x-api-key", "authorization"} & headers.keys(), set())
        self.same("a missing scope at Envoy", self.envoy.status(good, "POST"), 403)
        self.same("another resource at Envoy", self.envoy.status(good, path="/products"), 403)
        self.same("a path that no rule names", self.envoy.status(good, path="/ordersx"), 403)
        self.same("no token at Envoy", self.envoy.status(**forged), 401)
        self.same("a token in the address", self.envoy.status(path=f"/orders?access_token={good}"), 401)
        both = self.token(self.key("orders:read", "orders:write"))
        for it in self.gateway, self.envoy:
            self.same("a token with two scopes", [it.status(both), it.status(both, "POST")], [200, 200])
            self.same("an API key in place of a token", it.status(key["key"]), 401)
        self.same("jose", self.node(good, "orders:read")["client_id"], key["id"])
        found = self.node(good, "orders:read", end="/")
        self.same(f"jose: KEYWARD_URL with a slash at its end: {found}", "client_id" in found, True)
        promised = int(re.search(r"`\?time=`\) \| absent; a query is refused with (\d+)", PAGE)[1])
        self.same("queries", [self.ask(f"{it}?time=1")[0] for it in ADDRESSES], [promised] * len(ADDRESSES))
        self.same("a missing scope for jose", "INSUFFICIENT_SCOPES" in self.node(good, "orders:write"), True)

    def bad_tokens(self, key, good, elsewhere):
        head, claims, signature = good.split(".")
        more = decoded(claims) | {"scope": "orders:read orders:write"}
        unsigned, shared = decoded(head) | {"alg": "none"}, decoded(head) | {"alg": "HS256"}
        public = json.loads(self.get("/.well-known/jwks.json"))["keys"][0]
        text = f"{encoded(shared)}.{claims}"
        by_hmac = hmac.new(base64.urlsafe_b64decode(public["x"] + "=="), text.encode(), hashlib.sha256).digest()
        bad = {
            "altered": f"{head}.{encoded(more)}.{signature}",
            "without a signature": f"{encoded(unsigned)}.{claims}.",
            "signed with the public key as a secret": f"{text}.{encoded(by_hmac)}",
            "with another's signature": f"{head}.{claims}.{self.token(key).split('.')[2]}",
            "with a key that is not published": f"{encoded(decoded(head) | {'kid': 'x'})}.{claims}.{signature}",
            "of another keyward": elsewhere,
            "for another audience": self.token(key, audience="other"),
            "that is a status list": self.get("/token-status/1"),
            "that is no token": "a.b.c",
        }
        for what, token in bad.items():
            self.same(f"the gateway: a token {what}", self.gateway.status(token), 401)
            status = self.envoy.status(token)
            self.same(f"Envoy: a token {what}: {status}", status in (401, 403), True)
            self.same(f"jose: a token {what}", type(self.node(token, "orders:read")), str)

    def revocations(self, key):
        """What ends a key ends its tokens at a gateway with the list, within the promised time."""
        ends = {
            "revoked": lambda it: self.server.call("DELETE", f"/api-keys/{it['id']}"),
            "disabled": lambda it: self.server.call("PUT", f"/api-keys/{it['id']}", {"enabled": False}),
            "rotated": lambda it: self.server.call("POST", f"/api-keys/{it['id']}/rotate", {"gracePeriodSeconds": 0}),
            "narrowed": lambda it: self.server.call("PUT", f"/api-keys/{it['id']}", {"scopes": ["orders:write"]}),
        }
        other, tokens = self.token(key), {}
        for how, end in ends.items():
            made = self.key("orders:read", "orders:write")
            token = self.token(made)
            self.within(f"before it is {how}", PROMISE, lambda: self.gateway.status(token) == 200)
            end(made)
            tokens[how] = token
            took = self.within(f"a key that is {how}", PROMISE, lambda: self.gateway.status(token) == 401)
            print(f"{self.name}: a key that is {how}: its token is refused after {took:.1f} s")
            self.same(f"jose: a key that is {how}", "REVOKED" in self.node(token, "orders:read"), True)
        self.same("another key", self.gateway.status(other), 200)
        self.revoked = tokens["revoked"]
        self.same("Envoy reads no list", self.envoy.status(self.revoked), 200)

    def older_lists(self):
        """The newest list counts, until it ends. A cache may still have an older one."""
        made = self.key("orders:read")
        given = {"jwks": self.get(ADDRESSES[1]), "old": self.get(ADDRESSES[0]), "token": self.token(made)}
        in_node = ["node", "--input-type=module", "-e", LISTS_IN_NODE, given["token"]]
        found = self.printed(in_node, {"KEYWARD_URL": self.issuer})
        self.same("jose: a list, after its end, without an end", found,
                  [made["id"], "UNAVAILABLE", "UNAVAILABLE", "number"])
        self.server.call("DELETE", f"/api-keys/{made['id']}")

        def renewed():
            given["new"] = self.get(ADDRESSES[0])
            return self.gateway.status(given["token"]) == 401 and issued(given["old"]) < issued(given["new"])

        self.within("a new list", PROMISE, renewed)
        found = self.printed(["venv/bin/python", "-c", LISTS_IN_PYTHON], {"PYTHONPATH": "packaging/examples"},
                             json.dumps(given))
        self.same("the gateway: a list, a newer, the older, the newer, the older after the clock was set back", found,
                  [made["id"], "REVOKED", "REVOKED", "REVOKED", made["id"]])

    def printed(self, command, settings, given=""):
        """Returns the JSON that a program prints, or what it complained about."""
        done = subprocess.run(command, cwd=self.work, env=self.environment | settings, input=given, text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=60)
        return json.loads(done.stdout) if done.returncode == 0 else done.stderr

    def cut_off(self, key):
        """keyward runs, and the gateway cannot reach it: it goes on until its list ends, and then refuses all."""
        self.wire.set("refused")
        begin, before = time.monotonic(), self.token(key)
        made = self.key("orders:read")
        late = self.token(made)
        self.server.call("DELETE", f"/api-keys/{made['id']}")
        self.same("a key that is revoked meanwhile", self.gateway.status(late), 200)
        fresh, made_at = self.token(key), begin
        while True:
            if 20 < time.monotonic() - made_at:
                fresh, made_at = self.token(key), time.monotonic()
            status, headers, _ = self.gateway.send(fresh)
            took = time.monotonic() - begin
            if status != 200 or LIFETIME + TTL + PROMISE < took:
                break
            time.sleep(0.2)
        self.same("the list has ended", (status, headers["Retry-After"]), (503, "5"))
        # The list was made up to TTL before, and in whole seconds.
        self.same(f"its end, after {took:.1f} s", LIFETIME - 2 < took, True)
        print(f"{self.name}: a gateway that is cut off refuses all tokens after {took:.0f} s")
        self.within("an old token at Envoy has ended", PROMISE, lambda: self.envoy.status(self.revoked) == 401)
        self.wire.set("pass")
        self.within("the gateway is back", PROMISE, lambda: self.gateway.status(self.token(key)) == 200)
        # A token ends 5 seconds later for a gateway that allows for such a difference of the clocks.
        self.within("the token of before has ended", PROMISE, lambda: self.gateway.status(before) == 401)
        self.same("jose: it has ended", '"exp"' in self.node(before, "orders:read"), True)

    def stopped(self, key):
        last = self.token(key)
        self.server.stop()
        self.wire.close_all()
        known = self.envoy.log.read_text().count("failed")
        self.within("Envoy notices", PROMISE, lambda: known + 1 < self.envoy.log.read_text().count("failed"))
        self.same("keyward is stopped: Envoy", self.envoy.status(last), 200)
        self.same("keyward is stopped: the gateway", self.gateway.status(last), 200)
        started = [self.new_envoy("envoy-alone"), self.new_gateway("gateway-alone")]
        self.same("gateways that never had keys", [it.status(last) for it in started], [503, 503])
        self.server.start()
        for it in [*started, self.envoy, self.gateway]:
            self.within(f"keyward is back: {it.log.stem}", PROMISE, lambda: it.status(self.token(key)) == 200)

    def stop(self):
        for it in self.programs:
            it.stop()
        self.server.end()


def main():
    binary = os.path.realpath(sys.argv[1])
    for program in ["envoy", "node", "npm"]:
        assert shutil.which(program), f"{program} is not installed"
    long = {it: n for it in EXAMPLES if (n := lines_of_code(ROOT / "packaging/examples" / it)) > LINES}
    assert not long, f"more than {LINES} lines: {long}"
    assert f"at most {LINES} lines" in PAGE, "docs/tokens.md promises another number of lines"
    assert all(len(blocks(it, PAGE)) == 2 for it in SECTIONS), "docs/tokens.md has other blocks than this test runs"
    with tempfile.TemporaryDirectory(prefix="keyward-tokens-") as directory:
        api = Api()
        stages = [Stage(it, binary, pathlib.Path(directory), api) for it in ["EdDSA", "ES256"]]
        try:
            in_parallel(Stage.start, stages)
            if not any(it.failures for it in stages):
                tokens = [it.token(it.key()) for it in stages]
                other = dict(zip(stages, reversed(tokens)))
                in_parallel(lambda it: it.life(other[it]), stages)
        finally:
            for it in stages:
                it.stop()
        for it in stages:
            print(f"{it.name}: {it.cases} checks, {len(it.failures)} failed")
        for it in stages:
            for failure in it.failures:
                print(f"{it.name}: {failure}", file=sys.stderr)
        sys.exit(any(it.failures for it in stages))


if __name__ == "__main__":
    main()
