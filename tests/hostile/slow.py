"""Clients that send, read or connect slowly. Each case says after how many seconds its connection ends."""
import socket
import time

from target import Wire

# Beyond the limit, for a busy machine.
SPARE = 6
LONG = "GET /docs/swagger-ui-bundle.js HTTP/1.1\r\nHost: localhost\r\n\r\n"


def dribble(wire, text, pause, seconds):
    """Sends one byte after the other until the connection ends. Returns after how many seconds it ended."""
    begin, number = time.monotonic(), 0
    while time.monotonic() - begin < seconds:
        if not wire.send(text[number % len(text):][:1]):
            break
        number += 1
        pause_end = time.monotonic() + pause
        while time.monotonic() < pause_end and wire.read(pause_end):
            pass
        if wire.fate != "open":
            break
    wire.read(time.monotonic() + 1)
    return None if wire.fate == "open" else time.monotonic() - begin


def try_slow(door, before, slowly, pause, within, expected, handshake=True):
    """Sends `before` at once, then `slowly` again and again, and compares the last status. Returns what is wrong."""
    least, most = within
    with Wire(door, handshake=handshake) as wire:
        wire.send(before)
        begin = time.monotonic()
        if slowly:
            took = dribble(wire, slowly, pause, most + SPARE)
        else:
            took = wire.ends(most + SPARE)
        if took is None:
            return f"the connection is open after {time.monotonic() - begin:.1f} s: {wire.data[:60]!r}"
        if took < least:
            return f"the connection ended after {took:.1f} s: {wire.data[:60]!r}"
        answers = wire.everything(1)
        found = tuple(it.status for it in answers)
        return None if found == expected else f"expected {expected}, got {found} after {took:.1f} s"


def cases(make):
    """Yields name, bytes at once, bytes one by one, pause, seconds, statuses."""
    get = make.get().encode()
    head = make.verify("Transfer-Encoding: chunked", "").encode()
    sized = make.verify("Content-Length: 5000", "").encode()
    yield "nothing", b"", b"", 0, (3, 6), (408,)
    yield "a slow request line", b"", b"GET /" + b"a" * 500, 0.3, (3, 6), (408,)
    yield "slow headers", b"GET /livez HTTP/1.1\r\n", b"X: yyyyyyyyyyyyyyyyyy\r\n", 0.2, (3, 6), (408,)
    yield "slow empty lines", b"", b"\r\n", 0.2, (3, 6), (408,)
    yield "half a second request", get + get[:20], b"", 0, (8, 90), (200,)
    yield "slow headers of a second request", get + b"GET /livez HTTP/1.1\r\n", b"X: yyyyyyyyyyyyyyyyy\r\n", 0.5, (8, 22), (200,)
    yield "a slow second request line", get, b"GET /" + b"a" * 500, 0.5, (8, 22), (200,)
    yield "a slow body", sized, b"x", 0.5, (8, 13), (408,)
    yield "a slow chunk", head + b"1000\r\n", b"x", 0.5, (8, 13), (408,)
    yield "slow chunks", head, b"1\r\nx\r\n", 0.2, (8, 13), (408,)
    yield "a slow chunk size", head, b"0" * 100, 0.5, (8, 13), (408,)
    yield "a slow extension", head + b"1;", b"a", 0.5, (8, 13), (408,)
    yield "a slow trailer", head + b"0\r\nX: ", b"y", 0.5, (8, 13), (408,)
    yield "slow trailers", head + b"0\r\n", b"X: y\r\n", 0.3, (8, 13), (408,)
    yield "a chunk of the longest size, and no more", head + b"FFFFFFFFFFFFFFFF\r\nx", b"", 0, (8, 13), (408,)
    yield "nothing after an answer", get, b"", 0, (74.5, 76), (200,)


def half_closed(door, make):
    """Yields name and what is wrong, for clients that end their sending direction."""
    question = make.verify(f"Content-Length: {len(make.body)}").encode()
    ids = [f"X-Request-Id: half-{number}" for number in range(40)]
    many = "".join(make.get(it) for it in ids).encode()
    for name, data, expected in [
            ("nothing", b"", ()), ("half a head", b"GET /li", ()), ("a request", make.get().encode(), (200,)),
            ("a question", question, (200,)), ("half a body", question[:-3], (400,)),
            ("half a chunk", make.verify("Transfer-Encoding: chunked", "5\r\nab").encode(), (400,)),
            ("40 requests", many, (200,) * 40)]:
        with Wire(door) as wire:
            wire.send(data)
            wire.half_close()
            answers = wire.everything(15)
            found = tuple(it.status for it in answers)
            fault = found != expected and f"expected {expected}, got {found}"
            yield name, fault or (wire.fate == "open" and "the connection is open")


def server_has(connection):
    """Returns whether the server's end of a connection is open. A client whose buffers are full may miss its reset."""
    if connection.family != socket.AF_INET:
        return True
    row = f":{connection.getpeername()[1]:04X} 0100007F:{connection.getsockname()[1]:04X} 01 "
    with open("/proc/net/tcp") as table:
        return any(row in line for line in table)


def try_unread(door):
    """Asks for long answers and reads none. The connection must end within 20 to 30 seconds after it is full."""
    with Wire(door, receive=4096) as wire:
        begin = time.monotonic()
        wire.socket.settimeout(2)
        while wire.send(LONG.encode() * 100) and time.monotonic() - begin < 5:
            pass
        while time.monotonic() - begin < 45:
            try:
                # A byte that the server never reads shows that the connection ended.
                wire.socket.send(b"G")
            except (BrokenPipeError, ConnectionResetError):
                return None
            except (TimeoutError, OSError):
                pass
            if not server_has(wire.socket):
                return None
            time.sleep(0.5)
        return f"the connection is open after {time.monotonic() - begin:.1f} s"


def start(report, targets, keys, pool, make_of):
    """Begins all cases. They are checked at the end, when they have taken their time."""
    for target in targets:
        make = make_of(target)
        for door in target.doors:
            for name, before, slowly, pause, within, expected in cases(make):
                future = pool.submit(try_slow, door, before, slowly, pause, within, expected)
                report.later("slow", f"{door.name}: {name}", future)
            if not door.context:
                report.later("slow", f"{door.name}: a client that reads nothing", pool.submit(try_unread, door))
        door = target.doors[0]
        if door.context:
            for name, data, slowly in [("no handshake", b"", b""), ("a slow handshake", b"", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc"),
                                       ("half a handshake", b"\x16\x03\x01\x02\x00\x01", b"")]:
                future = pool.submit(try_slow, door, data, slowly, 0.3, (2, 4), (), False)
                report.later("slow", f"{door.name}: {name}", future)
