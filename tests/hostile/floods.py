"""Many clients at once. A valid client beside them must keep its answers, and the memory must stay bounded."""
import collections
import json
import socket
import struct
import time

from target import Wire

HELLO = b"\x16\x03\x01\x02\x00\x01"
# The most streams of events at a time.
STREAMS = 256
# A close that sends RST, so that the ports of this machine are free again at once.
ABORT = struct.pack("ii", 1, 0)


def close(wires):
    for wire in wires:
        if wire.socket.family == socket.AF_INET:
            wire.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, ABORT)
        wire.socket.close()


def idle(door, make, count):
    """Connections that have an answer and say nothing more."""
    wires = []
    request = make.get().encode()
    for _ in range(count):
        wire = Wire(door)
        wires.append(wire)
        wire.send(request)
        if len(wires) % 100 == 0:
            for one in wires[-100:]:
                if (answer := one.answer()) is None or answer.status != 200:
                    return wires, f"{answer} on connection {len(wires)}"
    time.sleep(1)
    return wires, None


def silent(door, make, count):
    wires = [Wire(door) for _ in range(count)]
    time.sleep(1)
    return wires, None


def half_handshakes(door, make, count):
    wires = []
    for _ in range(count):
        wires.append(Wire(door, handshake=False))
        wires[-1].send(HELLO)
    time.sleep(2)
    return wires, None


def pipelined(door, make, count):
    """A thousand requests in one write on each connection, and their answers in order."""
    wires, fault = [], None
    for number in range(count):
        wire = Wire(door)
        wires.append(wire)
        ids = [f"pipelined-{number}-{it}" for it in range(1000)]
        wire.socket.settimeout(30)
        text = "".join(make.get(f"X-Request-Id: {it}", method="HEAD" if place % 3 == 1 else "GET",
                                target="/readyz" if place % 50 == 0 else "/livez") for place, it in enumerate(ids))
        wire.sender = text.encode()
    for wire in wires:
        wire.send(wire.sender)
    for number, wire in enumerate(wires):
        for place in range(1000):
            is_head = place % 3 == 1
            answer = wire.answer(30, body=not is_head)
            if answer is None or answer.headers.get("x-request-id") != f"pipelined-{number}-{place}":
                fault = fault or f"answer {place} of connection {number} is {answer}, and the connection {wire.fate}"
                break
    return wires, fault


def tiny_chunks(door, make, count):
    data = make.verify("Transfer-Encoding: chunked", "1\r\nx\r\n" * 20_000).encode()
    wires = []
    for _ in range(count):
        wires.append(Wire(door))
        wires[-1].send(data)
    time.sleep(1)
    return wires, None


def pieces_of_a_head(door, make, count):
    """Long heads that grow by a few bytes at a time: the server must not parse all of it each time."""
    wires = [Wire(door) for _ in range(count)]
    for wire in wires:
        wire.send(b"GET /livez HTTP/1.1\r\nX: " + b"y" * 100_000)
    end = time.monotonic() + 3
    while time.monotonic() < end:
        for wire in wires:
            wire.send(b"y")
    return wires, None


def malformed(door, make, count):
    for _ in range(count):
        with Wire(door) as wire:
            wire.send(b"GET / HTTP/9\r\n\r\n")
            answers = wire.everything(10)
            if [it.status for it in answers] != [400]:
                return [], f"{answers}"
    return [], None


def aborted(door, make, count):
    for number in range(count):
        wire = Wire(door)
        wire.send([b"", b"GET", make.get(target="/readyz").encode(), make.verify("Content-Length: 100", "{").encode()][number % 4])
        close([wire])
    return [], None


def streams(door, make, count):
    """Streams of events whose clients read nothing. Only so many are open at once, and their places are free again afterwards.

    The log is longer than what the buffers of a connection hold.
    """
    with Wire(door) as wire:
        body = json.dumps({"name": "event", "scopes": ["orders:read"], "metadata": {"text": "x" * 500}})
        create = make.post("/api/v1/api-keys", f"Content-Length: {len(body)}", body).encode()
        for _ in range(60):
            wire.send(create * 10)
            if any(it is None or it.status != 201 for it in [wire.answer(60) for _ in range(10)]):
                return [], "a key was not created"
    text = make.get(f"X-API-Key: {make.root}", target="/api/v1/events/stream?after=0").encode()
    wires = []
    for _ in range(count):
        wires.append(Wire(door, receive=4096))
        wires[-1].send(text)
    time.sleep(2)
    found = collections.Counter(wire.socket.recv(12) for wire in wires)
    expected = {b"HTTP/1.1 200": STREAMS, b"HTTP/1.1 503": count - STREAMS}
    fault = found != expected and f"expected {expected}, got {found}"
    end = time.monotonic() + 20
    close(wires)
    while time.monotonic() < end:
        with Wire(door) as wire:
            wire.send(text)
            if wire.socket.recv(12) == b"HTTP/1.1 200":
                return [], fault
        time.sleep(0.1)
    return [], fault or "no stream is possible afterwards"


def pages(door, make, count):
    """Static pages, the metrics and forward auth with long headers, with all answers read."""
    long = "X-Forwarded-For: " + "203.0.113.9, " * 5000
    texts = [make.get(target=it) for it in ["/metrics", "/docs/", "/console/", "/openapi.json", "/docs/swagger-ui-bundle.js"]]
    texts += [make.get(long, target=it) for it in ["/authz", "/authz/nginx", "/authz/forward", "/authz/envoy/orders"]]
    for number in range(count):
        with Wire(door) as wire:
            for text in texts:
                wire.send(text.encode())
                answer = wire.answer(30)
                if answer is None or answer.status >= 500:
                    return [], f"{answer} for {text[:40]!r}"
    return [], None


# Name, function, connections, KiB for each, and whether it needs TLS.
ALL = [
    ("idle connections", idle, 10_000, 40, False),
    ("connections that say nothing", silent, 3_000, 40, False),
    ("half handshakes", half_handshakes, 1_500, 60, True),
    ("a thousand requests in one write", pipelined, 16, 300, None),
    ("chunks of one byte", tiny_chunks, 100, 300, None),
    ("heads in small pieces", pieces_of_a_head, 16, 300, None),
    ("malformed requests", malformed, 500, 40, None),
    ("aborted connections", aborted, 1_000, 40, False),
    ("unread streams of events", streams, 600, 300, False),
    ("pages and forward auth", pages, 20, 300, None),
]

# As above, on a server that may have LIMIT connections: each flood needs several times as many.
LIMIT = 1_000
CROWDS = [
    ("idle connections", idle, 10_000, 10, False),
    ("connections that say nothing", silent, 5_000, 10, False),
    ("half handshakes", half_handshakes, 5_000, 10, True),
]
