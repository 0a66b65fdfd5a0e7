"""What the suite needs to know about a server. README.md explains how to write an adapter."""
import importlib.util
import inspect
from pathlib import Path

#: What a server can have, and what the checks of it use. A check names what it needs.
CAPABILITIES = {
    "create": "create_key, with name and scopes",
    "verify": "verify, with the plaintext key",
    "revoke": "revoke_key",
    "scopes": "verify with scopes",
    "catalogue": "list_scopes",
    "get": "get_key",
    "self": "get_key of the id `self`: what the presented key is",
    "self_revoke": "revoke_key of the id `self`, without a scope",
    "last_root": "the root key stays; a server without this promise loses it, so its check runs after all others",
    "update": "update_key",
    "prefix": "the member keyPrefix, which is an id, too",
    "list": "list_keys with limit and cursor",
    "filters": "list_keys with status, scope, createdBy, expiringBefore, unusedSince, q, order, total",
    "metadata": "the member metadata",
    "disable": "the member enabled",
    "expiry": "the member expiresAt",
    "expires_in": "the member expiresIn",
    "lifetimes": "the members maxKeyLifetimeSeconds and defaultKeyLifetimeSeconds of accounts",
    "reasons": "`reason` of the adapter: which word refused a request",
    "faults": "`faults` of the adapter: which members are wrong",
    "etag": "ETag and If-Match",
    "rotation": "rotate_key with gracePeriodSeconds, complete_rotation",
    "self_rotation": "rotate_key of the id `self`",
    "leak_reports": "report_leak",
    "accounts": "create_account, get_account, update_account, delete_account, list_accounts; keys in accounts",
    "suspend": "the member status of accounts",
    "privilege": "the scopes api-keys:read, api-keys:write and so on",
    "quota": "the member maxKeys of accounts",
    "rate_limits": "the members rateLimit and keyRateLimit, and cost of verify",
    "address_lists": "the member allowedIps, and clientIp of verify",
    "client_address": "X-Forwarded-For from a trusted proxy",
    "idempotency": "Idempotency-Key",
    "usage": "lastUsedAt, key_usage, account_usage",
    "least_privilege": "unusedScopes and key_addresses",
    "console_links": "create_console_link",
    "events": "list_events, get_event",
    "stream": "event_stream, as server-sent events",
    "proofs": "list_checkpoints, last_checkpoint, checkpoint_key, event_proof, checkpoint_consistency",
    "tokens": "exchange, token_keys, token_metadata, token_status",
    "forward_auth": "ask, with scopes and without a policy",
    "policy": "ask on the mounts of the adapter, with the routes of README.md",
    "problems": "errors as problem documents (RFC 9457)",
    "strict": "unknown members and parameters are refused",
    "http": "the rules of HTTP on each operation",
    "no_hsts": "Strict-Transport-Security is left to the proxy",
    "health": "live, ready, api_document, metrics",
    "import": "`import_rows` of the adapter",
    "webhooks": "`deliveries` and `webhook_secret` of the adapter",
}


class Adapter:
    """Starts a server, or connects to one, and says how each operation looks in its HTTP."""

    #: The name in the report.
    name = ""
    #: Names of CAPABILITIES. Checks that need another one are skipped.
    provides = frozenset()
    #: The statuses with which the server refuses a request, by what is wrong with it.
    statuses = {
        "unauthenticated": [401],
        "forbidden": [403],
        "not_found": [404],
        "method": [405],
        "conflict": [409],
        "changed": [412],
        "too_large": [413],
        "media_type": [415],
        "invalid": [400, 422],
        "malformed": [400],
        "too_many": [429],
    }
    #: The places at which a proxy asks about a request: names for `ask`.
    mounts = ()
    #: Host and port, and a key that may do everything. Known after `start`.
    address = root = None

    def __init__(self, settings):
        """Takes the settings of the command line, as a dictionary: `binary`, and each `--set NAME=VALUE`."""
        self.settings = settings

    def start(self):
        """Returns when the server answers requests."""

    def stop(self):
        """Ends what `start` began, also after a failed start."""

    def present(self, key):
        """Returns the headers with which a caller presents its key, as pairs."""
        return [("Authorization", f"Bearer {key}")]

    def request(self, operation, **parts):
        """Returns the `Request` of an operation, without the caller's key."""
        raise NotImplementedError(operation)

    def result(self, operation, answer):
        """Returns the body of a successful answer in the suite's form."""
        return answer.json

    def reason(self, answer):
        """Returns the word with which the server refused a request, in the suite's form."""
        return None

    def faults(self, answer):
        """Returns what is wrong with the members of a body, as a set of (JSON pointer, word)."""
        return set()


def load(path, settings):
    """Returns the adapter of a file: an instance of the one class in it that is an Adapter."""
    spec = importlib.util.spec_from_file_location(f"adapter_{Path(path).stem}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    is_one = lambda it: inspect.isclass(it) and issubclass(it, Adapter) and it.__module__ == module.__name__
    found = [it for it in vars(module).values() if is_one(it)]
    if len(found) != 1:
        raise SystemExit(f"{path}: expected one class that is an Adapter, found {len(found)}")
    unknown = found[0].provides - CAPABILITIES.keys()
    if unknown:
        raise SystemExit(f"{path}: unknown capabilities: {', '.join(sorted(unknown))}")
    return found[0](settings)
