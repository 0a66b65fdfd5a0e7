#!/usr/bin/env python3
"""Mutation tests: changes the code in many small ways, and finds the changes that no test notices.

    tests/mutants/run.py [--files PATTERN] [--tests PATTERN] [--minutes N] [--workers N]

cargo-mutants lists the mutants; .cargo/mutants.toml says where, and what is left out. Building keyward for each of them
would take days, so keyward-mutants writes all of them into one copy of the source, each behind a switch. Then:

1. `cargo check` names the mutants that do not compile; they are left out.
2. One build makes the tests.
3. Each test runs once alone, and the mutants that it reaches are recorded. A test that fails here is left out.
4. Each mutant is turned on, and the tests that reach it run until one fails, the cheapest first.

Everything is in target/mutants, and a second run continues there. Delete the folder after a change of the source.
Needs cargo-mutants on PATH. A mutant that no test notices is "missed"; one that no test reaches is
"unreached"; one with which a test did not end in time is a "timeout": most of them are endless loops.
"""

import argparse
import collections
import concurrent.futures
import json
import os
import random
import re
import shutil
import subprocess
import tempfile
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
WORK = ROOT / "target/mutants"
TREE = WORK / "tree"
# With this many integration tests a mutant waits, until the others were tried. Then all of its tests run.
FIRST_TESTS = 40
# A test that takes longer, in seconds, is left out. It would have no time left to end with a mutant.
LONGEST = 60
# A unit test that takes longer, in seconds of CPU time, runs alone and last.
SLOW = 0.3


def stored(name, make):
    """Returns what a step made, from the file of an earlier run if there is one."""
    path = WORK / name
    if not path.exists():
        value = make()
        path.write_text(json.dumps(value))
    return json.loads(path.read_text())


def lines(name):
    path = WORK / name
    return [json.loads(line) for line in path.open()] if path.exists() else []


def append(name, value):
    with (WORK / name).open("a") as file:
        file.write(json.dumps(value) + "\n")


def listed():
    """Returns every mutant that cargo-mutants would make."""
    command = ["cargo", "mutants", "--list", "--json"]
    return json.loads(subprocess.run(command, cwd=ROOT, check=True, capture_output=True).stdout)


def copy_of_the_source():
    files = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    for name in filter(None, files.split("\0")):
        (TREE / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, TREE / name)


def written(mutants):
    """Writes the mutants into the copy, without those that do not compile. Returns the numbers of the others."""
    package = ["--manifest-path", "tests/mutants/Cargo.toml", "--target-dir", str(WORK / "tool")]
    subprocess.run(["cargo", "build", "--quiet", "--locked", *package], cwd=ROOT, check=True)
    refused = set()
    while True:
        copy_of_the_source()
        command = [WORK / "tool/debug/keyward-mutants", TREE, WORK / "mutants.json", *map(str, refused)]
        numbers = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        command = ["cargo", "check", "--lib", "--locked", "--message-format=json"]
        checked = subprocess.run(command, cwd=TREE, env=environment(), capture_output=True, text=True)
        if checked.returncode == 0:
            print(f"{len(mutants)} mutants, {len(refused)} do not compile", flush=True)
            return [int(it) for it in numbers.split()]
        found = set(map(mutant_of, checked.stdout.splitlines())) - {None}
        if not found - refused:
            raise SystemExit(f"an error that belongs to no mutant:\n{checked.stderr[-2000:]}")
        refused |= found


def mutant_of(line):
    """Returns the number of the mutant that a message of the compiler is about, if it is an error."""
    message = json.loads(line).get("message")
    if not isinstance(message, dict) or message["level"] != "error":
        return None
    for span in sorted(message["spans"], key=lambda it: not it["is_primary"]):
        path = TREE / span["file_name"]
        text = path.read_bytes()[: span["byte_start"] + 40] if path.exists() else b""
        starts = re.finditer(rb"mutation::on\((\d+)\)", text)
        before = [it for it in starts if it.start() <= span["byte_start"] + 2]
        if before:
            return int(before[-1][1])
    return None


def environment(**more):
    return {**os.environ, "CARGO_TARGET_DIR": str(WORK / "target"), **more}


def built():
    command = ["cargo", "test", "--locked", "--no-run", "--lib", "--test", "it", "--message-format=json"]
    made = subprocess.run(command, cwd=TREE, env=environment(), check=True, capture_output=True, text=True).stdout
    artifacts = [json.loads(line) for line in made.splitlines()]
    return {it["target"]["name"]: it["executable"] for it in artifacts if it.get("executable")
            and it["profile"]["test"]}


def run(binary, tests, seconds, **switches):
    """Returns the outcome of these tests, the name of the first that failed, and the CPU time in seconds."""
    env = {**os.environ, "CARGO_MANIFEST_DIR": str(TREE), "RUST_TEST_THREADS": "2", **switches}
    with tempfile.TemporaryFile("w+", errors="replace") as output:
        process = subprocess.Popen([binary, "--exact", *tests], cwd=TREE, env=env, stdout=output,
                                   stderr=subprocess.DEVNULL)
        late = threading.Event()
        timer = threading.Timer(seconds, lambda: (late.set(), process.kill()))
        timer.start()
        # It gives the CPU time of this process alone, although other workers have processes too.
        _, status, used = os.wait4(process.pid, 0)
        timer.cancel()
        process.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        failed = re.search(r"^test (\S+) \.\.\. FAILED", output.read(), re.MULTILINE)
    cpu = used.ru_utime + used.ru_stime
    if late.is_set():
        return "timeout", tests[0], cpu
    if process.returncode == 0:
        return "passed", None, cpu
    return "caught", failed[1] if failed else tests[0], cpu


def record_reach(binaries, options):
    """Runs each test alone, and records which mutants it reaches."""
    known = {(it["bin"], it["test"]) for it in lines("reach.jsonl")}
    pattern = re.compile(options.tests)
    todo = []
    for name, binary in binaries.items():
        text = subprocess.run([binary, "--list"], cwd=TREE, check=True, capture_output=True, text=True).stdout
        tests = [it.removesuffix(": test") for it in text.splitlines() if it.endswith(": test")]
        todo += [(name, it) for it in tests if (name, it) not in known and pattern.search(it)]
    lock = threading.Lock()

    def record(test):
        with tempfile.NamedTemporaryFile("r") as file:
            started = time.time()
            outcome, _, cpu = run(binaries[test[0]], [test[1]], 180, MUTANTS_REACHED=file.name)
            wall = time.time() - started
            reached = sorted({int(it) for it in file.read().split()})
        with lock:
            append("reach.jsonl", {"bin": test[0], "test": test[1], "ok": outcome == "passed", "cpu": cpu,
                                   "wall": wall, "reached": reached})

    with concurrent.futures.ThreadPoolExecutor(options.workers) as pool:
        list(pool.map(record, todo))


def words(name):
    """Returns the words of a name that can tell its subject, without the end of a plural."""
    return {it.removesuffix("s") for it in re.split(r"[\W_]+", name.lower()) if 3 < len(it)} - {"service", "keyward"}


class Run:
    """The mutants to try, and what the tests said about the earlier ones."""

    def __init__(self, mutants, numbers, binaries, options):
        self.mutants, self.binaries = mutants, binaries
        self.tests, self.reach = {}, collections.defaultdict(list)
        for it in lines("reach.jsonl"):
            if it["ok"] and it["wall"] < LONGEST:
                test = it["bin"], it["test"]
                self.tests[test] = it
                for number in it["reached"]:
                    self.reach[number].append(test)
        outcomes = {it["number"]: it["outcome"] for it in lines("results.jsonl")}
        self.waiting = {number for number, outcome in outcomes.items() if outcome == "waiting"}
        files = re.compile(options.files)
        fresh = [it for it in numbers if it not in outcomes and files.search(mutants[it]["file"])]
        random.Random(1).shuffle(fresh)
        # From the end.
        self.todo = [*self.waiting, *fresh]
        self.deadline = time.time() + options.minutes * 60
        # Which test noticed how many mutants of a function or a file: it goes first for the next one.
        self.noticed = collections.Counter()
        self.lock = threading.Lock()

    def chunks(self, number, function, file):
        """Yields groups of the tests that reach a mutant, in the order in which they run."""
        subject = words(f"{file} {function[1]}")

        def order(test):
            alike = len(subject & words(test[1]))
            return -self.noticed[function, test], -alike, -self.noticed[file, test], self.tests[test]["cpu"]
        tests = sorted(self.reach[number], key=order)
        unit = [it for it in tests if it[0] != "it"]
        quick = [it for it in unit if self.tests[it]["cpu"] < SLOW]
        if quick:
            yield quick
        yield from ([it] for it in unit if it not in quick)
        whole, size = [it for it in tests if it[0] == "it"], 2
        if number not in self.waiting:
            whole = whole[:FIRST_TESTS]
        while whole:
            yield whole[:size]
            whole, size = whole[size:], min(8, size * 2)

    def work(self):
        while True:
            with self.lock:
                if not self.todo or self.deadline < time.time():
                    return
                number = self.todo.pop()
            mutant = self.mutants[number]
            file = mutant["file"]
            function = file, (mutant["function"] or {}).get("function_name")
            reached = self.reach[number]
            more = number not in self.waiting and FIRST_TESTS < sum(it[0] == "it" for it in reached)
            result = {"number": number, "name": mutant["name"], "by": None,
                      "outcome": "waiting" if more else "missed" if reached else "unreached"}
            for tests in self.chunks(number, function, file):
                seconds = 30 + 5 * sum(self.tests[it]["wall"] for it in tests)
                outcome, by, _ = run(self.binaries[tests[0][0]], [name for _, name in tests], seconds,
                                  MUTANT=str(number))
                if outcome != "passed":
                    result.update(outcome=outcome, by=by)
                    break
            with self.lock:
                if result["by"]:
                    test = tests[0][0], result["by"]
                    self.noticed[function, test] += 1
                    self.noticed[file, test] += 1
                if result["outcome"] == "waiting":
                    self.waiting.add(number)
                    self.todo.insert(0, number)
                append("results.jsonl", result)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", default="", help="only mutants of files with this pattern in their path")
    parser.add_argument("--tests", default="", help="only tests with this pattern in their name")
    parser.add_argument("--minutes", type=float, default=600, help="begin no mutant after this time")
    parser.add_argument("--workers", type=int, default=2, help="tests or mutants that run at the same time")
    options = parser.parse_args()
    TREE.mkdir(parents=True, exist_ok=True)
    mutants = stored("mutants.json", listed)
    numbers = stored("numbers.json", lambda: written(mutants))
    binaries = stored("binaries.json", built)
    record_reach(binaries, options)
    tried = Run(mutants, numbers, binaries, options)
    workers = [threading.Thread(target=tried.work) for _ in range(options.workers)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    results = {it["number"]: it for it in lines("results.jsonl")}.values()
    for it in results:
        if it["outcome"] != "caught":
            print(f"{it['outcome']}: {it['name']}")
    print(dict(collections.Counter(it["outcome"] for it in results)), f"{len(tried.todo)} not tried")


if __name__ == "__main__":
    main()
