"""How a check is declared, and what it compares with."""
import time
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Callable

from suite.adapter import CAPABILITIES

CHECKS = []


class TooSlow(Exception):
    """The machine was too slow for a check that depends on time. The runner repeats the check."""


@dataclass(frozen=True)
class Check:
    theme: str
    #: What the server promises, in a sentence.
    promise: str
    #: What the promise is for: a standard, a danger, or the servers whose own tests demand the same.
    what_for: str
    needs: tuple
    run: Callable


def theme(name):
    """Returns the decorator of the checks of a theme: the promise, what it is for, and the capabilities it needs."""

    def declare(promise, what_for, *needs):
        unknown = set(needs) - CAPABILITIES.keys()
        assert needs and not unknown, f"{promise}: {unknown or 'needs nothing'}"
        assert all(it.promise != promise for it in CHECKS), f"{promise}: there are two of it"

        def add(run):
            CHECKS.append(Check(name, promise, what_for, needs, run))
            return run

        return add

    return declare


def equal(found, expected, what=""):
    assert found == expected, f"{what + ': ' if what else ''}expected {expected!r}, found {found!r}"


def instant(seconds_from_now=0.0):
    """Returns an instant as RFC 3339 in UTC with milliseconds."""
    then = datetime.now(timezone.utc) + timedelta(seconds=seconds_from_now)
    return then.strftime("%Y-%m-%dT%H:%M:%S.") + f"{then.microsecond // 1000:03}Z"


def seconds_until(text):
    return (datetime.fromisoformat(text) - datetime.now(timezone.utc)).total_seconds()


def wait_until(text):
    """Waits until the instant has passed, by the clock of this machine."""
    assert seconds_until(text) < 60, f"{text} is later than a check of this suite asks for"
    while -0.02 < (left := seconds_until(text)):
        time.sleep(max(left + 0.02, 0.005))


def before(text, ask):
    """Returns what `ask` returns, if it returned before the instant."""
    found = ask()
    if seconds_until(text) <= 0:
        raise TooSlow
    return found


def eventually(ask, what, within=20):
    """Asks until the answer is true, and returns it."""
    end = time.monotonic() + within
    while not (found := ask()):
        assert time.monotonic() < end, f"{what}: not within {within} s"
        time.sleep(0.05)
    return found
