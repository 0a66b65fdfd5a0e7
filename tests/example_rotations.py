#!/usr/bin/env python3
"""Tries the rotations of docs/integrate.md against a real keyward: the timer's script and the four steps.

    tests/example_rotations.py target/release/keyward

Needs curl, jq and systemd-analyze.
"""
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

sys.dont_write_bytecode = True
from examples import ROOT, Server, Wire, blocks  # noqa: E402

EXAMPLES = ROOT / "packaging/examples"
SCRIPT = EXAMPLES / "rotate-own-key.sh"
STEPS = EXAMPLES / "dual_phase.py"


class Bench:
    """A keyward, a wire to it that can fail, and one key that may rotate itself."""

    def __init__(self, server, work):
        self.server, self.work = server, work
        self.wire = Wire(server.port)
        self.environment = {**server.environment, "KEYWARD_URL": f"http://127.0.0.1:{self.wire.port}"}

    def new_key(self):
        return self.server.key(scopes=["api-keys:verify", "api-keys:rotate"])

    def verdict(self, key):
        return self.server.call("POST", "/api-keys/verify", {"key": key})["code"]

    def rotations(self, made):
        events = self.server.call("GET", f"/events?subject={made['id']}&type=api_key.rotated")
        return len(events["data"])

    def run(self, command, **settings):
        environment = {**self.environment, **settings}
        return subprocess.run(command, cwd=self.work, env=environment, stdin=subprocess.DEVNULL, text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60)


def expect(found, expected, what):
    assert found == expected, f"{what}: expected {expected!r}, got {found!r}"


def shadow(work, program, text):
    """Puts a program before that of the system, and returns a PATH."""
    directory = work / f"shadow-{program}"
    directory.mkdir(exist_ok=True)
    (directory / program).write_text(f"#!/bin/sh\n{text}\n")
    (directory / program).chmod(0o755)
    return f"{directory}:{os.environ['PATH']}"


def try_script(bench):
    made = bench.new_key()
    file = bench.work / "service" / "keyward.key"
    file.parent.mkdir()
    file.write_text(made["key"] + "\n")
    file.chmod(0o600)

    def rotate(*options, code=0, **settings):
        done = bench.run([SCRIPT, file, *options], **settings)
        expect(done.returncode, code, f"the exit code; it said {done.stdout}")
        key = file.read_text().strip()
        expect(bench.verdict(key), "VALID", "the key in the file always works")
        assert key not in done.stdout and made["key"] not in done.stdout, done.stdout
        expect(file.stat().st_mode & 0o777, 0o600, "the mode of the file")
        return key

    expect(rotate(), made["key"], "a young file stays")
    expect(bench.rotations(made), 0, "rotations")
    day = 86400 + 60
    age = file.stat().st_mtime - day
    os.utime(file, (age, age))
    second = rotate()
    assert second != made["key"]
    expect(bench.verdict(made["key"]), "VALID", "the old credential in its grace period")
    expect(rotate(), second, "a repeated run within a day changes nothing")
    expect(bench.rotations(made), 1, "rotations")

    bench.wire.set("refused")
    expect(rotate("--now", code=1), second, "keyward is stopped")
    bench.wire.set("a 500")
    expect(rotate("--now", code=1), second, "keyward fails")
    bench.wire.set("an empty object")
    expect(rotate("--now", code=1), second, "an answer without a key")
    expect(bench.rotations(made), 1, "rotations")

    bench.wire.set("lose the answer")
    expect(rotate("--now", code=1), second, "the answer is lost")
    expect(bench.rotations(made), 2, "rotations, because keyward made it")
    bench.wire.set("pass")
    third = rotate("--now")
    expect(bench.rotations(made), 2, "rotations: the run after it gets the same answer")
    assert third != second
    # The first two are still in their grace period, so a further rotation has to wait for it.
    expect(rotate("--now", code=1), third, "three live credentials")

    # A crash after the answer, and before the new credential is in its place.
    made = bench.new_key()
    file.write_text(made["key"])
    killed = bench.run([SCRIPT, file, "--now"], PATH=shadow(bench.work, "mv", "kill -9 $PPID; sleep 5"))
    assert killed.returncode == -9, killed.stdout
    expect(file.read_text(), made["key"], "the file after the crash")
    expect(oct((file.parent / "keyward.key.new").stat().st_mode & 0o777), "0o600", "the mode of the new file")
    after = rotate("--now")
    assert after != made["key"]
    expect(bench.rotations(made), 1, "rotations after the crash")
    expect(sorted(it.name for it in file.parent.iterdir()), ["keyward.key"], "files that are left")

    # Other users can read the arguments of a process.
    made = bench.new_key()
    file.write_text(made["key"])
    seen = bench.work / "arguments"
    real = shutil.which("curl")
    rotate("--now", PATH=shadow(bench.work, "curl", f'echo "$@" >>{seen}; exec {real} "$@"'))
    assert "rotate" in seen.read_text() and made["key"][:12] not in seen.read_text(), seen.read_text()

    # A directory that cannot be written to, found before the rotation.
    made = bench.new_key()
    file.write_text(made["key"])
    (file.parent / "keyward.key.new").mkdir()
    assert rotate("--now", code=2) == made["key"]
    expect(bench.rotations(made), 0, "rotations without a place for the credential")
    print("rotate-own-key.sh: passed")


def try_units(bench):
    units = bench.work / "units"
    units.mkdir()
    (units / "orders-api.service").write_text("[Service]\nExecStart=/usr/bin/true\n")
    for name in ["keyward-rotate.service", "keyward-rotate.timer"]:
        text = (EXAMPLES / name).read_text()
        installed = "/usr/local/lib/keyward/rotate-own-key.sh"
        assert name.endswith("timer") or installed in text
        (units / name).write_text(text.replace(installed, str(SCRIPT)))
    verified = bench.run(["systemd-analyze", "verify", "--recursive-errors=yes", *sorted(units.iterdir())])
    expect((verified.returncode, verified.stdout), (0, ""), "systemd-analyze verify")
    print("keyward-rotate.service, keyward-rotate.timer: passed")


def try_steps(bench):
    lines = STEPS.read_text().count("\n")
    assert lines <= 80, f"{lines} lines"
    made = bench.new_key()
    path = bench.work / "store.json"
    path.write_text(json.dumps({"versions": {"v0": made["key"]}, "labels": {"AWSCURRENT": "v0"}}))

    def step(name, token, code=0, **settings):
        done = bench.run([sys.executable, STEPS, path, name, token], **settings)
        expect(done.returncode, code, f"{name} {token}: it said {done.stdout}")
        data = json.loads(path.read_text())
        assert not any(it in done.stdout for it in data["versions"].values()), done.stdout
        current = data["versions"][data["labels"]["AWSCURRENT"]]
        expect(bench.verdict(current), "VALID", f"AWSCURRENT after {name} {token}")
        return data

    all_steps = ["createSecret", "setSecret", "testSecret", "finishSecret"]
    for name in all_steps:
        first = step(name, "v1")
        expect(step(name, "v1"), first, f"{name}, repeated")
    expect(first["labels"], {"AWSCURRENT": "v1", "AWSPENDING": "v1", "AWSPREVIOUS": "v0"}, "labels at the end")
    expect(bench.rotations(made), 1, "rotations")
    expect(path.stat().st_mode & 0o777, 0o600, "the mode of the store")
    expect(bench.verdict(made["key"]), "VALID", "the old credential, which clients may still cache")

    # The credential is lost between keyward and the store. The same rotation finds it again.
    made = bench.new_key()
    path.write_text(json.dumps({"versions": {"v0": made["key"]}, "labels": {"AWSCURRENT": "v0"}}))
    bench.wire.set("lose the answer")
    step("createSecret", "v1", code=1)
    bench.wire.set("pass")
    expect(bench.rotations(made), 1, "rotations after the lost answer")
    step("testSecret", "v1", code=1)  # There is no such version yet.
    step("createSecret", "v1")
    expect(bench.rotations(made), 1, "rotations after the repetition")
    step("testSecret", "v1")
    # The rotation v1 is given up after its test. The next one goes on from the pending credential.
    for name in all_steps:
        last = step(name, "v2")
    expect(last["labels"], {"AWSCURRENT": "v2", "AWSPENDING": "v2", "AWSPREVIOUS": "v0"}, "labels at the end")

    # The lost credential of a rotation that is given up at once: another rotation replaces it.
    made = bench.new_key()
    path.write_text(json.dumps({"versions": {"v0": made["key"]}, "labels": {"AWSCURRENT": "v0"}}))
    bench.wire.set("lose the answer")
    step("createSecret", "v1", code=1)
    bench.wire.set("pass")
    for name in all_steps:
        last = step(name, "v2")
    expect(last["labels"]["AWSCURRENT"], "v2", "the current version")

    # A wrong credential does not become the current one.
    made = bench.new_key()
    path.write_text(json.dumps({"versions": {"v0": made["key"], "v1": made["key"][:-1] + "x"},
                                "labels": {"AWSCURRENT": "v0", "AWSPENDING": "v1"}}))
    step("testSecret", "v1", code=1)
    print("dual_phase.py: passed")


def try_page(bench):
    """Runs the blocks of the page, in order and as they stand."""
    work = bench.work / "page"
    shutil.copytree(EXAMPLES, work / "packaging/examples", ignore=shutil.ignore_patterns("target"))
    create, rotate = blocks("Rotate your own key")
    (steps,) = blocks("Rotation by a secrets manager")
    (test,) = blocks("Test against a real keyward")
    file, found = work / "keyward.key", []
    for block, environment in [(create, bench.server.environment), (rotate, bench.environment),
                               (steps, bench.environment), (test, bench.environment)]:
        done = subprocess.run(["bash", "-euc", block], cwd=work, env=environment, stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60)
        expect(done.returncode, 0, f"{block} said {done.stdout}")
        found.append(file.read_text().strip())
    assert found[0] != found[1] == found[2], "the block rotated the key in the file"
    store = json.loads((work / "store.json").read_text())
    expect(store["labels"]["AWSCURRENT"], "rotation-1", "the current version")
    expect(bench.verdict(store["versions"]["rotation-1"]), "VALID", "the current version")
    print("the blocks of docs/integrate.md: passed")


def main():
    with tempfile.TemporaryDirectory(prefix="keyward-rotations-") as directory:
        work = pathlib.Path(directory)
        server = Server(os.path.realpath(sys.argv[1]), work)
        try:
            server.start()
            bench = Bench(server, work)
            try_script(bench)
            try_units(bench)
            try_steps(bench)
            try_page(bench)
        finally:
            server.end()


main()
