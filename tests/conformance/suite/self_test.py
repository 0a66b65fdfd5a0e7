"""The test of the suite: a good server passes, and each known fault is found by the checks that must find it."""
from suite import runner
from suite.adapter import load
from suite.session import Session

#: A fault of the toy, and promises that must fail because of it.
FOUND_BY = {
    "revoked_keys_stay_valid": [
        "A revoked key is REVOKED from the answer to its revocation on",
        "No verification accepts a key after its revocation was answered",
        "A key cannot be revoked twice, and one that never was cannot be revoked",
    ],
    "any_key_is_valid": [
        "A text that is no key is not valid, and is no error",
        "A key with one other character anywhere is not valid",
        "A key that is shorter, longer or in other case is not valid",
    ],
    "the_secret_part_is_ignored": ["A key with one other character anywhere is not valid"],
    "keys_repeat": [
        "Each key has its own id and text",
        "Many creations at the same time give as many keys",
    ],
    "callers_need_no_key": [
        "A creation without a key is refused",
        "A creation with a wrong key is refused",
        "A key without the right to create creates nothing",
        "A question without a caller's key is refused",
        "A question with a wrong caller's key is refused",
        "A caller without the right to verify learns nothing about a key",
        "Without a good caller no key is revoked",
        "A key without the right to revoke revokes no other key",
    ],
    "the_key_is_shown_again": ["The full text is in no later answer about the key"],
    "all_scopes_are_granted": [
        "A key without a required scope is refused",
        "Reading and writing do not imply each other",
    ],
}


def failed(checks, file, settings, threads):
    """Returns the promises that fail with this toy, and how many pass."""
    adapter = load(file, settings)
    adapter.start()
    try:
        outcomes = runner.run(checks, Session(adapter), threads)
    finally:
        adapter.stop()
    return {it.check.promise: it.why for it in outcomes if it.how == "failed"}, runner.count(outcomes, "passed")


def run(checks, file, threads):
    """Prints what came out. Returns 0 if each fault was found, and no other."""
    promises, wrong = {it.promise for it in checks}, []
    found, passed = failed(checks, file, {}, threads)
    print(f"The toy without a fault: {passed} checks pass.")
    wrong += [f"a good server fails: {promise}: {why}" for promise, why in found.items()]
    for fault, must in FOUND_BY.items():
        found, _ = failed(checks, file, {"fault": fault}, threads)
        print(f"The toy with the fault {fault}: {len(found)} checks fail.")
        wrong += [f"{fault} is not found by: {it}" for it in must if it in promises and it not in found]
    for line in wrong:
        print(f"FAILED {line}")
    print("The suite passed its own test." if not wrong else f"{len(wrong)} faults of the suite")
    return 1 if wrong else 0
