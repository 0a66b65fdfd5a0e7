#!/usr/bin/env python3
"""Sends hostile paths, methods, hosts and headers through all real proxies, with the shipped files, to an API.

    tests/proxies.py target/release/keyward [--self-test] [PROXY...]

The API records each request as it gets it. Whichever way it could read the request, keyward must allow that to the
same key. No identity that a client claims reaches the API. Needs nginx, Caddy, HAProxy, Envoy, Traefik and Apache.
Connects only to 127.0.0.1. Sends every single mutation and a sample of the combinations, in about a minute; with
ALL_COMBINATIONS=1 all of them, in about half an hour. With --self-test it takes lines that protect out of the shipped
files, one at a time, and fails if no request notices.
"""
import argparse
import collections
import multiprocessing
import os
import pathlib
import shutil
import signal
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent / "proxies"))
import scene  # noqa: E402
from corpus import FORGED, Case, Corpus  # noqa: E402
from readings import Seen  # noqa: E402
from weakened import EDITS, missing  # noqa: E402

EVERYTHING = bool(os.environ.get("ALL_COMBINATIONS"))
SEED = 20_240
# Requests at a time, to one proxy.
AT_ONCE = 4
# Faults that are printed for each theme.
SHOWN = 2
COLUMNS = ["sent", "passed", "refused by the proxy", "refused by keyward", "disagreements"]
# What docs/forward-auth.md says about a proxy: themes in which it passes on what no file can stop.
KNOWN = {"HAProxy": {"identity, trailer"}}
# Traefik's option that docs/forward-auth.md recommends. One form runs with it, the other without.
ALIASES = ["--entryPoints.web.http.aliasHeadersStrategy=delete"]
# The routes. The first that matches decides.
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
    """One proxy with one shipped file. `keyward` decides; `model` knows the same routes and judges the readings."""

    def __init__(self, name, file, keyward, model, work, options=()):
        self.name, self.file, self.keyward, self.oracle, self.work = name, file, keyward, scene.Oracle(model), work
        self.options = options
        # Traefik's own list can name only so many spellings. Its option removes the others.
        self.plain_names = name == "Traefik" and not options
        self.count, self.faults, self.slow = collections.Counter(), [], []

    def send(self, cases, edit=lambda text: text):
        api = scene.Api()
        proxy = scene.Proxy(self.name, self.file, self.work, self.keyward.port, api.port, edit, self.options)
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
            self.faults += [(unmarked.theme, unmarked, it) for it in self.wrong(unmarked, Seen(head, self.plain_names))]
        for number, case in enumerate(cases):
            self.judge(case, answers[number], api.seen[number])
        return self

    def judge(self, case, answer, seen):
        status, head = answer
        self.count["sent"] += 1
        if seen:
            self.count["passed"] += 1
        elif status in (401, 403, 429) and b"application/problem+json" in head.lower():
            self.count["refused by keyward"] += 1
        else:
            self.count["refused by the proxy"] += 1
        faults = [it for head in seen for it in self.wrong(case, Seen(head, self.plain_names))]
        if 1 < len(seen):
            faults.append(f"the API got {len(seen)} requests")
        if case.theme == "honest" and bool(seen) != self.should_pass(case):
            faults.append(f"status {status}, which keyward does not say")
        if case.theme in KNOWN.get(self.name, ()):
            faults = []
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
        if sorted(name for name, _ in identity) != sorted(scene.IDENTITY) or any(FORGED in value for _, value in identity):
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


def tried(job):
    """Runs in a process of its own."""
    run, begin = job, time.monotonic()
    # With the scopes in the proxy keyward knows no routes, and a third of the paths is enough.
    by_policy = run.file == scene.PROXIES[run.name][3][0]
    run.send([it for at, it in enumerate(CASES) if by_policy or EVERYTHING or not it.theme.startswith("path") or at % 3 == 0])
    print(f"{run.name}, {run.file}: {time.monotonic() - begin:.1f} s: {dict(run.count)}", flush=True)
    run.report()
    return run.name, run.count, len(run.faults)


def weakened(job):
    """Runs with a shipped file from which a protection was taken. Returns what a request noticed."""
    run, themes, (what, old, new) = job
    try:
        run.send([it for it in CASES if it.theme.startswith(themes)], lambda text: text.replace(old, new))
        said = collections.Counter(theme for theme, *_ in run.faults).most_common(3)
    except AssertionError as error:
        said = [("does not start", str(error).strip().splitlines()[-1][:100])]
    print(f"{'red' if said else 'FAILED'}: {run.name}, {run.file}: without {what}: {said}", flush=True)
    return bool(said)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("binary")
    parser.add_argument("--self-test", action="store_true")
    parser.add_argument("proxies", nargs="*", default=list(scene.PROXIES), metavar="PROXY")
    options = parser.parse_args()
    assert not missing(), f"the shipped files have changed: {missing()}"
    for name in options.proxies:
        program = scene.PROXIES[name][0]
        assert shutil.which(program, path=scene.ENVIRONMENT["PATH"]), f"{program} is not installed"
    themes = collections.Counter(it.theme for it in CASES)
    print(f"{len(CASES):,} requests for each file: " + "; ".join(f"{it}: {count:,}" for it, count in themes.items()), flush=True)
    with tempfile.TemporaryDirectory(prefix="keyward-proxies-") as directory:
        work = pathlib.Path(directory)
        work.chmod(0o755)
        policies = [("policy", toml(POLICY)), ("scopes", None), ("model", toml(IN_THE_PROXY))]
        servers = [scene.Keyward(os.path.realpath(options.binary), work / name, policy) for name, policy in policies]
        try:
            for it in servers:
                it.start()
            policy, bare, model = [it.known() for it in servers]
            forms = {name: [(scene.PROXIES[name][3][0], policy, policy), (scene.PROXIES[name][3][1], bare, model)]
                     for name in options.proxies}
            # A process each, so that one interpreter is not the limit. Envoy ends with the thread that started it.
            with multiprocessing.get_context("fork").Pool(os.cpu_count(), maxtasksperchild=1) as pool:
                if options.self_test:
                    jobs = [(Run(name, *forms[name][0], work / f"weakened-{number}"), themes, edit)
                            for number, (name, themes, edit) in enumerate(it for it in EDITS if it[0] in options.proxies)]
                    results = list(pool.imap_unordered(weakened, jobs, chunksize=1))
                    print(f"{len(results)} protections taken away, {results.count(False)} not noticed")
                    sys.exit(not all(results))
                jobs = [Run(name, *it, work / f"{name}-{it[0]}", ALIASES if name == "Traefik" and it[1] is policy else ())
                        for name in options.proxies for it in forms[name]]
                results = list(pool.imap_unordered(tried, jobs, chunksize=1))
        finally:
            for it in servers:
                it.end()
    print("| proxy | version | " + " | ".join(COLUMNS) + " |")
    for name in options.proxies:
        total = sum((count for it, count, _ in results if it == name), collections.Counter())
        print(f"| {name} | {scene.version(name)} | " + " | ".join(f"{total[it]:,}" for it in COLUMNS) + " |")
    sys.exit(any(faults for *_, faults in results))


if __name__ == "__main__":
    CASES = Corpus(EVERYTHING, SEED).cases()
    main()
