"""Distorts what a good server answers, and hides parts of requests from it. A check that passes with each distortion
of the answers finds no fault at all. A part that can be ignored without a failing check is not checked at all."""
import inspect
import json
import re
from urllib.parse import parse_qsl, urlencode

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


#: Headers, members and parameters that a server must not ignore.
PARTS = [
    "If-Match", "Idempotency-Key", "X-Request-Id", "X-Forwarded-For", "Last-Event-ID",
    "name", "scopes", "anyScopes", "enabled", "expiresAt", "expiresIn", "metadata", "allowedIps", "rateLimit", "cost",
    "clientIp", "gracePeriodSeconds", "externalId", "allowedScopes", "maxKeys", "status", "keyRateLimit",
    "tokenExchange", "maxKeyLifetimeSeconds", "defaultKeyLifetimeSeconds", "keys", "location", "limit", "cursor",
    "order", "total", "q", "scope", "createdBy", "expiringBefore", "unusedSince", "unusedScopes", "account", "type",
    "subject", "actor", "after", "since", "until", "days", "reason", "audience", "size",
]


def without(part):
    """Returns a function that removes this header, member and parameter from a request."""

    def rewrite(request):
        request = request.without(part)
        path, _, query = request.path.partition("?")
        pairs = parse_qsl(query, keep_blank_values=True)
        if any(name == part for name, _ in pairs):
            left = urlencode([it for it in pairs if it[0] != part])
            request = request.but(path=f"{path}?{left}" if left else path)
        try:
            body = json.loads(request.body or b"")
        except ValueError:
            form = parse_qsl((request.body or b"").decode("latin-1"))
            if any(name == part for name, _ in form):
                return request.but(body=urlencode([it for it in form if it[0] != part]).encode())
            return request
        if isinstance(body, dict) and part in body:
            return request.but(body=json.dumps({name: it for name, it in body.items() if name != part}).encode())
        return request

    return rewrite


def ignorable(checks, adapter, threads):
    """Prints how many checks notice that a part of requests is ignored. Returns the parts that no check misses."""
    found = []
    # A check that may take the root key away would do it in some of these runs.
    safe = [it for it in checks if set(it.needs) <= adapter.provides - {"last_root"}]
    for part in PARTS:
        # Only checks that mention the part can miss it.
        mention = re.compile(rf'"{part}"|\b{part}=')
        about = [it for it in safe if mention.search(inspect.getsource(it.run))]
        if not about:
            continue
        failed = count(run(about, Session(adapter, rewrite=without(part)), threads), "failed")
        print(f"A server that ignores {part}. {failed} of {len(about)} checks fail.", flush=True)
        found += [] if failed else [part]
    return found


def unfailing(checks, adapter, threads):
    """Prints how many checks fail with each distortion. Returns the checks that fail with none."""
    left = [it for it in checks if set(it.needs) <= adapter.provides]
    for distort in DISTORTIONS:
        outcomes = run(left, Session(adapter, distort), threads)
        left = [it.check for it in outcomes if it.how == "passed"]
        print(f"{distort.__doc__} {count(outcomes, 'failed')} of {len(outcomes)} checks fail.", flush=True)
    return left
