#!/usr/bin/env python3
"""Makes a client of the API document with each generator of docs/clients.md, and uses it against a real keyward.

    tests/clients.py target/release/keyward [NAME...]

Each block of commands in the page is run as it stands, in a directory of its own. The example of the page and the
program of tests/clients must pass the checks of their language without a warning, and run. Needs npm, Python 3.11
and cargo; takes packages from npm, PyPI and crates.io.
"""
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs/clients.md").read_text()
# Where the example goes, then the commands that check both programs and the commands that run them.
LANGUAGES = {
    "TypeScript": ("example.ts", ["npx tsc --project ."], ["node life.js", "node example.js"]),
    "Python": ("example.py", [
        "venv/bin/pip install --quiet --disable-pip-version-check mypy==2.4.1",
        # The generator's own code does not pass as strict.
        "venv/bin/mypy --strict --follow-imports=silent example.py life.py",
    ], ["venv/bin/python life.py", "venv/bin/python example.py"]),
    "Rust": ("src/bin/example.rs", ["cargo fmt --check", "cargo build --locked --quiet"],
             ['"$CARGO_TARGET_DIR/debug/life"', '"$CARGO_TARGET_DIR/debug/example"']),
}
# SIGTERM also ends the server and removes the directory.
signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))


def blocks(heading, kind):
    """Returns the blocks of this kind below a heading, up to the next heading."""
    section = re.search(rf"^##+ {re.escape(heading)}$(.*?)(?=^##|\Z)", PAGE, re.M | re.S)
    return re.findall(rf"^```{kind}\n(.*?)^```$", section[1], re.M | re.S)


class Server:
    """keyward itself, with an empty database, on a port that the system chooses."""

    def __init__(self, binary, work):
        self.environment = {name: it for name, it in os.environ.items()
                            if not name.startswith("KEYWARD_") and name != "PYTHONPATH"}
        command = [binary, "serve", "--listen", "127.0.0.1:0", "--data-dir", work / "data"]
        with open(work / "keyward.log", "wb") as log:
            self.process = subprocess.Popen(
                command, env=self.environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, text=True)
        try:
            address = re.search(r"http://[0-9.:]+", self.process.stdout.readline())
            assert address, (work / "keyward.log").read_text()
            key = (work / "data/initial-root-key").read_text().strip()
        except BaseException:
            self.end()
            raise
        target = pathlib.Path(binary).parent.parent / "clients"
        self.environment |= {
            "CARGO_TARGET_DIR": str(target),
            "KEYWARD_KEY": key,
            "KEYWARD_URL": address[0],
            "PATH": f"{pathlib.Path(binary).parent}:{os.environ['PATH']}",
        }

    def end(self):
        self.process.terminate()
        assert self.process.wait(60) == 0


def run(command, server, work):
    """Runs a block of commands. Output other than progress is a warning, so it is shown."""
    done = subprocess.run(["bash", "-euo", "pipefail", "-c", command], cwd=work, env=server.environment, text=True,
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=900)
    assert done.returncode == 0, f"{command}\n{done.stdout}"
    assert not re.search(r"\bwarning\b", done.stdout, re.I), f"{command}\n{done.stdout}"
    return done.stdout


def try_language(name, binary, work):
    example, checks, programs = LANGUAGES[name]
    shutil.copytree(ROOT / "tests/clients" / name.lower(), work, dirs_exist_ok=True)
    written, = blocks(name, {"TypeScript": "ts"}.get(name, name.lower()))
    (work / example).write_text(written)
    for dependencies in blocks(name, "toml"):
        assert dependencies in (work / "Cargo.toml").read_text(), "the dependencies of the page are others"
    begin = time.monotonic()
    server = Server(binary, work)
    try:
        for command in blocks(name, "sh"):
            run(command, server, work)
        made = time.monotonic()
        for command in checks:
            run(command, server, work)
        checked = time.monotonic()
        said = [run(program, server, work) for program in programs]
        assert said[0] == f"{name}: the life of a key\n", said
        assert re.fullmatch(r"key_\w{22} \S*active\n", said[1], re.I), said
    finally:
        server.end()
    print(f"{name}: made in {made - begin:.0f} s, checked in {checked - made:.0f} s, used in "
          f"{time.monotonic() - checked:.0f} s", flush=True)


def main():
    binary = os.path.realpath(sys.argv[1])
    names = sys.argv[2:] or list(LANGUAGES)
    known = sum(len(blocks(it, "sh")) for it in LANGUAGES)
    assert PAGE.count("\n```sh\n") == known, "docs/clients.md has a block that no test runs"
    for name in names:
        with tempfile.TemporaryDirectory(prefix="keyward-clients-") as work:
            try_language(name, binary, pathlib.Path(work))


if __name__ == "__main__":
    main()
