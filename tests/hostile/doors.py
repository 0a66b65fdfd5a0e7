"""Clients at the wrong door: bytes of another protocol, broken handshakes, and users who may not connect."""
import errno
import os
import socket
import subprocess
import time

from floods import HELLO, close
from target import Wire

# A user who owns nothing of keyward.
STRANGER = 65534
# A quick end: less than the time limit of a handshake or of a head.
SOON = 2.5


def ask_as_stranger(path):
    """Connects and asks as another user. Returns the error of the connect, 0 for an answer, and 1 for none."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    outcome = 1
    try:
        os.setgroups([])
        os.setgid(STRANGER)
        os.setuid(STRANGER)
        with socket.socket(socket.AF_UNIX) as one:
            one.settimeout(10)
            one.connect(path)
            one.sendall(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
            outcome = 0 if one.recv(12) == b"HTTP/1.1 200" else 1
    except OSError as error:
        outcome = error.errno or 1
    finally:
        os._exit(outcome)


def plain_text(door, make):
    """HTTP without TLS at a door of TLS: no byte of HTTP comes back, and the connection ends at once."""
    for name, text in [("a request", make.get()), ("a question", make.verify(f"Content-Length: {len(make.body)}")),
                       ("HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), ("an empty line", "\r\n" * 5)]:
        with Wire(door, handshake=False) as wire:
            wire.send(text.encode())
            took = wire.ends(SOON)
            fault = took is None and "the connection is open"
            yield f"{name} in plain text", fault or (b"HTTP" in wire.data and f"it answers {wire.data[:40]!r}")


def handshake_at_plain_door(door):
    with Wire(door) as wire:
        wire.send(HELLO + b"\x01\xfc" + bytes(508))
        answers = wire.everything(SOON)
        found = [it.status for it in answers]
        yield "a handshake of TLS", found != [400] and f"{found}, and the connection is {wire.fate}"


def cut_handshakes(door):
    """A real first message of TLS, cut off at each of its first bytes and at some later ones."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        secure = door.context.wrap_socket(ours, server_hostname="localhost", do_handshake_on_connect=False)
        try:
            secure.do_handshake()
        except OSError:
            pass  # It waits for the answer.
        hello = theirs.recv(1 << 16)
        secure.detach()
    wires = []
    for length in [*range(0, 60), *range(60, len(hello), 50)]:
        wire = Wire(door, handshake=False)
        wire.send(hello[:length])
        if length % 2:
            wire.half_close()
        wires.append(wire)
    fault = next((f"byte {at}: {wire.data[:20]!r}" for at, wire in enumerate(wires[::2])
                  if wire.read(time.monotonic() + 0.001)), None)
    close(wires)
    yield f"{len(wires)} cut handshakes", fault


def renegotiation(door):
    """A client of TLS 1.2 that begins a second handshake. The server runs none."""
    address = "%s:%d" % door.address
    client = subprocess.Popen(["openssl", "s_client", "-connect", address, "-tls1_2", "-servername", "localhost"],
                              stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    time.sleep(1)
    try:
        for _ in range(20):
            client.stdin.write(b"R\n")
            client.stdin.flush()
            time.sleep(0.05)
    except OSError:
        pass  # It has ended.
    try:
        said = client.communicate(timeout=10)[0]
    except subprocess.TimeoutExpired:
        client.kill()
        said = client.communicate()[0]
    asked, refused = said.count(b"RENEGOTIATING"), b"no renegotiation" in said
    yield "renegotiation", not (asked and refused) and f"asked {asked} times: {said[-300:]!r}"


def strangers(target):
    """Another user of the machine at the sockets. It may ask at the public one, as at a loopback address."""
    if os.geteuid() != 0:
        return
    for name, path, expected in [("public", target.socket, 0), ("control", target.control.address, errno.EACCES)]:
        found = ask_as_stranger(path)
        yield f"another user at the {name} socket", found != expected and f"{found}"
    # Neither does the mode of the socket alone let the user in.
    mode = os.stat(target.control.address).st_mode & 0o777
    yield "mode of the control socket", mode != 0o600 and f"{mode:o}"
    open_dir = target.data.stat().st_mode & 0o777
    os.chmod(target.data, 0o755)
    try:
        found = ask_as_stranger(target.control.address)
    finally:
        os.chmod(target.data, open_dir)
    yield "another user at the control socket, in an open directory", found != errno.EACCES and f"{found}"


def cases(target, make):
    """Yields name and what is wrong."""
    door = target.doors[0]
    if door.context:
        yield from plain_text(door, make)
        yield from cut_handshakes(door)
        yield from renegotiation(door)
    else:
        yield from handshake_at_plain_door(door)
    yield from strangers(target)
