#!/usr/bin/env python3
"""Checks what an API-key server promises, over HTTP alone. README.md has the details.

    tests/conformance/run.py --adapter tests/conformance/adapters/keyward.py --binary target/release/keyward
"""
import argparse
import importlib
import os
import signal
import sys
import time
from pathlib import Path

sys.dont_write_bytecode = True
HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from suite import adapter as adapters  # noqa: E402
from suite import distortion, runner, self_test  # noqa: E402
from suite.check import CHECKS  # noqa: E402
from suite.session import Session  # noqa: E402


def arguments():
    it = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    it.add_argument("--adapter", default=str(HERE / "adapters/keyward.py"), help="the file of the adapter")
    it.add_argument("--binary", help="the program that the adapter starts")
    it.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a setting of the adapter")
    it.add_argument("--only", metavar="TEXT", help="only checks with this text in their theme or promise")
    it.add_argument("--list", action="store_true", help="list the checks, and run none")
    it.add_argument("--markdown", metavar="FILE", help="write a table of the results")
    it.add_argument("--show-skipped", action="store_true", help="print the checks that were skipped, and why")
    it.add_argument("--threads", type=int, default=16, help="how many checks run at the same time")
    it.add_argument("--self-test", action="store_true", help="check the suite with servers that have known faults")
    it.add_argument("--distort", action="store_true", help="find checks that never fail, and what no check looks at")
    return it.parse_args()


def load_checks(only):
    for file in sorted((HERE / "checks").glob("[a-z]*.py")):
        importlib.import_module(f"checks.{file.stem}")
    text = (only or "").lower()
    return [it for it in CHECKS if text in f"{it.theme}: {it.promise}".lower()]


def main():
    options = arguments()
    checks = load_checks(options.only)
    if options.list:
        for it in checks:
            print(f"{it.theme}: {it.promise} [{', '.join(it.needs)}]")
        print(f"{len(checks)} checks")
        return 0
    if options.self_test:
        return self_test.run(checks, HERE / "adapters/toy.py", options.threads)
    settings = {"binary": options.binary} | dict(it.split("=", 1) for it in options.set)
    adapter, begin = adapters.load(options.adapter, settings), time.monotonic()
    # A check that waits must not keep the server of a suite that was ended.
    signal.signal(signal.SIGTERM, lambda *_: (adapter.stop(), os._exit(143)))
    try:
        adapter.start()
        if options.distort:
            left = distortion.unfailing(checks, adapter, options.threads)
            parts = distortion.ignorable(checks, adapter, options.threads)
            for it in left:
                print(f"NEVER FAILS {it.theme}: {it.promise}")
            for it in parts:
                print(f"NOT CHECKED {it}")
            return 1 if left or parts else 0
        outcomes = runner.run(checks, Session(adapter), options.threads)
    finally:
        adapter.stop()
    print(f"{adapter.name}: {len(checks)} checks in {time.monotonic() - begin:.0f} s")
    if options.markdown:
        Path(options.markdown).write_text(runner.markdown(outcomes))
    runner.report(outcomes, options.show_skipped)
    return 1 if any(it.how == "failed" for it in outcomes) or not outcomes else 0


if __name__ == "__main__":
    sys.exit(main())
