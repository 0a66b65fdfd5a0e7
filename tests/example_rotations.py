#!/usr/bin/env python3
"""Tries the rotations of docs/integrate.md against a real keyward: the timer's script and the four steps.

    tests/example_rotations.py target/release/keyward

Needs curl, jq and systemd-analyze.
"""
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

sys.dont_write_bytecode = True
from examples import ROOT, Port, Server, Wire, blocks  # noqa: E402

EXAMPLES = ROOT / "packaging/examples"
SCRIPT = EXAMPLES / "rotate-own-key.sh"
STEPS = EXAMPLES / "dual_phase.py"
TEST = EXAMPLES / "test_with_keyward.py"


class Bench:
    """A keyward, a wire to it that can fail, and one key that may rotate itself."""

    def __init__(self, server, work):
        self.server, self.work = server, work
        self.wire = Wire(server.port)
        # With a slash at its end here, and without one in `try_page`.
        self.environment = {**server.environment, "KEYWARD_URL": f"http://127.0.0.1:{self.wire.port}/"}
        self.environment = {name: it for name, it in self.environment.items() if name.lower() != "no_proxy"}

    def new_key(self):
        return self.server.key(scopes=["api-keys:verify", "api-keys:rotate"])

    def verdict(self, key):
        return self.server.call("POST", "/api-keys/verify", {"key": key})["code"]

    def rotations(self, made):
        events = self.server.call("GET", f"/events?subject={made['id']}&type=api_key.rotated")
        return len(events["data"])

    def run(self, command, **settings):
        # The programs must ask keyward directly: a proxy from the environment could read the keys.
        self.dead = Port()
        proxies = {it: f"http://127.0.0.1:{self.dead.number}" for it in ["http_proxy", "HTTP_PROXY", "ALL_PROXY"]}
        environment = {**self.environment, **proxies, **settings}
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


def try_files(bench):
    """The file of the service: a link to it, its age, its owner and mode, and a file that is missing."""
    made = bench.new_key()
    shared, own = bench.work / "shared", bench.work / "own"
    shared.mkdir(), own.mkdir()
    target, link = shared / "real.key", own / "keyward.key"
    target.write_text(made["key"])
    target.chmod(0o640)
    other = os.getuid() == 0
    if other:
        os.chown(target, 12345, 23456)
    link.symlink_to("../shared/real.key")
    os.utime(link, (0, 0), follow_symlinks=False)

    def rotate(*options, code=0, **settings):
        done = bench.run([SCRIPT, link, *options], **settings)
        expect(done.returncode, code, f"the exit code; it said {done.stdout}")
        return done.stdout

    said = rotate()
    expect(bench.rotations(made), 0, f"rotations for an old link to a young file: it said {said}")
    os.utime(target, (0, 0))
    os.utime(link, follow_symlinks=False)
    rotate()
    found = target.stat()
    assert target.read_text() != made["key"], "a young link to an old file"
    expect((link.is_symlink(), link.read_text()), (True, target.read_text()), "the link")
    expect(bench.verdict(target.read_text().strip()), "VALID", "the key in the file of the link")
    expect((oct(found.st_mode & 0o777), found.st_uid, found.st_gid),
           ("0o640", *((12345, 23456) if other else (os.getuid(), os.getgid()))), "mode, owner and group")
    expect([it.name for it in [*shared.iterdir(), *own.iterdir()]], ["real.key", "keyward.key"], "files that are left")

    # A file that its owner may only read; the run after a crash finds a new file like it.
    made = bench.new_key()
    target.write_text(made["key"])
    target.chmod(0o400)
    (shared / "real.key.new").touch(0o400)
    rotate("--now")
    expect(oct(target.stat().st_mode & 0o777), "0o400", "the mode")

    # Another owner, or another group, too. A new group must not read the file, and the script says what changed.
    failing = os.environ["PATH"]
    for program, mode in [("chown", "640"), ("chgrp", "600")]:
        failing = f"{shadow(bench.work, program, 'exit 1').partition(':')[0]}:{failing}"
        made = bench.new_key()
        target.write_text(made["key"])
        target.chmod(0o640)
        if other:
            os.chown(target, 12345, 23456)
        said = rotate("--now", PATH=failing)
        assert target.read_text() != made["key"], said
        expect(oct(target.stat().st_mode & 0o777), f"0o{mode}", f"the mode if {program} fails")
        expect(bool(re.search(rf"were \S+ 640 and are now \S+ {mode}$", said)), other or mode == "600", said)

    # keyward refuses: no file is left.
    bench.wire.set("a 500")
    rotate("--now", code=1)
    bench.wire.set("pass")
    expect([it.name for it in shared.iterdir()], ["real.key"], "files that are left after a refusal")

    target.unlink()
    for name in [link, own / "missing.key", own]:
        for options in [], ["--now"]:
            done = bench.run([SCRIPT, name, *options])
            expect((done.returncode, done.stdout), (2, f"{name} is not a file that can be read\n"), "a missing file")
    expect([it.name for it in [*shared.iterdir(), *own.iterdir()]], ["keyward.key"], "files that are left")
    done = bench.run([SCRIPT])
    assert done.returncode == 2 and re.fullmatch(r".*the name of the file is missing.*\n", done.stdout), done.stdout
    print("rotate-own-key.sh, its file: passed")


def try_the_test(bench):
    """The test of the page ends its server if the test cannot begin."""
    program, note = bench.work / "no-keyward", bench.work / "no-keyward.pid"
    program.write_text(f"#!/bin/sh\necho $$ >{note}\necho no address\nexec sleep 300\n")
    program.chmod(0o755)
    try:
        done = bench.run([sys.executable, TEST], KEYWARD=str(program))
    finally:
        left = subprocess.run(["kill", "-9", note.read_text().strip()], stderr=subprocess.DEVNULL).returncode == 0
    expect((done.returncode, left), (1, False), f"the exit code, and whether the server still runs: {done.stdout}")
    done = bench.run([sys.executable, TEST])
    expect(done.returncode, 0, f"the test beside a proxy; it said {done.stdout}")
    print("test_with_keyward.py: passed")


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
    environment = {**bench.environment, "KEYWARD_URL": bench.environment["KEYWARD_URL"].rstrip("/")}
    shutil.copytree(EXAMPLES, work / "packaging/examples", ignore=shutil.ignore_patterns("target"))
    create, rotate = blocks("Rotate your own key")
    (steps,) = blocks("Rotation by a secrets manager")
    (test,) = blocks("Test against a real keyward")
    file, found = work / "keyward.key", []
    for block, used in [(create, bench.server.environment), (rotate, environment), (steps, environment),
                        (test, environment)]:
        done = subprocess.run(["bash", "-euc", block], cwd=work, env=used, stdin=subprocess.DEVNULL,
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
            try_files(bench)
            try_the_test(bench)
            try_units(bench)
            try_steps(bench)
            try_page(bench)
        finally:
            server.end()


main()
