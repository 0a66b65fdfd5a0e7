"""Distorts the answers of a good server. A check that passes with each distortion finds no fault at all."""
import json

from suite.runner import count, run
from suite.session import Session
from suite.wire import Answer

# These only make what a check needs, so a check should not fail because of them.
PREPARATION = ("create_key", "create_account")


def accepts(operation, answer):
    """A server that refuses no request."""
    return Answer(200, answer.headers, answer.body) if 400 <= answer.status else answer


def changed(value):
    if isinstance(value, dict):
        return {name: changed(it) for name, it in value.items()}
    if isinstance(value, list):
        return [changed(it) for it in value[1:]]
    if isinstance(value, bool):
        return not value
    return None if isinstance(value, (str, int, float)) else "x"


def misinforms(operation, answer):
    """A server whose answers say something else."""
    if operation in PREPARATION or answer.json is None:
        return answer
    return Answer(answer.status, answer.headers, json.dumps(changed(answer.json)).encode())


def misinforms_all(operation, answer):
    """A server whose answers say something else, also about new objects."""
    if answer.json is None:
        return answer
    return Answer(answer.status, answer.headers, json.dumps(changed(answer.json)).encode())


def omits_headers(operation, answer):
    """A server that sends no headers, and no body that is not JSON."""
    return Answer(answer.status, (), answer.body if answer.json is not None else b"")


def refuses(operation, answer):
    """A server that does nothing but create."""
    return answer if operation in PREPARATION else Answer(500, (), b"")


def refuses_all(operation, answer):
    """A server that does nothing."""
    return Answer(500, (), b"")


DISTORTIONS = [accepts, misinforms, omits_headers, refuses, misinforms_all, refuses_all]


def unfailing(checks, adapter, threads):
    """Prints how many checks fail with each distortion. Returns the checks that fail with none."""
    left = [it for it in checks if set(it.needs) <= adapter.provides]
    for distort in DISTORTIONS:
        outcomes = run(left, Session(adapter, distort), threads)
        left = [it.check for it in outcomes if it.how == "passed"]
        print(f"{distort.__doc__} {count(outcomes, 'failed')} of {len(outcomes)} checks fail.", flush=True)
    return left
