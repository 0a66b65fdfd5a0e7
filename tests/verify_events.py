#!/usr/bin/env python3
"""Checks a copy of keyward's audit log without keyward's code, with Python, sqlite3 and openssl.

    verify_events.py COPY.db [CHECKPOINT CHECKPOINT.PUB]

Exits with 0 if the events are one unbroken chain. If a checkpoint and a public key are given, they must
also match the chain. Otherwise prints the fault and exits with 1."""
import base64, hashlib, sqlite3, subprocess, sys, tempfile


def sha(*parts):
    return hashlib.sha256(b"".join(parts)).digest()


def field(text):
    return b"\xff" * 8 if text is None else len(text.encode()).to_bytes(8, "big") + text.encode()


def signed_text(note, public):
    """Returns the lines of the note if the key signed them (c2sp.org/signed-note, Ed25519)."""
    text, _, signatures = note.partition("\n\n")
    name, _, key = public.strip().split("+", 2)
    for line in signatures.splitlines():
        dash, signer, encoded = line.split(" ")
        signature = base64.b64decode(encoded)[4:]
        with tempfile.TemporaryDirectory() as at:
            der = bytes.fromhex("302a300506032b6570032100") + base64.b64decode(key)[1:]
            for file, data in ("key", der), ("sig", signature), ("text", f"{text}\n".encode()):
                open(f"{at}/{file}", "wb").write(data)
            command = f"openssl pkeyutl -verify -pubin -keyform DER -inkey {at}/key -rawin -in {at}/text -sigfile {at}/sig"
            if signer == name and not subprocess.run(command.split(), capture_output=True).returncode:
                return text.splitlines()
    sys.exit("the checkpoint is not signed by this key")


log = sqlite3.connect(f"file:{sys.argv[1]}?mode=ro", uri=True)
size, root, head = None, None, None
if sys.argv[2:]:
    _, size, root, head, _ = signed_text(open(sys.argv[2]).read(), open(sys.argv[3]).read())
count, last, peaks = 0, bytes(32), []  # peaks: whole subtrees of RFC 6962, as (leaves, hash)
for seq, time, *texts, previous, told in log.execute(
    "SELECT seq, time_ms, type, account_id, actor, actor_prefix, actor_account_id, subject,"
    " request_id, client_ip, data, prev_hash, hash FROM events ORDER BY seq"
):
    numbers = seq.to_bytes(8, "big", signed=True) + time.to_bytes(8, "big", signed=True)
    count, right = count + 1, sha(b"keyward event v1\n", last, numbers, *map(field, texts))
    if seq != count or previous != last or told != right:
        sys.exit(f"event {count} is not what it was")
    last = right
    peaks.append((1, sha(b"\0", last)))
    while len(peaks) > 1 and peaks[-1][0] == peaks[-2][0]:
        (_, right), (leaves, left) = peaks.pop(), peaks.pop()
        peaks.append((2 * leaves, sha(b"\1", left, right)))
    if size == str(count):
        tree = peaks[-1][1]
        for _, left in reversed(peaks[:-1]):
            tree = sha(b"\1", left, tree)
        same = base64.b64encode(tree).decode() == root and f"head {base64.b64encode(last).decode()}" == head
        size = "" if same else sys.exit(f"the first {count} events are not those of the checkpoint")
if size:
    sys.exit(f"the log was cut: the checkpoint says {size} events, and there are {count}")
print(f"{count} events, nothing changed, nothing missing")
