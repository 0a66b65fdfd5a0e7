"""HTTP as the suite speaks it: one request on one connection, and its answer."""
import http.client
import json
import socket
import time
from dataclasses import dataclass, replace

TIMEOUT = 30


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    headers: tuple = ()
    body: bytes | None = None

    def but(self, **changes):
        """Returns the request with other parts."""
        return replace(self, **changes)

    def plus(self, *headers):
        """Returns the request with further headers, as pairs."""
        return replace(self, headers=self.headers + headers)

    def without(self, name):
        """Returns the request without the headers of this name."""
        return replace(self, headers=tuple(it for it in self.headers if it[0].lower() != name.lower()))


@dataclass(frozen=True)
class Answer:
    status: int
    headers: tuple
    body: bytes

    @property
    def json(self):
        """The JSON in the body, or None."""
        try:
            return json.loads(self.body)
        except ValueError:
            return None

    @property
    def text(self):
        return self.body.decode("utf-8", "replace")

    def header(self, name):
        """Returns the value of the first header of this name, or None."""
        return next((value for it, value in self.headers if it.lower() == name.lower()), None)

    def __str__(self):
        return f"{self.status} {self.text[:300]}"


def send(address, request):
    """Sends the request and returns the answer. Adds Host and Content-Length, and nothing else."""
    connection = http.client.HTTPConnection(*address, timeout=TIMEOUT)
    try:
        names_host = any(name.lower() == "host" for name, _ in request.headers)
        connection.putrequest(request.method, request.path, skip_host=names_host, skip_accept_encoding=True)
        for name, value in request.headers:
            connection.putheader(name, value)
        has_body = request.body is not None or request.method in ("POST", "PUT", "PATCH")
        if has_body and not any(name.lower() == "transfer-encoding" for name, _ in request.headers):
            connection.putheader("Content-Length", str(len(request.body or b"")))
        try:
            connection.endheaders(request.body)
        except (BrokenPipeError, ConnectionResetError):
            pass  # A server may answer before it has read all of the body.
        answer, body, end = connection.getresponse(), b"", time.monotonic() + TIMEOUT
        # A stream, which has no end, must not hold the suite up.
        while part := answer.read1(1 << 16):
            body += part
            if end < time.monotonic():
                raise TimeoutError(f"the answer does not end: {body[:300]}")
        return Answer(answer.status, tuple(answer.getheaders()), body)
    finally:
        connection.close()


def send_bytes(address, text):
    """Sends these bytes and returns the status of the answer, or 0 if the connection ends without one."""
    with socket.create_connection(address, timeout=TIMEOUT) as connection:
        connection.sendall(text)
        with connection.makefile("rb") as answer:
            words = answer.readline().split()
    return int(words[1]) if len(words) > 1 else 0


def read_lines(address, request, until):
    """Reads an answer line by line until `until` accepts the lines so far, and returns them. A read that takes
    longer than the timeout is an error."""
    connection = http.client.HTTPConnection(*address, timeout=TIMEOUT)
    try:
        connection.request(request.method, request.path, headers=dict(request.headers))
        answer, lines = connection.getresponse(), []
        if answer.status != 200:
            raise AssertionError(f"got {answer.status} {answer.read()[:300]}")
        while not until(lines):
            line = answer.readline()
            if not line:
                raise AssertionError(f"the stream ended after {lines}")
            lines.append(line.decode().rstrip("\n"))
        return lines
    finally:
        connection.close()
