"""The failures that the API document cannot prevent, each with its reason.

A rule has a check of Schemathesis, the operations, what the failure is about (a pointer of a 422, or `None`, and a
code), and the reason. In a pointer, `*` stands for any text.
"""
import fnmatch
import json

ACCEPTED, REJECTED, SERVER_ERROR = "ST201", "ST202", "ST101"
LISTS_OF_KEYS = {"listApiKeys", "listAccountApiKeys"}
CHANGES_OF_KEYS = {"updateApiKey", "patchApiKey", "updateOwnApiKey", "patchOwnApiKey"}
CHANGES_OF_ACCOUNTS = {"updateAccount", "patchAccount", "updateOwnAccount", "patchOwnAccount"}
WITH_EXPIRY = {"createApiKey", "createAccountApiKey"} | CHANGES_OF_KEYS
WITH_LIMITED_EXPIRY = {"createAccountApiKey", "updateApiKey", "patchApiKey"}
WITH_NAMES = {"createAccount", "createConsoleLink"} | WITH_EXPIRY | CHANGES_OF_ACCOUNTS
WITH_REASONS = {"revokeApiKey", "revokeOwnApiKey", "deleteAccount", "deleteOwnAccount"}
ROTATIONS = {"rotateApiKey", "rotateOwnApiKey"}
WITH_RETRIES = {"createApiKey", "createAccountApiKey", "createAccount", "createConsoleLink"} | ROTATIONS
WITH_IF_MATCH = CHANGES_OF_KEYS | CHANGES_OF_ACCOUNTS | WITH_REASONS | ROTATIONS | {"completeRotation"}
WITH_SCOPES = {"verifyApiKey"} | LISTS_OF_KEYS | WITH_NAMES

# Every run accepts these.
RULES = [
    (REJECTED, WITH_IF_MATCH, None, "precondition_failed",
     "Schemathesis has no list of refusals with 412, and only an answer tells the current `ETag`."),
    (ACCEPTED, WITH_IF_MATCH, None, "precondition_failed", "412 comes before the faults of a body."),
    (REJECTED, WITH_NAMES, "/name", "invalid_format",
     "A name has no invisible characters, of which Unicode has too many."),
    (REJECTED, WITH_NAMES, "/metadata", "out_of_range",
     "A number in metadata must not change when it is read into 64 bits."),
    (REJECTED, {"reportLeakedKeys"}, "/location", "invalid_format", "A location has no invisible characters either."),
    (REJECTED, WITH_REASONS, "/reason", "invalid_format", "A reason has none either."),
    (REJECTED, LISTS_OF_KEYS | {"listEvents"}, "/cursor", "invalid_format",
     "A cursor belongs to one order of the list."),
    (REJECTED, {"proveConsistency"}, "/to", "out_of_range",
     "`to` is not before `from`, and not beyond the end of the log."),
    (REJECTED, {"proveEvent"}, "/size", "out_of_range",
     "`size` is not before the event, and not beyond the end of the log."),
    (REJECTED, {"streamEvents"}, "/after", "out_of_range", "A stream starts within the log."),
    (REJECTED, {"streamEvents"}, "/Last-Event-ID", "out_of_range", "A stream starts within the log."),
    (REJECTED, WITH_LIMITED_EXPIRY, "/expiresAt", "expires_too_late", "Some accounts have a maximum lifetime of keys."),
    (REJECTED, WITH_LIMITED_EXPIRY, "/expiresIn", "expires_too_late", "Some accounts have a maximum lifetime of keys."),
    (REJECTED, WITH_RETRIES, None, "idempotency_key_reused", "One `Idempotency-Key` belongs to one request."),
    (REJECTED, ROTATIONS, "/gracePeriodSeconds", "grace_required",
     "Only a caller that rotates itself needs a long grace period."),
    (REJECTED, {"exchangeToken"}, None, "invalid_request",
     "An empty member of a form counts as absent, so a key can still lack its type."),
    (ACCEPTED, {"streamEvents"}, None, "in header - object with unexpected properties",
     "HTTP allows a header that the server does not know."),
    (SERVER_ERROR, {"streamEvents"}, None, "too_many_streams",
     "Schemathesis leaves a stream that is silent, and the server notices it later."),
]
# Only a run without hooks accepts these: `hooks.py` knows the server, and the document does not.
PLAIN_RULES = [
    (REJECTED, WITH_SCOPES, "/*[sS]cope*", "unknown_scope",
     "Each operator has scopes of their own. An `enum` of them would make clients refuse the ones that are added."),
    (REJECTED, WITH_EXPIRY, "/expiresAt", "in_the_past", "A schema does not know the time."),
    (REJECTED, WITH_EXPIRY, "/allowedIps/*", "invalid_format", "A network has no bits after its prefix length."),
    (REJECTED, {"createAccount"} | CHANGES_OF_ACCOUNTS | WITH_EXPIRY, "/*ateLimit/*", "unknown_field",
     "`RateLimit` is also in answers, which may gain members, so its schema is open."),
    (REJECTED, {"exchangeToken"}, None, "conflicting_keys",
     "The run sends the root key with every request, and a form can have another key."),
    (REJECTED, {"exchangeToken"}, None, "token_exchange_off", "An account must allow the exchange of its keys."),
]


def faults_of(message, content):
    """Returns what a failure is about, as pointers and codes: what was refused, or what was accepted."""
    try:
        problem = json.loads(content)
    except ValueError:
        problem = {}
    faults = [(it["pointer"], it["code"]) for it in problem.get("errors", [])]
    return faults or [(None, problem.get("code", message.rpartition("Invalid component: ")[2]))]


def rules_for(rules, check, operation, faults, headers):
    """Returns the rules that explain the faults: one for each, or an empty list if one fault has none."""
    found = []
    for pointer, code in faults:
        if code == "precondition_failed" and "If-Match" not in headers:
            return []
        fits = (it for it in rules if it[0] == check and operation in it[1] and it[3] == code)
        same = lambda it: it[2] == pointer or pointer and it[2] and fnmatch.fnmatchcase(pointer, it[2])
        found.append(next(filter(same, fits), None))
    return [] if None in found else found
