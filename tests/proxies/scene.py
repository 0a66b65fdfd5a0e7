"""A keyward, the real proxies with the shipped files, and an API that records every request as it comes."""
import collections
import dataclasses
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
from examples import Port, Server  # noqa: E402

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
SHIPPED, FIXTURES = ROOT / "packaging", ROOT / "tests/it/fixtures/proxies"
ENVIRONMENT = {**os.environ, "PATH": os.environ["PATH"] + ":/usr/sbin"}

# For each proxy: its program, the option that prints its version, and the shipped folder with the files of both forms.
PROXIES = {
    "nginx": ("nginx", "-v", "nginx", ["site-policy.conf", "site-scopes.conf"]),
    "Caddy": ("caddy", "version", "caddy", ["Caddyfile.policy", "Caddyfile.scopes"]),
    "HAProxy": ("haproxy", "-v", "haproxy", ["policy.cfg", "scopes.cfg"]),
    "Envoy": ("envoy", "--version", "envoy", ["policy.yaml", "scopes.yaml"]),
    "Traefik": ("traefik", "version", "traefik", ["policy.yaml", "scopes.yaml"]),
    "Apache": ("apache2", "-v", "apache", ["site-policy.conf", "site-scopes.conf"]),
}
# Seconds. A proxy answers each whole request, so this is the wait for a request that never ends.
PATIENCE = 3
IDENTITY = [b"x-keyward-" + it for it in [b"key-id", b"key-name", b"account-id", b"external-id", b"scopes", b"key-expires-at"]]
SCOPES = {"reader": ["orders:read"], "writer": ["orders:write"], "elsewhere": ["orders:read"]}


def version(name):
    program, option, *_ = PROXIES[name]
    done = subprocess.run([program, option], env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    return re.search(r"(?<![0-9a-f])\d+\.\d+(\.\d+)?", done.stdout)[0]


class Keyward(Server):
    """A keyward with a route policy, and the keys of the cases."""

    def __init__(self, binary, work, policy=None):
        work.mkdir()
        super().__init__(binary, work)
        if policy:
            (work / "routes.toml").write_text(policy)
            self.environment["KEYWARD_AUTHZ_POLICY_FILE"] = str(work / "routes.toml")
        self.environment["KEYWARD_WORKERS"] = "2"

    def start(self):
        super().start()
        more = {"elsewhere": {"allowedIps": ["203.0.113.7/32"]}}
        self.keys = {name: self.key(scopes, **more.get(name, {}))["key"].encode() for name, scopes in SCOPES.items()}
        self.keys["none"] = b""

    def known(self):
        """Returns what another process needs to ask this server."""
        return Known(self.port, self.keys)


@dataclasses.dataclass
class Known:
    port: int
    keys: dict


class Oracle:
    """Asks keyward itself whether a key may do what an API could read. Remembers the answers."""

    def __init__(self, keyward):
        self.keyward, self.known = keyward, {}

    def allows(self, key, method, host, path):
        """Returns None if keyward allows it, or its reason."""
        # A byte that was decoded is data of the path.
        path = re.sub(rb"%(?![0-9A-Fa-f]{2})|[^A-Za-z0-9%/._~!$&'()*+,=:@-]", lambda it: b"%%%02X" % it[0][0], path)
        question = key, method, host, path
        if question not in self.known:
            self.known[question] = self.ask(*question)
        return self.known[question]

    def ask(self, key, method, host, path):
        head = [b"GET /authz/forward HTTP/1.1", b"Host: keyward", b"X-Forwarded-Method: " + method, b"X-Forwarded-Uri: " + path,
                b"X-Forwarded-Host: " + host]
        if key != "none":
            head.append(b"X-API-Key: " + self.keyward.keys[key])
        status, answer = exchange(self.keyward.port, b"\r\n".join([*head, b"Connection: close", b"", b""]))
        reason = re.search(rb"(?i)x-keyward-reason: (\S+)", answer)
        return None if status == 200 else reason[1].decode() if reason else f"status {status}"


def exchange(port, data):
    """Sends bytes. Returns the status of the answer, or 0 if none comes, and the start of the answer."""
    answer = b""
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as connection:
        try:
            connection.sendall(data)
        except OSError:
            pass  # A proxy may refuse a request that it has not read to its end.
        try:
            while b"\r\n\r\n" not in answer and (piece := connection.recv(1 << 16)):
                answer += piece
        except OSError:
            pass
    status = re.match(rb"HTTP/1\.[01] (\d{3})", answer)
    return int(status[1]) if status else 0, answer


class Api:
    """Answers every request with 200 and records its bytes, by the mark of its case."""

    def __init__(self):
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.port = self.listener.getsockname()[1]
        self.seen = collections.defaultdict(list)
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            connection, _ = self.listener.accept()
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=self.serve, args=(connection,), daemon=True).start()

    def serve(self, connection):
        data = b""
        with connection:
            try:
                while True:
                    while b"\r\n\r\n" not in data:
                        if not (piece := connection.recv(1 << 16)):
                            return
                        data += piece
                    head, _, data = data.partition(b"\r\n\r\n")
                    lower = head.lower()
                    length = re.search(rb"\r\ncontent-length: *(\d+)", lower)
                    if re.search(rb"\r\ntransfer-encoding: *chunked", lower):
                        while not (end := re.search(rb"(?:^|\r\n)0+\r\n((?:.+\r\n)*)\r\n", data)):
                            if not (piece := connection.recv(1 << 16)):
                                break
                            data += piece
                        # A lenient API reads trailers as headers.
                        head, data = head + b"\r\n" + end[1].rstrip(b"\r\n") if end else head, data[end.end():] if end else b""
                    elif length:
                        while len(data) < int(length[1]) and (piece := connection.recv(1 << 16)):
                            data += piece
                        data = data[int(length[1]):]
                    mark = re.search(rb"\r\nx-case: (\d+)\r\n", lower + b"\r\n")
                    self.seen[int(mark[1]) if mark else None].append(head)
                    connection.sendall(b"HTTP/1.1 200 OK\r\nX-Api: yes\r\nContent-Length: 0\r\n\r\n")
            except OSError:
                pass


class Proxy:
    """A real proxy with a shipped file, in which only addresses and paths are replaced."""

    def __init__(self, name, file, work, keyward, api, edit=lambda text: text, options=()):
        program, _, folder, _ = PROXIES[name]
        self.reserved = Port()
        self.port, self.work, self.name = self.reserved.number, work, name
        work.mkdir(parents=True)
        self.here = {
            "127.0.0.1:8080": f"127.0.0.1:{keyward}", "127.0.0.1:3000": f"127.0.0.1:{api}",
            "port_value: 8080": f"port_value: {keyward}", "port_value: 3000": f"port_value: {api}",
            "0.0.0.0, port_value: 80 ": f"127.0.0.1, port_value: {self.port} ", "listen 80;": f"listen 127.0.0.1:{self.port};",
            "http://api.example.com:80}": f"http://api.example.com:{self.port}}}", "bind :80\n": f"bind 127.0.0.1:{self.port}\n",
            "<VirtualHost *:80>": f"<VirtualHost 127.0.0.1:{self.port}>", "/usr/share/keyward": str(work),
        }
        (work / folder).mkdir()
        for source in (SHIPPED / folder).iterdir():
            text = edit(source.read_text())
            for shipped, here in self.here.items():
                text = text.replace(shipped, here)
            (work / folder / source.name).write_text(text)
        self.log = work / "log"
        command = getattr(self, program)(work / folder / file)
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen([program, *map(str, command), *options], cwd=work, env=ENVIRONMENT | {"HOME": str(work)},
                                            stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
        deadline = time.monotonic() + 30
        while not self.ready():
            if self.process.poll() is not None or deadline < time.monotonic():
                self.stop()
                raise AssertionError(f"{name} does not start: {self.log.read_text()}")
            time.sleep(0.02)

    def ready(self):
        try:
            if self.name == "Traefik":  # It listens before it has read its file.
                return exchange(self.port, b"GET / HTTP/1.1\r\nHost: ready.test\r\n\r\n")[0] not in (0, 404)
            socket.create_connection(("127.0.0.1", self.port)).close()
            return True
        except OSError:
            return False

    def main(self, fixture, file):
        text = (FIXTURES / fixture).read_text().replace("DIR", str(self.work)).replace("LISTEN", f"127.0.0.1:{self.port}")
        (self.work / fixture).write_text(text.replace("FILE", str(file.relative_to(self.work))))
        return self.work / fixture

    def nginx(self, file):
        return ["-p", self.work, "-e", "stderr", "-c", self.main("nginx.conf", file)]

    def caddy(self, file):
        # Two instances on one machine would share the socket of their administration.
        file.write_text("{\n\tadmin off\n\tauto_https off\n}\n" + file.read_text())
        return ["run", "--adapter", "caddyfile", "--config", file]

    def haproxy(self, file):
        return ["-db", "-f", file]

    def envoy(self, file):
        return ["--use-dynamic-base-id", "--concurrency", "1", "-l", "warning", "-c", file]

    def traefik(self, file):
        folder = self.work / "dynamic"
        folder.mkdir()
        shutil.move(file, folder / "site.yaml")
        shutil.copy(FIXTURES / "traefik.yaml", folder / "ready.yaml")
        return [f"--entryPoints.web.address=127.0.0.1:{self.port}", f"--providers.file.directory={folder}",
                "--providers.file.watch=false", "--log.level=WARN", "--global.checkNewVersion=false", "--global.sendAnonymousUsage=false"]

    def apache2(self, file):
        # A single process, so that none is left when it is ended.
        return ["-X", "-d", self.work, "-f", self.main("apache2.conf", file)]

    def stop(self):
        for sent in [signal.SIGTERM, signal.SIGKILL]:
            try:
                os.killpg(self.process.pid, sent)
                self.process.wait(5)
                return
            except (ProcessLookupError, subprocess.TimeoutExpired):
                pass
