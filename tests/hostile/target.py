"""A keyward to attack, the doors to it, and connections that send bytes as they are."""
import json
import os
import pathlib
import re
import signal
import socket
import ssl
import subprocess
import threading
import time


class Door:
    """A place at which a server listens: an address, or the path of a Unix socket."""

    def __init__(self, name, address, context=None):
        self.name, self.address, self.context = name, address, context

    def connect(self, timeout=30, receive=None, handshake=True):
        """Connects. `receive` is the size of the client's receive buffer."""
        connection = socket.socket(socket.AF_UNIX if isinstance(self.address, str) else socket.AF_INET)
        try:
            connection.settimeout(timeout)
            if receive:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive)
            connection.connect(self.address)
            if self.context and handshake:
                connection = self.context.wrap_socket(connection, server_hostname="localhost")
            return connection
        except BaseException:
            connection.close()
            raise


class Answer:
    def __init__(self, head):
        lines = head.decode("latin-1").split("\r\n")
        # Bytes before it would be a body that the answer before did not announce.
        assert lines[0].startswith("HTTP/1."), lines[0][:80]
        self.status = int(lines[0].split(" ")[1])
        pairs = [line.split(":", 1) for line in lines[1:] if line]
        self.headers = {name.lower(): value.strip() for name, value in pairs}
        self.body = b""

    def __repr__(self):
        return f"{self.status} {self.headers.get('x-request-id', '')}".strip()


class Wire:
    """A connection of a client that sends bytes as they are."""

    def __init__(self, door, timeout=30, **options):
        self.socket = door.connect(timeout, **options)
        self.data, self.fate = b"", "open"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def send(self, data):
        """Returns whether the server's machine took the bytes."""
        try:
            self.socket.sendall(data)
            return True
        except OSError:
            return False

    def half_close(self):
        """Ends the sending direction only. A layer of TLS cannot do that, so its client says nothing more."""
        if not isinstance(self.socket, ssl.SSLSocket):
            self.socket.shutdown(socket.SHUT_WR)

    def read(self, deadline):
        """Reads more. Returns False at the end of the connection, or if the time is over."""
        left = deadline - time.monotonic()
        if left <= 0:
            return False
        self.socket.settimeout(left)
        try:
            piece = self.socket.recv(1 << 16)
        except TimeoutError:
            return False
        except (ConnectionResetError, BrokenPipeError):
            self.fate = "reset"
            return False
        except ssl.SSLError:
            piece = b""
        if not piece:
            self.fate = "closed"
        self.data += piece
        return bool(piece)

    def answer(self, within=20, body=True):
        """Returns the next answer, or None if the connection ends or the time is over before."""
        deadline = time.monotonic() + within
        while b"\r\n\r\n" not in self.data:
            if not self.read(deadline):
                return None
        head, self.data = self.data.split(b"\r\n\r\n", 1)
        answer = Answer(head)
        if not body or answer.status < 200 or answer.status in (204, 304):
            return answer
        if answer.headers.get("transfer-encoding") == "chunked":
            while True:
                while b"\r\n" not in self.data:
                    if not self.read(deadline):
                        return answer
                size, self.data = self.data.split(b"\r\n", 1)
                size = int(size, 16)
                while len(self.data) < size + 2:
                    if not self.read(deadline):
                        return answer
                answer.body += self.data[:size]
                self.data = self.data[size + 2:]
                if not size:
                    return answer
        length = int(answer.headers.get("content-length", 0))
        while len(self.data) < length:
            if not self.read(deadline):
                return answer
        answer.body, self.data = self.data[:length], self.data[length:]
        return answer

    def everything(self, within=20):
        """Returns all answers until the connection ends, or until the time is over."""
        deadline, answers = time.monotonic() + within, []
        while (answer := self.answer(deadline - time.monotonic())) is not None:
            answers.append(answer)
        return answers

    def ends(self, within):
        """Returns after how many seconds the connection ends, or None. What it still receives is in `data`."""
        begin = time.monotonic()
        while self.read(begin + within):
            pass
        return None if self.fate == "open" else time.monotonic() - begin


class Target:
    """A keyward with a data directory of its own."""

    def __init__(self, binary, work, name, settings="", context=None):
        self.name, self.binary, self.context = name, binary, context
        self.work = work / name
        self.work.mkdir()
        self.work.chmod(0o755)
        self.data, self.log = self.work / "data", self.work / "log"
        self.socket = str(self.work / "public.sock")
        (self.work / "keyward.toml").write_text(f'listen = ["127.0.0.1:0", "unix:{self.socket}"]\n{settings}')
        self.process = None

    def start(self):
        environment = {name: it for name, it in os.environ.items() if not name.startswith("KEYWARD_")}
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                [self.binary, "serve", "--config", str(self.work / "keyward.toml"), "--data-dir", str(self.data)],
                env=environment, cwd=self.work, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log)
        # The line comes when the server listens. If it ends before, the line is empty.
        line = self.process.stdout.readline().decode()
        found = re.search(r"https?://127\.0\.0\.1:(\d+)", line)
        assert found, f"{self.name} does not listen: {line!r}\n{self.log.read_text()}"
        # Its reader must not be a reason to wait.
        threading.Thread(target=self.process.stdout.read, daemon=True).start()
        self.port, self.pid = int(found[1]), self.process.pid
        self.root = (self.data / "initial-root-key").read_text().strip()
        self.doors = [Door(self.name, ("127.0.0.1", self.port), self.context),
                      Door(f"{self.name}, Unix socket", self.socket)]
        self.control = Door(f"{self.name}, control socket", str(self.data / "control.sock"))

    def call(self, method, path, body=None):
        """Sends a request as the operator, and returns the members of the answer."""
        text = json.dumps(body).encode() if body is not None else b""
        head = (f"{method} /api/v1{path} HTTP/1.1\r\nHost: localhost\r\nX-API-Key: {self.root}\r\n"
                f"Content-Type: application/json\r\nContent-Length: {len(text)}\r\n\r\n")
        with Wire(self.doors[0]) as wire:
            wire.send(head.encode() + text)
            answer = wire.answer(60)
        assert answer and answer.status < 300, f"{method} {path}: {answer} {answer and answer.body}"
        return json.loads(answer.body) if answer.body else None

    # What the process uses.

    def resident(self):
        """Returns the resident memory, in KiB."""
        status = pathlib.Path(f"/proc/{self.pid}/status").read_text()
        return int(re.search(r"^VmRSS:\s+(\d+) kB", status, re.M)[1])

    def files(self):
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def workers(self):
        """Returns the numbers of the threads that answer requests. A thread that was replaced has another one."""
        found = set()
        for task in pathlib.Path(f"/proc/{self.pid}/task").iterdir():
            try:
                if (task / "comm").read_text().startswith("actix-server wo"):
                    found.add(task.name)
            except OSError:
                pass  # The thread has just ended.
        return found

    def processor_time(self):
        """Returns the processor time so far, in seconds."""
        fields = pathlib.Path(f"/proc/{self.pid}/stat").read_text().rsplit(") ", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def stop(self):
        """Returns the exit code, and how long the stop took."""
        begin = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60), time.monotonic() - begin

    def end(self):
        """Ends the server after a failed test, too."""
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
