"""Requests of every shape, each at every door, and what becomes of the connection.

A refused request has a request behind it in the same write that would create a key. That key must never exist.
An accepted request has a question behind it, whose answer shows that both sides agree where the request ended.
"""
import json

from target import Wire

# The name of the key that a request taken out of the rest of another would create.
SMUGGLED = "smuggled"
WITHIN = 15
CLOSED = ("closed", "reset")


class Maker:
    """Makes requests with these keys."""

    def __init__(self, root, subject):
        self.root = root
        self.body = json.dumps({"key": subject})
        self.chunked = f"{len(self.body):x}\r\n{self.body}\r\n0\r\n\r\n"
        smuggled = json.dumps({"name": SMUGGLED, "scopes": ["orders:read"]})
        self.create = self.post("/api/v1/api-keys", f"Content-Length: {len(smuggled)}", smuggled)
        self.probe = self.get("X-Request-Id: probe")

    def get(self, *lines, target="/livez", method="GET", version="HTTP/1.1", host="Host: localhost"):
        return "\r\n".join([f"{method} {target} {version}", *([host] if host else []), *lines, "", ""])

    def post(self, target, framing, body, version="HTTP/1.1"):
        return (f"POST {target} {version}\r\nHost: localhost\r\nX-API-Key: {self.root}\r\n"
                f"Content-Type: application/json\r\n{framing}\r\n\r\n{body}")

    def verify(self, framing, body=None, version="HTTP/1.1"):
        return self.post("/api/v1/api-keys/verify", framing, self.body if body is None else body, version)


def framings(make):
    """Two ways to read where a request ends: name, request, status."""
    body, chunked, length = make.body, make.chunked, len(make.body)
    both = f"Content-Length: {length}"
    yield "a length and chunks", make.verify(f"{both}\r\nTransfer-Encoding: chunked", chunked), 400
    yield "chunks and a length", make.verify(f"Transfer-Encoding: chunked\r\n{both}", chunked), 400
    yield "chunks and the length 0", make.verify("Content-Length: 0\r\nTransfer-Encoding: chunked", chunked), 400
    yield "the same length twice", make.verify(f"{both}\r\n{both}"), 400
    yield "two lengths", make.verify(f"{both}\r\nContent-Length: {length + 5}"), 400
    yield "a length and 0", make.verify(f"{both}\r\nContent-Length: 0"), 400
    for value in [f"+{length}", f"-{length}", f"{length}, {length}", f"{length} {length}", f"0x{length:x}", "",
                  f"{length};", f"{length}.0", "1e2", "18446744073709551616", f"{length}\x0b", "\u0661", "ten"]:
        yield f"the length {value!r}", make.verify(f"Content-Length: {value}"), 400
    for value in ["xchunked", "chunked, chunked", "identity", "identity, chunked", "gzip, chunked", "chunked, identity",
                  "chunked;q=1", '"chunked"', "", "chunked\x0b", "chunke\u0501", "chunked chunked", ", chunked"]:
        yield f"the coding {value!r}", make.verify(f"Transfer-Encoding: {value}", chunked), 400
    coding = "Transfer-Encoding: chunked"
    yield "the coding twice", make.verify(f"{coding}\r\n{coding}", chunked), 400
    yield "two codings", make.verify(f"{coding}\r\nTransfer-Encoding: identity", chunked), 400
    yield "chunks with HTTP/1.0", make.verify(coding, chunked, "HTTP/1.0"), 400
    yield "a body of HTTP/1.0 without a length", make.verify("X: y", "", "HTTP/1.0"), 400
    for space in [" ", "\t"]:
        yield f"{space!r} before the colon of a coding", make.verify(f"Transfer-Encoding{space}: chunked", chunked), 400
        yield f"{space!r} before the colon of a length", make.verify(f"Content-Length{space}: {length}"), 400
        yield f"{space!r} before a coding", make.verify(f"X: y\r\n{space}Transfer-Encoding: chunked", chunked), 400
        yield f"a coding on a line after {space!r}", make.verify(f"Transfer-Encoding:\r\n{space}chunked", chunked), 400
        yield f"a length on a line after {space!r}", make.verify(f"Content-Length:\r\n{space}{length}"), 400
    yield "a coding behind a bare CR", make.verify(f"X: y\r{coding}", chunked), 400
    yield "a coding behind a bare CR, and a length", make.verify(f"{both}\r\nX: y\r{coding}", body), 400
    yield "a coding behind NUL", make.verify(f"X: y\0{coding}", chunked), 400
    # Accepted.
    for value in [f"0{length}", f"  {length}\t"]:
        yield f"the length {value!r}", make.verify(f"Content-Length: {value}"), 200
    for line in ["Transfer-Encoding: CHUNKED", "Transfer-Encoding:chunked", "transfer-encoding: \tchunked \t"]:
        yield repr(line), make.verify(line, chunked), 200
    yield "a GET with a body", make.get(f"Content-Length: {length}") + body, (400,)
    yield "a GET with an empty object", make.get("Content-Length: 2") + "{}", 200
    yield "the length 0", make.get("Content-Length: 0"), 200


def chunks(make):
    """Bodies in chunks: name, request, status. The faults are after a head that is accepted."""
    body, size = make.body, f"{len(make.body):x}"
    last = "0\r\n\r\n"

    def chunked(text):
        return make.verify("Transfer-Encoding: chunked", text)

    for text in ["", "g", "-1", "+1", "0x1", f" {size}", f"{size} {size}", f"{size},", "\u0661", "F" * 17, "1" * 40,
                 f"{size};\0", f"{size};a\rb", f"{size};a\x7f"]:
        yield f"a chunk of the size {text!r}", chunked(f"{text}\r\n{body}\r\n{last}"), 400
    yield "a size that ends with a bare LF", chunked(f"{size}\n{body}\r\n{last}"), 400
    yield "an extension that ends with a bare LF", chunked(f"{size};a\n{body}\r\n{last}"), 400
    yield "a chunk that is longer than its size", chunked(f"{size}\r\n{body}xx\r\n{last}"), 400
    yield "a chunk without an end", chunked(f"{size}\r\n{body}{last}"), 400
    yield "a chunk that ends with a bare LF", chunked(f"{size}\r\n{body}\n{last}"), 400
    yield "a last chunk that ends with a bare CR", chunked(f"{size}\r\n{body}\r\n0\r\r\n"), 400
    yield "a trailer with a bare CR", chunked(f"{size}\r\n{body}\r\n0\r\nX: y\rz\r\n\r\n"), 400
    for extension in [";a=b", ';a="b;c"', ";a;b=c;", " ;a", " ", "\t"]:
        yield f"the extension {extension!r}", chunked(f"{size}{extension}\r\n{body}\r\n0{extension}\r\n\r\n"), 200
    yield "a size with zeros before it", chunked(f"0000000000000000000{size}\r\n{body}\r\n000\r\n\r\n"), 200
    yield "a size in upper case", chunked(f"{size.upper()}\r\n{body}\r\n{last}"), 200
    yield "chunks of one byte", chunked("".join(f"1\r\n{it}\r\n" for it in body) + last), 200
    trailer = f"Content-Length: 5\r\nTransfer-Encoding: chunked\r\nX-API-Key: x\r\nHost: evil\r\nX-Request-Id: evil"
    yield "a trailer with headers of framing", chunked(f"{size}\r\n{body}\r\n0\r\n{trailer}\r\n\r\n"), 200


def heads(make):
    """Heads: name, request, status."""
    for line in ["X: a\0b", "X: a\x1bb", "X: a\x7fb", "X\0: a", "X\x7f: a", "\u00e9: a", "X: a\rY: b", "X: a\r", ": a", "no colon",
                 "X(: a", "X : a", "X\t: a", " X: a", "X: a\r\n b", "X: a\r\n\tb", "X: a\n b"]:
        yield f"the line {line!r}", make.get(line), 400
    yield "a space before the first header", make.get(host=" Host: localhost"), 400
    yield "the host twice", make.get("Host: localhost"), 400
    yield "two hosts", make.get("Host: evil.example"), 400
    yield "no host", make.get(host=None), 400
    for host in ["a/b", "u@b", "a, b", "a b", "[::1", "[::1]a", "a:b", "::1", "a\\b", "\u00e9"]:
        yield f"the host {host!r}", make.get(host=f"Host: {host}"), 400
    for version in ["HTTP/0.9", "HTTP/1.2", "HTTP/2.0", "HTTP/3", "http/1.1", "HTTP/01.1", "HTTP/1.1 ", "HTTP/1.1\t", "HTTP/11",
                    "HTTP /1.1", "HTTP/1,1", "JUNK", ""]:
        yield f"the version {version!r}", make.get(version=version), 400
    yield "HTTP/0.9", "GET /livez\r\n", 400
    yield "the preface of HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + "\0\0\0\4\0\0\0\0\0", 400
    yield "a message of TLS", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + "\0" * 32, 400
    yield "no method", make.get(method=""), 400
    for method in ["G:T", "G\0T", "G\udce9T", "GET\t", "GET "]:
        yield f"the method {method!r}", make.get(method=method), 400
    for target in ["", "/li vez", "/\0", "/\x7f", "/\t", "/\rx", "/\u00e9", "http://", "http://a b/"]:
        yield f"the target {target!r}", make.get(target=target), 400
    yield "a target of 70,000 bytes", make.get(target="/" + "a" * 70_000), 400
    yield "97 headers", make.get(*[f"X-{number}: y" for number in range(96)]), 431
    yield "a head of 140,000 bytes", make.get("X: " + "y" * 140_000), 431
    yield "a name of 140,000 bytes", make.get("X" * 140_000 + ": y"), 431
    yield "140,000 bytes of empty lines", "\r\n" * 70_000 + make.get(), 431
    # Accepted.
    yield "96 headers", make.get(*[f"X-{number}: y" for number in range(95)]), 200
    yield "a header of 100,000 bytes", make.get("X: " + "y" * 100_000), 200
    yield "high bytes and tabs in a header", make.get("X: \udcff\udcfe\t\udc80"), 200
    yield "an empty header", make.get("X:"), 200
    for host in ["", "a_b", "a.example.", "[::1]", "[::1]:80", "a:", "127.0.0.1:1"]:
        yield f"the host {host!r}", make.get(host=f"Host: {host}"), 200
    yield "lines that end with a bare LF", make.get("X: y").replace("\r\n", "\n"), 200
    yield "empty lines before a request", "\r\n\r\n\n" + make.get(), 200
    yield "a target with a host", make.get(target="http://evil.example/livez"), 200
    yield "a target of 60,000 bytes", make.get(target="/" + "a" * 60_000), 404
    yield "a target that is no path", make.get(target="livez"), 404
    yield "the target *", make.get(target="*", method="OPTIONS"), 404
    for method in ["get", "Get", "GETX", "M" * 8000, "TRACE", "PROPFIND", "M-SEARCH"]:
        yield f"the method {method[:20]}", make.get("X-Secret: echo-me", method=method), 405
    yield "another expectation", make.get("Expect: 200-ok"), 200
    for value in ["100-continue", "100-Continue", 'x, "100-continue", 100-continue']:
        request = make.verify(f"Expect: {value}\r\nContent-Length: {len(make.body)}")
        yield f"the expectation {value}", request, (100, 200)
    yield "HTTP/1.0 that keeps its connection", make.get("Connection: keep-alive", host=None, version="HTTP/1.0"), 200


def endings(make):
    """Requests that end their connection though they are answered: name, request, status."""
    yield "HTTP/1.0", make.get(host=None, version="HTTP/1.0"), 200
    yield "HTTP/1.0 with an expectation", make.get("Expect: 100-continue", host=None, version="HTTP/1.0"), 200
    yield "Connection: close", make.get("Connection: close"), 200
    yield "Connection: x, CLOSE", make.get("Connection: x, CLOSE"), 200
    yield "Connection: keep-alive, close", make.get("Connection: keep-alive, close"), 200
    for lines in ["Connection: Upgrade\r\nUpgrade: websocket", "Upgrade: websocket", "Connection: Upgrade\r\nUpgrade: h2c",
                  "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk"]:
        yield f"{lines!r}", make.get(*lines.split("\r\n")), 200
    yield "CONNECT", make.get(method="CONNECT", target="evil.example:443"), 404
    yield "CONNECT to a path", make.get(method="CONNECT", target="/livez"), 405
    long = make.post("/api/v1/api-keys", "Content-Length: 70000", "")
    yield "a body that is announced as too long", long, 413
    yield "such a body with an expectation", long.replace("\r\nContent-Length", "\r\nExpect: 100-continue\r\nContent-Length"), (100, 413)


def try_shape(door, make, request, expected, accepted, first):
    """Returns what is wrong. With `first`, another request is answered before this one on its connection."""
    if isinstance(expected, int):
        expected = (expected,)
    behind = make.probe if accepted else make.create
    with Wire(door) as wire:
        text = (make.get("X-Request-Id: first") if first else "") + request + behind
        wire.send(text.encode("utf-8", "surrogateescape"))
        if first:
            answer = wire.answer(WITHIN)
            if answer is None or (answer.status, answer.headers.get("x-request-id")) != (200, "first"):
                return f"the request before it got {answer}, and the connection is {wire.fate}"
        answers = []
        if accepted:
            for _ in range(len(expected) + 1):
                if (answer := wire.answer(WITHIN)) is not None:
                    answers.append(answer)
            probe = answers.pop() if answers else None
            if probe is None or (probe.status, probe.headers.get("x-request-id")) != (200, "probe"):
                return f"the request behind it got {probe}, after {answers}, and the connection is {wire.fate}"
        else:
            answers = wire.everything(WITHIN)
            if wire.fate not in CLOSED:
                return f"the connection is open after {answers}"
            if wire.data:
                return f"bytes that are no answer: {wire.data[:80]!r} after {answers}"
            last = answers[-1].headers if answers else {}
            if last.get("connection", "close").lower() not in ("close",):
                return f"the last answer does not announce the end: {last}"
        if any(b"echo-me" in it.body for it in answers):
            return "the answer repeats a header of the request"
        found = tuple(it.status for it in answers)
        # Only the owner can connect to the control socket. It drops a broken body, or answers it.
        dropped = door.name.endswith("control socket") and expected == (400,) and found == ()
        if found != expected and not dropped:
            return f"expected {expected}, got {answers}"
        return None


def cases(make):
    """Yields theme, name, request, status and whether the connection goes on."""
    for theme, shapes in [("framing", framings(make)), ("chunks", chunks(make)), ("heads", heads(make))]:
        for name, request, expected in shapes:
            yield theme, name, request, expected, expected not in (400, 431)
    for name, request, expected in endings(make):
        yield "endings", name, request, expected, False


def run(report, targets, keys, pool):
    """Tries every shape at every door, alone and behind a good request."""
    waiting = []
    for target in targets:
        make = Maker(target.root, keys[target.name])
        for door in [*target.doors, target.control]:
            is_control = door is target.control
            for theme, name, request, expected, accepted in cases(make):
                is_public = theme == "endings" or expected in (405, 431, (400,)) or name.startswith("the host '")
                if is_control and is_public:
                    continue  # It has the limits of the framework only, and its own operations.
                for first in (False, True):
                    future = pool.submit(try_shape, door, make, request, expected, accepted, first)
                    waiting.append((theme, f"{door.name}: {name}{' behind another' if first else ''}", future))
    for theme, name, future in waiting:
        report.check(theme, name, future)
    for target in targets:
        found = target.call("GET", f"/api-keys?q={SMUGGLED}")["data"]
        report.check("smuggling", f"{target.name}: no request was taken out of another", found and f"{len(found)} were")
