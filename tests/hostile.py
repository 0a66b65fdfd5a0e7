#!/usr/bin/env python3
"""Attacks a real keyward with hostile HTTP: slow, broken, ambiguous and very many clients.

    tests/hostile.py target/release/keyward [--rounds N]

Connects only to 127.0.0.1 and to Unix sockets in a temporary directory. Needs openssl and Linux. A round of floods takes
about half a minute, and the whole run about four minutes; more rounds repeat the floods.
"""
import argparse
import collections
import pathlib
import resource
import shutil
import signal
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent / "hostile"))
import doors as wrong_doors  # noqa: E402
import floods  # noqa: E402
import shapes  # noqa: E402
import slow  # noqa: E402
from neighbour import Neighbour  # noqa: E402
from target import Target  # noqa: E402

# The longest that a valid client may wait while others misbehave: in seconds, or on a slow or busy machine as a multiple
# of the longest wait without them.
LONGEST_WAIT = 2.0
LONGEST_RATIO = 10
# Open files that the server's own threads may add between two measurements.
OWN_FILES = 8
# A stop may take this long, in seconds.
STOP = 11
signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))


class Report:
    def __init__(self):
        self.passed, self.failed = collections.Counter(), collections.Counter()
        self.waiting = []

    def check(self, theme, case, fault):
        """`fault` says what is wrong, or is a future of that."""
        if hasattr(fault, "result"):
            try:
                fault = fault.result()
            except Exception as error:  # A case that cannot be tried has failed.
                fault = repr(error)
        (self.failed if fault else self.passed)[theme] += 1
        if fault:
            print(f"FAILED {theme}: {case}: {fault}", flush=True)

    def later(self, theme, case, future):
        self.waiting.append((theme, case, future))


def certificate(work):
    """Returns the settings of TLS, and the context of a client that trusts the certificate."""
    pem, key = work / "tls.pem", work / "tls.key"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
                    "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-keyout", key, "-out", pem],
                   check=True, stderr=subprocess.DEVNULL)
    key.chmod(0o600)
    return f'[tls]\ncertificate = "{pem}"\nkey = "{key}"\n', ssl.create_default_context(cafile=pem)


def judge(report, theme, neighbour, calm):
    """Checks that the valid client lost no answer and waited for none too long."""
    worst, count = {}, 0
    for way, (seconds, lost) in neighbour.take().items():
        worst[way], count = max(seconds, default=0), count + len(seconds)
        longest = min(max(LONGEST_WAIT, LONGEST_RATIO * calm[way]), 10) if calm else LONGEST_WAIT
        slow_one = longest < worst[way] and f"an answer took {worst[way]:.2f} s"
        report.check("valid client", f"{theme}: {way}", lost[0] if lost else slow_one)
    if calm is not None:
        ratio = max(worst[way] / calm[way] for way in worst)
        print(f"  valid client: {count} answers, worst {1000 * max(worst.values()):.0f} ms, "
              f"at most {ratio:.1f} times the calm worst of its way", flush=True)
    return worst


def flood(report, target, neighbour, calm, name, function, count, most, make):
    door, files, before = target.doors[0], target.files(), target.resident()
    highest, over = [before], threading.Event()

    def watch():
        while not over.wait(0.05):
            highest.append(target.resident())

    thread = threading.Thread(target=watch)
    thread.start()
    begin = time.monotonic()
    try:
        wires, fault = function(door, make, count)
    except (OSError, AssertionError) as error:
        wires, fault = [], repr(error)
    open_files = target.files()
    floods.close(wires)
    # Connections are accepted in their order: with this answer, all of the flood were accepted.
    target.call("GET", "/scopes")
    left = target.files()
    while left > files + OWN_FILES and time.monotonic() < begin + 60:
        time.sleep(0.1)
        left = target.files()
    over.set()
    thread.join()
    print(f"{name} at {target.name}: {count} in {time.monotonic() - begin:.1f} s, RSS {before // 1024} MiB, at most "
          f"{max(highest) // 1024} MiB; open files {files}, {open_files}, {left}", flush=True)
    grown = max(highest) - before
    report.check("floods", f"{name} at {target.name}", fault)
    report.check("memory", f"{name} at {target.name}", count * most + 16_384 < grown and f"{grown} KiB for {count}")
    report.check("open files", f"{name} at {target.name}", files + OWN_FILES < left and f"{left}, before {files}")
    judge(report, f"{name} at {target.name}", neighbour, calm)


def client_of(target, patient=False):
    """Creates two keys and a gateway on a server. Returns a valid client that uses them, and the first key."""
    found = [target.call("POST", "/api-keys", {"name": "subject", "scopes": ["orders:read"]}) for _ in range(2)]
    gateway = target.call("POST", "/api-keys", {"name": "gateway", "scopes": ["api-keys:verify"]})["key"]
    return Neighbour(target.doors, gateway, [(it["key"], it["id"]) for it in found], patient), found[0]["key"]


def crowds(report, binary, work, targets, settings, context):
    """Floods of far more connections than a server may have. Its valid client must be served nevertheless."""
    for name, more, trusted in [("few connections", "", None), ("few connections, TLS", settings, context)]:
        target = Target(binary, work, name, f"max_connections = {floods.LIMIT}\nworkers = 2\n[log]\nlevel = \"warn\"\n{more}", trusted)
        targets.append(target)
        target.start()
        neighbour, subject = client_of(target, patient=True)
        try:
            time.sleep(3)
            calm, make = judge(report, "calm", neighbour, None), shapes.Maker(target.root, subject)
            for flood_name, function, count, most, tls in floods.CROWDS:
                if tls == bool(trusted):
                    flood(report, target, neighbour, calm, flood_name, function, count, most, make)
        finally:
            neighbour.end()
        code, took = target.stop()
        report.check("stop", target.name, (code != 0 or STOP < took) and f"exit code {code} after {took:.1f} s")


def run(binary, rounds, report, work, targets):
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    if limit < 12_000:
        print(f"the hard limit on open files is {limit}: fewer idle connections than 10,000")
    settings, context = certificate(work)
    for name, more, trusted in [("plain", "", None), ("TLS", settings, context)]:
        targets.append(Target(binary, work, name, f"max_connections = 15000\nworkers = 2\n[log]\nlevel = \"warn\"\n{more}", trusted))
    neighbours, subjects = {}, {}
    try:
        for target in targets:
            target.start()
            neighbours[target.name], subjects[target.name] = client_of(target)
        makers = {target.name: shapes.Maker(target.root, subjects[target.name]) for target in targets}
        time.sleep(3)
        workers = {it.name: it.workers() for it in targets}
        calm = {it.name: judge(report, "calm", neighbours[it.name], None) for it in targets}
        with ThreadPoolExecutor(128) as patient, ThreadPoolExecutor(16) as pool:
            slow.start(report, targets, subjects, patient, lambda it: makers[it.name])
            shapes.run(report, targets, subjects, pool)
            for target in targets:
                for door in target.doors:
                    for name, fault in slow.half_closed(door, makers[target.name]) if not door.context else []:
                        report.check("half-closed", f"{door.name}: {name}", fault)
                for name, fault in wrong_doors.cases(target, makers[target.name]):
                    report.check("doors", f"{target.name}: {name}", fault)
                judge(report, "shapes", neighbours[target.name], calm[target.name])
            for _ in range(rounds):
                for name, function, count, most, tls in floods.ALL:
                    for target in targets:
                        if tls is None or tls == bool(target.context):
                            count = min(count, limit - 2000)
                            flood(report, target, neighbours[target.name], calm[target.name], name, function, count, most,
                                  makers[target.name])
            for theme, case, future in report.waiting:
                report.check(theme, case, future)
        for target in targets:
            judge(report, "the end", neighbours[target.name], calm[target.name])
            report.check("workers", target.name, target.workers() != workers[target.name] and f"{target.workers()}")
            report.check("log", target.name, "panicked" in target.log.read_text() and "a thread panicked")
            control = pathlib.Path(target.control.address)
            report.check("control socket", f"{target.name}: mode of its directory", control.parent.stat().st_mode & 0o077)
            neighbours[target.name].end()
            # Clients that say nothing must not delay a stop.
            silent = floods.silent(target.doors[0], None, 20)[0]
            code, took = target.stop()
            floods.close(silent)
            report.check("stop", target.name, (code != 0 or STOP < took) and f"exit code {code} after {took:.1f} s")
        crowds(report, binary, work, targets, settings, context)
    finally:
        for neighbour in neighbours.values():
            neighbour.end()


def main():
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("binary", type=pathlib.Path)
    options.add_argument("--rounds", type=int, default=1, help="how often the floods are repeated")
    options = options.parse_args()
    report, targets = Report(), []
    work = pathlib.Path(tempfile.mkdtemp(prefix="keyward-hostile-"))
    work.chmod(0o755)
    try:
        run(str(options.binary.resolve()), options.rounds, report, work, targets)
    finally:
        for target in targets:
            target.end()
        shutil.rmtree(work, ignore_errors=True)
    for theme in sorted({*report.passed, *report.failed}):
        print(f"{theme}: {report.passed[theme]} passed, {report.failed[theme]} failed")
    print(f"{report.passed.total()} passed, {report.failed.total()} failed")
    sys.exit(1 if report.failed else 0)


if __name__ == "__main__":
    main()
