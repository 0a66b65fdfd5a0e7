"""The life of a key, with the client that openapi-python-client makes."""
import os
from collections.abc import Sequence
from datetime import datetime, timezone
from http import HTTPStatus
from typing import TypeVar
from uuid import uuid4

from keyward_client import AuthenticatedClient
from keyward_client.api.api_keys import (
    create_api_key,
    get_api_key,
    list_api_keys,
    patch_api_key,
    revoke_api_key,
    rotate_api_key,
)
from keyward_client.api.audit_log import list_events
from keyward_client.api.verification import verify_api_key
from keyward_client.models import (
    ApiKey,
    CreateKeyRequest,
    EventType,
    ListOrder,
    Metadata,
    Problem,
    RateLimit,
    RotateKeyRequest,
    UpdateKeyRequest,
    VerifyCode,
    VerifyKeyRequest,
)
from keyward_client.types import UNSET, Unset

keyward = AuthenticatedClient(
    base_url=os.environ["KEYWARD_URL"], token=os.environ["KEYWARD_KEY"], raise_on_unexpected_status=True
)
T = TypeVar("T")


class KeywardError(Exception):
    def __init__(self, problem: Problem) -> None:
        super().__init__(f"{problem.code}: {problem.detail}")
        self.problem = problem


def ok(answer: T | Problem | None) -> T:
    """Returns an answer, or raises its problem."""
    if isinstance(answer, Problem):
        raise KeywardError(answer)
    assert answer is not None
    return answer


def problem_of(answer: object) -> Problem:
    assert isinstance(answer, Problem), answer
    return answer


def text_of(key: ApiKey) -> str:
    assert isinstance(key.key, str), "this answer holds the full key"
    return key.key


def verify(key: str, scopes: Sequence[str] = ()) -> VerifyCode:
    question = VerifyKeyRequest(key=key, scopes=list(scopes))
    outcome = ok(verify_api_key.sync(client=keyward, body=question))
    assert outcome.valid == (outcome.code is VerifyCode.VALID)
    return outcome.code


# Create. A repeated request gets the same answer.
settings = CreateKeyRequest(
    name="Orders",
    scopes=["orders:read"],
    expires_in=86400,
    allowed_ips=["203.0.113.0/24"],
    rate_limit=RateLimit(limit=100, window_seconds=60),
    metadata=Metadata.from_dict({"team": "billing", "tier": 2}),
)
idempotency_key = str(uuid4())
created = ok(create_api_key.sync(client=keyward, body=settings, idempotency_key=idempotency_key))
repeated = create_api_key.sync_detailed(client=keyward, body=settings, idempotency_key=idempotency_key)
assert repeated.status_code is HTTPStatus.CREATED
assert repeated.headers["Idempotency-Replayed"] == "true"
assert repeated.parsed == created
assert created.metadata["team"] == "billing" and created.metadata["tier"] == 2
assert created.expires_at and created.expires_at > datetime.now(timezone.utc)

# Verify. The list of addresses refuses a client whose address is unknown.
assert verify(text_of(created)) is VerifyCode.IP_NOT_ALLOWED

# Change the key, but only the revision that was read. None clears a member.
read = get_api_key.sync_detailed(created.id, client=keyward)
etag = read.headers["ETag"]
patch = UpdateKeyRequest(allowed_ips=None, expires_at=None)
changed = ok(patch_api_key.sync(created.id, client=keyward, body=patch, if_match=etag))
assert changed.allowed_ips is None and changed.expires_at is None
assert changed.rate_limit and changed.rate_limit.limit == 100
late = patch_api_key.sync_detailed(created.id, client=keyward, body=UpdateKeyRequest(name="Late"), if_match=etag)
assert late.status_code is HTTPStatus.PRECONDITION_FAILED
assert problem_of(late.parsed).code == "precondition_failed"
assert verify(text_of(created)) is VerifyCode.VALID
assert verify(text_of(created), ["orders:write"]) is VerifyCode.INSUFFICIENT_SCOPES

# Rotate. Both credentials are accepted until the grace period ends.
grace = RotateKeyRequest(grace_period_seconds=300)
rotated = ok(rotate_api_key.sync(created.id, client=keyward, body=grace))
assert rotated.key != created.key
assert [it.key_prefix for it in rotated.previous_keys] == [created.key_prefix]
assert verify(text_of(created)) is VerifyCode.VALID
assert verify(text_of(rotated)) is VerifyCode.VALID

# Revoke.
assert revoke_api_key.sync(created.id, client=keyward, reason="the test ends") is None
assert verify(text_of(created)) is VerifyCode.REVOKED
assert verify(text_of(rotated)) is VerifyCode.REVOKED

# Refusals.
gone = get_api_key.sync_detailed(created.id, client=keyward)
assert gone.status_code is HTTPStatus.NOT_FOUND
assert problem_of(gone.parsed).code == "not_found"
faulty = CreateKeyRequest(name="", scopes=["orders:fly"])
problem = problem_of(create_api_key.sync(client=keyward, body=faulty))
assert problem.status == 422 and problem.errors
assert [(it.pointer, it.code) for it in problem.errors] == [
    ("/name", "out_of_range"),
    ("/scopes/0", "unknown_scope"),
]

# Lists, page by page.
for name in ("One", "Two", "Three"):
    ok(create_api_key.sync(client=keyward, body=CreateKeyRequest(name=name, scopes=["orders:read"])))
names: list[str] = []
cursor: str | Unset = UNSET
while True:
    page = ok(list_api_keys.sync(client=keyward, limit=2, cursor=cursor, scope="orders:read"))
    names += [it.name for it in page.data]
    if page.next_cursor is None:
        break
    cursor = page.next_cursor
assert names == ["One", "Two", "Three"]

# Events.
events = ok(list_events.sync(client=keyward, type_=EventType.API_KEY_REVOKED, order=ListOrder.DESC, limit=1))
assert events.data[0].type_ == EventType.API_KEY_REVOKED
assert events.data[0].subject == created.id
assert events.data[0].data["reasonText"] == "the test ends"

# The stream of events: the first message says where it begins. The method of the client would wait for its end.
with keyward.get_httpx_client().stream("GET", "/api/v1/events/stream") as stream:
    assert any(line.startswith("id:") for line in stream.iter_lines())

print("Python: the life of a key")
