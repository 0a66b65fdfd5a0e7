"""What a check can do with the server: operations by name, and short forms of the most frequent ones."""
import itertools
import os
from concurrent.futures import ThreadPoolExecutor

from suite.check import equal
from suite.wire import Answer, send, send_bytes

#: Scopes that any key may have. An adapter translates them if its server has others.
READ, WRITE, OTHER, OTHER_WRITE = "orders:read", "orders:write", "products:read", "products:write"
#: An id that has the right form, and a plaintext key that no server made.
ABSENT = "key_0000000000000000000000"
ABSENT_ACCOUNT = "acct_0000000000000000000000"
WRONG_KEY = "invalid_key_12345"
ROOT = object()
COUNTER = itertools.count()


class Session:
    def __init__(self, adapter, distort=None, rewrite=None):
        self.adapter = adapter
        # Change an answer and a request, to find checks that never fail.
        self.distort, self.rewrite = distort, rewrite

    @property
    def root(self):
        return self.adapter.root

    def unique(self, word="it"):
        """Returns a text that no other check uses, on this run of the suite or an earlier one."""
        return f"{word}-{os.getpid():x}-{id(self) & 0xFFFFFF:x}-{next(COUNTER)}"

    def request(self, operation, caller=ROOT, headers=(), **parts):
        """Returns the request of an operation."""
        request = self.adapter.request(operation, **parts)
        key = self.root if caller is ROOT else caller
        return request.plus(*([] if key is None else self.adapter.present(key)), *headers)

    def transmit(self, request, operation=None):
        request = self.rewrite(request) if self.rewrite else request
        answer = send(self.adapter.address, request)
        return self.distort(operation, answer) if self.distort else answer

    def transmit_bytes(self, text):
        status = send_bytes(self.adapter.address, text)
        return self.distort(None, Answer(status, (), b"{}")).status if self.distort else status

    def send(self, operation, caller=ROOT, headers=(), **parts):
        """Sends an operation and returns the answer, good or bad."""
        return self.transmit(self.request(operation, caller, headers, **parts), operation)

    def ok(self, operation, caller=ROOT, headers=(), **parts):
        """Sends an operation that must succeed, and returns its result."""
        answer = self.send(operation, caller, headers, **parts)
        assert 200 <= answer.status < 300, f"{operation}: {answer}"
        return self.adapter.result(operation, answer)

    def refusal(self, answer, kind, reason=None, fault=None):
        """Checks that an answer is a refusal of this kind. Reason and fault count if the server tells them."""
        statuses = self.adapter.statuses[kind]
        assert answer.status in statuses, f"expected {kind} ({statuses}), got {answer}"
        if reason and "reasons" in self.adapter.provides:
            equal(self.adapter.reason(answer), reason, "the reason")
        if fault and "faults" in self.adapter.provides:
            found = self.adapter.faults(answer)
            assert fault in found, f"expected the fault {fault}, found {sorted(found)}"
        return answer

    def refused(self, operation, kind, reason=None, fault=None, caller=ROOT, headers=(), **parts):
        """Sends an operation that must be refused, and returns the answer."""
        return self.refusal(self.send(operation, caller, headers, **parts), kind, reason, fault)

    # Short forms.

    def key(self, *scopes, caller=ROOT, account=None, **settings):
        """Creates a key and returns it."""
        body = {"name": "A key", "scopes": list(scopes or [READ]), **settings}
        return self.ok("create_key", caller, account=account, body=body)

    def account(self, **settings):
        """Creates an account and returns it. Its member `apiKey` is its first key."""
        return self.ok("create_account", body={"name": "Acme", **settings})

    def verify(self, key, **question):
        return self.ok("verify", body={"key": key, **question})

    def code(self, key, **question):
        """Returns the code of the verdict, after a look at whether `valid` says the same."""
        verdict = self.verify(key, **question)
        equal(verdict["valid"], verdict["code"] == "VALID", "valid")
        return verdict["code"]

    def show(self, key, caller=ROOT):
        return self.ok("get_key", caller, id=key["id"])

    def update(self, key, caller=ROOT, headers=(), **changes):
        return self.ok("update_key", caller, headers, id=key["id"], body=changes)

    def revoke(self, key, caller=ROOT):
        return self.ok("revoke_key", caller, id=key["id"])

    def rotate(self, key, caller=ROOT, **options):
        return self.ok("rotate_key", caller, id=key["id"], body=options or None)

    def keys(self, caller=ROOT, account=None, **query):
        """Returns one page of the list of keys."""
        return self.ok("list_keys", caller, account=account, query=query)["data"]

    def events(self, caller=ROOT, **query):
        return self.ok("list_events", caller, query=query)["data"]

    def at_once(self, count, act):
        """Calls `act` with 0, 1, … on as many threads, and returns what it returned."""
        with ThreadPoolExecutor(count) as threads:
            return list(threads.map(act, range(count)))
