#!/usr/bin/env python3
"""Runs Schemathesis, which makes requests from the API document, against a real keyward.

    tests/schemathesis/run.py target/release/keyward [--seed N] [--examples N] [ROLE...]

Each role has a keyward of its own: `operator` calls with the root key, `account` with the first key of an account.
All checks of Schemathesis are on. Each operation must succeed at least once, or be refused with 403 if the caller
lacks its scopes. Other seeds and more cases find more: `--seed 7 --examples 200`. Takes packages from PyPI.
"""
import argparse
import datetime
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request

HERE = pathlib.Path(__file__).resolve().parent
DOCUMENT = HERE.parent.parent / "openapi/openapi.json"
ROLES = ["operator", "account"]
AUDIENCE = "https://api.example.com"
# The operator's account cannot be deleted, and an account's key cannot hold the scope for it.
NEVER = {"deleteOwnAccount": "409"}
# SIGTERM also ends the server and removes the directory.
signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))


def clean_environment():
    """Returns the environment without the packages and settings of others."""
    return {name: it for name, it in os.environ.items() if name != "PYTHONPATH" and not name.startswith("KEYWARD_")}


class Server:
    """keyward itself, with an empty database, on a port that the system chooses."""

    def __init__(self, binary, work):
        # Tokens need an issuer.
        environment = clean_environment()
        environment |= {"KEYWARD_PUBLIC_URL": "https://keys.example.com", "KEYWARD_TOKENS_AUDIENCES": AUDIENCE}
        command = [binary, "serve", "--listen", "127.0.0.1:0", "--data-dir", work / "data"]
        with open(work / "keyward.log", "wb") as log:
            self.process = subprocess.Popen(
                command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, text=True)
        try:
            address = re.search(r"http://[0-9.:]+", self.process.stdout.readline())
            assert address, (work / "keyward.log").read_text()
            self.url = address[0]
            self.root = (work / "data/initial-root-key").read_text().strip()
        except BaseException:
            self.end()
            raise

    def call(self, method, path, body=None):
        request = urllib.request.Request(
            f"{self.url}/api/v1{path}", method=method, data=None if body is None else json.dumps(body).encode(),
            headers={"X-API-Key": self.root, "Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=30) as answer:
            text = answer.read()
        return json.loads(text) if text else None

    def key(self, account, **settings):
        return self.call("POST", f"/accounts/{account}/api-keys", {"name": "A", "scopes": ["orders:read"], **settings})

    def end(self):
        self.process.terminate()
        assert self.process.wait(60) == 0


def keys_of_each_verdict(server, account):
    """Returns a key for each verdict that depends on the key."""
    limit = {"limit": 1, "windowSeconds": 2592000}
    keys = {name: server.key(account, **settings) for name, settings in {
        "VALID": {}, "DISABLED": {"enabled": False}, "REVOKED": {}, "ROTATED": {}, "EXPIRED": {"expiresIn": 1},
        "IP_NOT_ALLOWED": {"allowedIps": ["192.0.2.1"]}, "RATE_LIMITED": {"rateLimit": limit}}.items()}
    server.call("DELETE", f"/api-keys/{keys['REVOKED']['id']}")
    server.call("POST", f"/api-keys/{keys['ROTATED']['id']}/rotate", {"gracePeriodSeconds": 0})
    suspended = server.call("POST", "/accounts", {"name": "Suspended"})
    server.call("PATCH", f"/accounts/{suspended['id']}", {"status": "suspended"})
    return [*keys.values(), suspended["apiKey"]], suspended


def facts_of(server, caller, accounts, work):
    """Returns what only this server knows, for `hooks.py`."""
    of_tokens = accounts[1]["id"]
    scopes = server.call("GET", "/scopes")["data"]
    limited = server.key(of_tokens, rateLimit={"limit": 1, "windowSeconds": 2592000})
    exchanged = server.key(of_tokens)
    verdicts, suspended = keys_of_each_verdict(server, of_tokens)
    lasting = [caller, limited, exchanged, *verdicts, *accounts, suspended]
    in_days = lambda n: (datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(days=n)).isoformat()
    after_first = lambda path: server.call("GET", f"{path}?limit=1")["nextCursor"]
    keys, urn = after_first("/api-keys"), "urn:ietf:params:oauth"
    return {
        "url": server.url, "root": server.root, "caller": caller, "seen": str(work / "seen.json"),
        # Signed by a checkpoint, and visible to both roles.
        "events": [it["seq"] for it in server.call("GET", f"/events?account={accounts[0]['id']}&limit=3")["data"]],
        "lasting": [it[name] for it in lasting for name in ["id", "keyPrefix"] if name in it],
        "verdicts": ["malformed", *(it["key"] for it in verdicts)],
        "scopes": [it["name"] for it in scopes],
        "allowedScopes": [it["name"] for it in scopes if not it["reserved"]],
        "instants": [in_days(n) for n in [1, 60, 900]],
        "networks": ["203.0.113.0/24", "2001:db8::/32", "198.51.100.7"],
        "addresses": ["203.0.113.7", "2001:db8::1"],
        "cursors": {"listApiKeys": keys, "listAccountApiKeys": keys, "listAccounts": after_first("/accounts"),
                    "listEvents": after_first("/events"), "listCheckpoints": after_first("/checkpoints")},
        "parameters": {
            # A request with an `ETag` that is out of date gets no further than 412.
            "If-Match": ["*"],
            "account": ["all", caller["accountId"]], "createdBy": ["operator", caller["id"]],
            "actor": ["cli", "scheduler", "operator", caller["id"]],
            "subject": ["keyward", caller["id"], accounts[0]["id"]],
        },
        "form": {
            "grant_type": [f"{urn}:grant-type:token-exchange"],
            "subject_token": [exchanged["key"], limited["key"]],
            "subject_token_type": ["urn:keyward:params:oauth:token-type:api-key", f"{urn}:token-type:access_token"],
            "scope": ["orders:read"], "audience": [AUDIENCE], "resource": [AUDIENCE],
            "requested_token_type": [f"{urn}:token-type:access_token", f"{urn}:token-type:jwt"],
        },
    }


def unmet(role, document, held, seen):
    """Returns what the run should have reached and did not."""
    missing = []
    for path, item in document["paths"].items():
        for method, operation in item.items():
            name, needed = operation["operationId"], operation.get("x-any-of-scopes", [])
            answers = seen.get(name, {})
            good = any(status.startswith("2") for status in answers)
            may = not needed or "*" in held or set(needed) & set(held)
            if may and not good and NEVER.get(name) not in answers:
                missing.append(f"{name} never succeeded: {answers}")
            # A caller may always read what `self` in place of an identifier stands for.
            if not may and ("403" not in answers or good and not ("{id}" in path and method == "get")):
                missing.append(f"{name} was not refused with 403: {answers}")
    verdicts = document["components"]["schemas"]["VerifyCode"]["enum"] if role == "operator" else []
    missing += [f"no verification was {it}" for it in verdicts if it not in seen.get("verdicts", {})]
    if "429" not in seen["exchangeToken"]:
        missing.append("no exchange met the rate limit of its key")
    return missing


def run(role, given, tool, work):
    """Returns the numbers of passed and failed cases and conditions."""
    server = Server(os.path.realpath(given.binary), work)
    try:
        accounts = [server.call("POST", "/accounts", {"name": f"{n}", "tokenExchange": True, "maxKeys": 1000000})
                    for n in range(3)]
        own = accounts[0]["apiKey"]
        server.key(server.call("GET", "/accounts/self")["id"])
        for _ in range(2):
            subprocess.run([given.binary, "run-job", "checkpoint", "--data-dir", work / "data"], check=True,
                           stdout=subprocess.DEVNULL)
            server.call("POST", "/accounts", {"name": "Another"})
        caller = {**server.call("GET", "/api-keys/self"), "key": server.root} if role == "operator" else own
        users = {"caller": caller["key"]}
        config = (HERE / "schemathesis.toml").read_text()
        config += f'\n[auth.wfc]\npath = "{work}/users.json"\nuser = "caller"\n'
        if role == "account":
            # Schemathesis also tries whether one account can read what is another's.
            users["peer"] = accounts[2]["apiKey"]["key"]
            config += f"peers = {json.dumps(list(users))}\n"
        (work / "schemathesis.toml").write_text(config)
        headers = lambda key: [{"name": "X-API-Key", "value": key}]
        (work / "users.json").write_text(json.dumps(
            {"auth": [{"name": name, "fixedHeaders": headers(key)} for name, key in users.items()]}))
        facts = facts_of(server, caller, accounts, work)
        environment = clean_environment()
        environment |= {"SCHEMATHESIS_HOOKS": str(HERE / "hooks.py"), "KEYWARD_FACTS": json.dumps(facts),
                        "NO_COLOR": "1", "PYTHONDONTWRITEBYTECODE": "1"}
        begin = time.monotonic()
        with open(work / "said", "wb") as said:
            code = subprocess.run(
                [tool / "bin/schemathesis", "--config-file", work / "schemathesis.toml", "run", DOCUMENT,
                 "--url", server.url, "--seed", str(given.seed), "--max-examples", str(given.examples),
                 "--report-json-path", work / "report.json"],
                cwd=work, env=environment, stdout=said, stderr=subprocess.STDOUT).returncode
        took = time.monotonic() - begin
    finally:
        server.end()
    text = (work / "said").read_text()
    if code:
        print(text, flush=True)
    seen = json.loads((work / "seen.json").read_text())
    for name, answers in sorted(seen.items()):
        print(f"{role}: {name}: {', '.join(f'{n} × {status}' for status, n in sorted(answers.items()))}")
    missing = unmet(role, json.loads(DOCUMENT.read_text()), caller["scopes"], seen)
    for it in missing:
        print(f"{role}: FAILED: {it}")
    report = json.loads((work / "report.json").read_text())
    cases = report["test_cases"]
    print(f"{role}: {cases['generated']} cases with the seed {given.seed} in {took:.0f} s; failures by the rules of "
          f"hooks.py: {report['filtered']}", flush=True)
    failed = len(missing) + max(cases["with_failures"] + cases["errored"], code != 0)
    return cases["generated"] - cases["with_failures"] - cases["errored"], failed


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("binary")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--examples", type=int, default=10)
    parser.add_argument("--tool", type=pathlib.Path, help="a virtual environment that has Schemathesis")
    parser.add_argument("roles", nargs="*")
    given = parser.parse_intermixed_args()
    passed = failed = 0
    with tempfile.TemporaryDirectory(prefix="keyward-schemathesis-") as work:
        work = pathlib.Path(work)
        tool = given.tool
        if not tool:
            tool = work / "tool"
            subprocess.run([sys.executable, "-m", "venv", tool], check=True, env=clean_environment())
            subprocess.run([tool / "bin/pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps",
                            "--requirement", HERE / "requirements.txt"], check=True, timeout=600,
                           env=clean_environment())
        for role in given.roles or ROLES:
            (work / role).mkdir()
            good, bad = run(role, given, tool, work / role)
            passed, failed = passed + good, failed + bad
    print(f"{passed} passed, {failed} failed")
    sys.exit(failed != 0)


if __name__ == "__main__":
    main()
