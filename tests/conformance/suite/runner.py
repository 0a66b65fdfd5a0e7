"""Runs checks on threads, and prints what came out."""
import traceback
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from suite.check import Check, TooSlow

ROOT = str(Path(__file__).resolve().parent.parent)
# How often a check may be too slow for what it measures.
ATTEMPTS = 4


@dataclass(frozen=True)
class Outcome:
    check: Check
    #: passed, failed or skipped
    how: str
    why: str = ""


def place(error):
    """Returns the last line of a check in a traceback."""
    frames = [it for it in traceback.extract_tb(error.__traceback__) if it.filename.startswith(f"{ROOT}/checks/")]
    return f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else "outside of the checks"


def outcome(check, session):
    missing = [it for it in check.needs if it not in session.adapter.provides]
    if missing:
        return Outcome(check, "skipped", f"the server has no {', '.join(missing)}")
    for attempt in range(ATTEMPTS):
        try:
            check.run(session)
            return Outcome(check, "passed")
        except TooSlow:
            why = f"the machine was too slow, {attempt + 1} times"
        except Exception as error:
            text = " ".join(f"{type(error).__name__}: {error}".removeprefix("AssertionError: ").split())
            return Outcome(check, "failed", f"{text[:500]} ({place(error)})")
    return Outcome(check, "failed", why)


def run(checks, session, threads):
    """Runs the checks at the same time, and after them those that may take the root key away."""
    is_last = lambda it: "last_root" in it.needs
    with ThreadPoolExecutor(threads) as pool:
        outcomes = list(pool.map(lambda it: outcome(it, session), [it for it in checks if not is_last(it)]))
    return outcomes + [outcome(it, session) for it in checks if is_last(it)]


def count(outcomes, how):
    return sum(1 for it in outcomes if it.how == how)


def report(outcomes, show_skipped):
    """Prints a line for each failure, and the counts in the last line."""
    for it in outcomes:
        if it.how == "failed" or it.how == "skipped" and show_skipped:
            print(f"{it.how.upper()} {it.check.theme}: {it.check.promise}: {it.why}")
    counts = [f"{count(outcomes, how)} {how}" for how in ("passed", "failed", "skipped")]
    print(", ".join(counts), flush=True)


def markdown(outcomes):
    """Returns a table of the outcomes."""
    cell = lambda text: text.replace("|", "\\|")
    line = lambda it: f"| {it.check.theme} | {cell(it.check.promise)} | {cell(it.check.what_for)} | {it.how} |"
    rows = [line(it) for it in outcomes]
    return "\n".join(["| theme | promise | what for | result |", "| --- | --- | --- | --- |", *rows, ""])
