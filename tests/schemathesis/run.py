#!/usr/bin/env python3
"""Runs Schemathesis, which makes requests from the API document, against a real keyward.

    tests/schemathesis/run.py target/release/keyward [--seed N] [--examples N] [ROLE...]

Each role has a keyward of its own: `operator` calls with the root key, `account` with the first key of an account.
All checks of Schemathesis are on. Each operation must succeed at least once, or be refused with 403 if the caller
lacks its scopes. `stranger` has only the document, an address and the root key, without `hooks.py`: each failure must
be one that `rules.py` lists, and with the default numbers, each rule for a run without hooks must have a failure.
Other seeds and more cases find more: `--seed 7 --examples 200`. Takes packages from PyPI.
"""
import argparse
import base64
import collections
import concurrent.futures
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

# The run leaves nothing in the tree.
sys.dont_write_bytecode = True
from rules import PLAIN_RULES, RULES, faults_of, rules_for

HERE = pathlib.Path(__file__).resolve().parent
DOCUMENT = HERE.parent.parent / "openapi/openapi.json"
ROLES = ["operator", "account", "stranger"]
PHASES = ["examples", "coverage", "fuzzing", "stateful"]
DEFAULTS = {"seed": 1, "examples": 10}
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
        "form": {
            "subject_token": [exchanged["key"], limited["key"]],
            "subject_token_type": ["urn:keyward:params:oauth:token-type:api-key",
                                   "urn:ietf:params:oauth:token-type:access_token"],
            "scope": ["orders:read"], "audience": [AUDIENCE], "resource": [AUDIENCE],
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
        environment |= {"SCHEMATHESIS_HOOKS": str(HERE / "hooks.py"), "PYTHONPATH": str(HERE),
                        "KEYWARD_FACTS": json.dumps(facts), "NO_COLOR": "1", "PYTHONDONTWRITEBYTECODE": "1"}
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
          f"rules.py: {report['filtered']}", flush=True)
    failed = len(missing) + max(cases["with_failures"] + cases["errored"], code != 0)
    return cases["generated"] - cases["with_failures"] - cases["errored"], failed


def try_phase(phase, given, tool, work):
    """Runs one phase as a stranger does, and returns the failures and the report."""
    work.mkdir(parents=True)
    server = Server(os.path.realpath(given.binary), work)
    try:
        with open(work / "said", "wb") as said:
            code = subprocess.run(
                [tool / "bin/schemathesis", "run", DOCUMENT, "--url", server.url, "-H", f"X-API-Key: {server.root}",
                 "--checks", "all", "--phases", phase, "--seed", str(given.seed), "--max-examples", str(given.examples),
                 # Without these, a stream takes ten seconds, and a failure hides those after it.
                 "--request-timeout", "1", "--continue-on-failure",
                 "--report-json-path", work / "report.json", "--report-ndjson-path", work / "events.ndjson"],
                cwd=work, env=clean_environment() | {"NO_COLOR": "1"}, stdout=said, stderr=subprocess.STDOUT).returncode
    finally:
        server.end()
    assert code in [0, 1], (work / "said").read_text()
    with open(work / "events.ndjson") as events:
        recorders = [json.loads(it).get("ScenarioFinished", {}).get("recorder", {}) for it in events]
    failures = [it for recorder in recorders for it in failures_of(recorder)]
    return failures, json.loads((work / "report.json").read_text())


def failures_of(recorder):
    """Returns the check, the operation, the faults and the headers of each failure in a scenario."""
    found = []
    for case, checks in recorder.get("checks", {}).items():
        for it in checks:
            if it["status"] == "failure":
                failure = it["failure_info"]["failure"]
                content = base64.b64decode(recorder["interactions"][case]["response"]["content"]["$base64"])
                headers = recorder["cases"][case]["value"].get("headers") or {}
                found.append((failure["code"], failure["operation"], faults_of(failure["message"], content), headers))
    return found


def run_as_stranger(given, tool, work):
    """Returns the numbers of passed and failed cases and rules. Each phase has a keyward of its own, because the root
    key soon disables or revokes itself."""
    names = {f"{method.upper()} {path}": operation["operationId"]
             for path, item in json.loads(DOCUMENT.read_text())["paths"].items() for method, operation in item.items()}
    begin = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        tried = list(pool.map(lambda phase: try_phase(phase, given, tool, work / phase), PHASES))
    used, unruled = [], collections.Counter()
    for check, operation, faults, headers in (it for failures, _ in tried for it in failures):
        found = rules_for(RULES + PLAIN_RULES, check, names[operation], faults, headers)
        used += found
        if not found:
            unruled[f"{check} {names[operation]}: {faults}"] += 1
    bad = [f"{count} × no rule: {it}" for it, count in unruled.items()]
    if {"seed": given.seed, "examples": given.examples} == DEFAULTS:
        bad += [f"no failure has this rule: {it}" for it in PLAIN_RULES if it not in used]
    for it in bad:
        print(f"stranger: FAILED: {it}")
    cases = [report["test_cases"] for _, report in tried]
    generated, errored = sum(it["generated"] for it in cases), sum(it["errored"] for it in cases)
    print(f"stranger: {generated} cases with the seed {given.seed} in {time.monotonic() - begin:.0f} s; failures by "
          f"the rules of rules.py: {len(used)}", flush=True)
    return generated - errored - sum(unruled.values()), errored + len(bad)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("binary")
    parser.add_argument("--seed", type=int, default=DEFAULTS["seed"])
    parser.add_argument("--examples", type=int, default=DEFAULTS["examples"])
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
            if role == "stranger":
                good, bad = run_as_stranger(given, tool, work / role)
            else:
                good, bad = run(role, given, tool, work / role)
            passed, failed = passed + good, failed + bad
    print(f"{passed} passed, {failed} failed")
    sys.exit(failed != 0)


if __name__ == "__main__":
    main()
