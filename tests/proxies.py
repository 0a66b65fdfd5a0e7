#!/usr/bin/env python3
"""Sends hostile paths, methods, hosts and headers through all real proxies, with the shipped files, to an API.

    tests/proxies.py target/release/keyward [PROXY...]

The API records each request as it gets it. Whichever way it could read the request, keyward must allow that to the
same key. No request brings an identity that its client claimed. Needs nginx, Caddy, HAProxy, Envoy, Traefik and
Apache. Connects only to 127.0.0.1. Sends all single mutations and a sample of their combinations, in about a minute;
with ALL_COMBINATIONS=1 all of them.
"""
import collections
import os
import pathlib
import shutil
import signal
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent / "proxies"))
import scene  # noqa: E402
from corpus import FORGED, Case, Corpus  # noqa: E402
from readings import Seen  # noqa: E402

EVERYTHING = bool(os.environ.get("ALL_COMBINATIONS"))
SEED = 20_240
# Requests at a time, to one proxy.
AT_ONCE = 4
# Faults that are printed for each theme.
SHOWN = int(os.environ.get("SHOWN", 2))
# What keyward has on record of each route: method, path and the scopes. The first that matches decides.
EVERY, READS, WRITES = ["*"], ["GET", "HEAD"], ["POST", "PUT", "PATCH", "DELETE"]
STRONG = {"scopes": ["webhooks:write"]}
POLICY = [
    (EVERY, "/**", {"hosts": ["admin.example.com", "*.admin.example.com"], **STRONG}),
    (READS, "/health", {"public": True}),
    (READS, "/public/**", {"public": True}),
    (EVERY, "/public/**", {"scopes": ["orders:write"]}),
    (EVERY, "/orders/admin/**", STRONG),
    (EVERY, "/products/hidden/**", STRONG),
    (EVERY, "/files/private/**", STRONG),
    (EVERY, "/open/closed/**", STRONG),
    (EVERY, "/admin/**", STRONG),
    # A route for every method after one for some: `get` must not be another method than GET.
    (READS, "/reports/**", STRONG),
    (EVERY, "/reports/**", {"scopes": []}),
    # The parent needs more than its children: a path must not become shorter.
    (EVERY, "/inventory", STRONG),
    (EVERY, "/inventory/*", {"scopes": []}),
    (READS, "/files/**", {"optional": True}),
    (EVERY, "/open/**", {"scopes": []}),
    (EVERY, "/products/**", {"any_of": ["products:read", "orders:read"]}),
    (READS, "/orders/**", {"scopes": ["orders:read"]}),
    (WRITES, "/orders/**", {"scopes": ["orders:write"]}),
]
# What the files say that name the scopes themselves.
IN_THE_PROXY = [(methods, f"/{name}/**", {"scopes": [f"{name}:{verb}"]})
                for name in ["orders", "products", "inventory", "webhooks", "commissions"]
                for methods, verb in [(READS, "read"), (EVERY, "write")] if (name, verb) != ("commissions", "write")]
signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))


def toml(routes):
    def value(it):
        return str(it).lower() if isinstance(it, bool) else str(it).replace("'", '"')
    return "".join(f'[[route]]\nmethods = {value(methods)}\npath = "{path}"\n' +
                   "".join(f"{name} = {value(it)}\n" for name, it in more.items()) for methods, path, more in routes)


class Run:
    """One proxy with one shipped file."""

    def __init__(self, name, file, keyward, oracle):
        self.name, self.file, self.keyward, self.oracle = name, file, keyward, oracle
        self.count, self.faults, self.slow = collections.Counter(), [], []

    def send(self, cases, work, edit=lambda text: text):
        api = scene.Api()
        proxy = scene.Proxy(self.name, self.file, work, self.keyward.port, api.port, edit)
        answers = [None] * len(cases)

        def one(number):
            begin = time.monotonic()
            answers[number] = scene.exchange(proxy.port, cases[number].wire(number, self.keyward.keys))
            if scene.PATIENCE / 2 < time.monotonic() - begin:
                self.slow.append(cases[number])

        try:
            with ThreadPoolExecutor(AT_ONCE) as pool:
                list(pool.map(one, range(len(cases))))
        finally:
            proxy.stop()
        # A request of HTTP/0.9 has no headers, so no mark and no key.
        for head in api.seen.pop(None, []):
            unmarked = Case("no mark", key="none")
            self.faults += [(unmarked.theme, unmarked, it) for it in self.wrong(unmarked, Seen(head))]
        for number, case in enumerate(cases):
            self.judge(case, answers[number], api.seen[number])

    def judge(self, case, answer, seen):
        status, head = answer
        self.count["sent"] += 1
        if seen:
            self.count["passed"] += 1
        elif status in (401, 403, 429) and b"application/problem+json" in head.lower():
            self.count["refused by keyward"] += 1
        else:
            self.count["refused by the proxy"] += 1
        faults = [it for head in seen for it in self.wrong(case, Seen(head))]
        if 1 < len(seen):
            faults.append(f"the API got {len(seen)} requests")
        if case.theme == "honest" and bool(seen) != self.should_pass(case):
            faults.append(f"status {status}, which keyward does not say")
        self.count["disagreements"] += bool(faults)
        self.faults += [(case.theme, case, it) for it in faults]

    def should_pass(self, case):
        return self.oracle.allows(case.key, case.method, b"api.example.com", case.target.partition(b"?")[0]) is None

    def wrong(self, case, seen):
        """Yields what is wrong with a request that reached the API."""
        for method, host, path in sorted(seen.readings()):
            if reason := self.oracle.allows(case.key, method, host, path):
                yield f"reading {method!r} {host!r} {path[:120]!r} needs more: {reason}; got {seen.head[:160]!r}"
        identity = seen.identity()
        names = [name for name, _ in identity]
        if sorted(names) != sorted(scene.IDENTITY) or any(FORGED in value for _, value in identity):
            yield f"identity {identity}"
        secret = self.keyward.keys[case.key]
        if secret and secret in seen.head:
            yield "the key reaches the API"
        for claimed in seen.claimed_addresses():
            yield f"address {claimed}"

    def report(self):
        groups = collections.defaultdict(list)
        for theme, case, fault in self.faults:
            groups[theme].append((case, fault))
        for theme, found in groups.items():
            print(f"FAILED {self.name}, {self.file}: {theme}: {len(found)} faults", flush=True)
            for case, fault in found[:SHOWN]:
                print(f"    {case}\n        {fault}", flush=True)
        if self.slow:
            print(f"{self.name}, {self.file}: no answer in time: {len(self.slow)}, such as {self.slow[0]}", flush=True)


def main():
    binary = os.path.realpath(sys.argv[1])
    names = sys.argv[2:] or list(scene.PROXIES)
    for name in names:
        program = scene.PROXIES[name][0]
        assert shutil.which(program, path=scene.ENVIRONMENT["PATH"]), f"{program} is not installed"
    cases = Corpus(EVERYTHING, SEED).cases()
    themes = collections.Counter(it.theme for it in cases)
    print(f"{len(cases)} requests for each file: " + "; ".join(f"{theme}: {count}" for theme, count in themes.items()), flush=True)
    with tempfile.TemporaryDirectory(prefix="keyward-proxies-") as directory:
        work = pathlib.Path(directory)
        work.chmod(0o755)
        policies = [("policy", toml(POLICY)), ("scopes", None), ("oracle", toml(IN_THE_PROXY))]
        keywards = [scene.Keyward(binary, work / name, policy) for name, policy in policies]
        runs = []
        try:
            for it in keywards:
                it.start()
            with_policy, bare, model = keywards
            for name in names:
                policy, scopes = scene.PROXIES[name][3]
                runs.append([Run(name, policy, with_policy, scene.Oracle(with_policy)), Run(name, scopes, bare, scene.Oracle(model))])
            lock = threading.Lock()

            def both(pair):
                for run in pair:
                    begin = time.monotonic()
                    run.send(cases, work / f"{run.name}-{run.file}")
                    with lock:
                        print(f"{run.name}, {run.file}: {time.monotonic() - begin:.1f} s: {dict(run.count)}", flush=True)
                        run.report()

            with ThreadPoolExecutor(2) as pool:
                list(pool.map(both, runs))
        finally:
            for it in keywards:
                it.end()
    columns = ["sent", "passed", "refused by the proxy", "refused by keyward", "disagreements"]
    print("| proxy | version | " + " | ".join(columns) + " |")
    for pair in runs:
        total = sum((it.count for it in pair), collections.Counter())
        print(f"| {pair[0].name} | {scene.version(pair[0].name)} | " + " | ".join(f"{total[it]:,}" for it in columns) + " |")
    sys.exit(any(it.faults for pair in runs for it in pair))


if __name__ == "__main__":
    main()
