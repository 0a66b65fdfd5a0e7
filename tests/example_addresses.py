"""Tries the middlewares of docs/integrate.md where the address of the client is unknown, as on a Unix socket.

tests/examples.py calls `try_unknown_addresses` for each framework. KEYWARD_URL has a slash at its end here.
"""
import http.client
import json
import os
import signal
import socket
import subprocess
import time

# How a sample listens on the Unix socket PORT: changes of its file, and of the command of the page.
ON_A_SOCKET = {
    "Express": ("express_sample.mjs", [
        ("app.listen(Number(process.env.PORT ?? 3000), '127.0.0.1')",
         "app.set('trust proxy', true)\napp.listen(process.env.PORT)")], []),
    "FastAPI": ("fastapi_sample.py", [], [('--port "${PORT:-3000}"', '--uds "$PORT"')]),
    "Django": ("django_sample.py", [], [('"127.0.0.1:${PORT:-3000}"', '"unix:$PORT"')]),
    "Go": ("nethttp_sample.go", [
        ('\t"net/http"\n', '\t"net"\n\t"net/http"\n'),
        ('log.Fatal(http.ListenAndServe("127.0.0.1:"+port, nil))',
         'listener, _ := net.Listen("unix", port)\n\tlog.Fatal(http.Serve(listener, nil))')], []),
    "axum": ("axum/src/main.rs", [
        ("use std::{env, net::SocketAddr};", "use std::env;"),
        ('TcpListener::bind(format!("127.0.0.1:{port}")).await.unwrap()', "UnixListener::bind(port).unwrap()"),
        ("app.into_make_service_with_connect_info::<SocketAddr>()", "app.into_make_service()")], []),
}
# Programs that give a middleware an address which is no IP address. They print the status of a request with
# each key, for each of so many clients.
# A TestClient without `with` has an event loop for each request.
TEST_CLIENTS = {
    "FastAPI": (4, """
import sys
from fastapi.testclient import TestClient
from fastapi_sample import app
def ask(client): print([client.get("/orders", headers={"X-API-Key": it}).status_code for it in sys.argv[1:]])
ask(TestClient(app))
ask(TestClient(app))
with TestClient(app) as client:
    ask(client)
    ask(client)
"""),
    "Django": (3, """
import sys
import django_sample, django.test
for address in ["unix:", "localhost", ""]:
    client = django.test.Client(REMOTE_ADDR=address)
    print([client.get("/orders", headers={"X-API-Key": it}).status_code for it in sys.argv[1:]])
"""),
}
PHP = "$_SERVER = json_decode(getenv('SERVER'), true) + $_SERVER; require 'packaging/examples/middleware_sample.php';"


class UnixConnection(http.client.HTTPConnection):
    """A connection to a server that listens on a Unix socket."""

    def __init__(self, path):
        super().__init__("localhost", timeout=20)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


def try_unknown_addresses(example):
    """A key without an address list is accepted, and a key with one is refused, because its address is unknown."""
    good, listed = example.new_key(), example.new_key(allowedIps=["127.0.0.0/8"])
    keys = [good["key"], listed["key"]]
    environment = example.environment | {"KEYWARD_URL": f"http://127.0.0.1:{example.wire.port}/"}
    if example.name in ON_A_SOCKET:
        try_on_a_socket(example, environment, keys)
    if example.name in TEST_CLIENTS:
        try_test_client(example, environment, keys)
    if example.name == "PHP":
        try_php(example, environment, keys)


def try_on_a_socket(example, environment, keys):
    file, changes, of_command = ON_A_SOCKET[example.name]
    file, path = example.work / "packaging/examples" / file, example.work / "socket"
    file.write_text(replaced(file.read_text(), changes))
    command = replaced(example.command, of_command)
    if example.name == "axum":
        # All runs share one directory for what cargo builds. By its name, cargo knows this program from the sample.
        for it in [example.work / "packaging/examples/axum" / it for it in ["Cargo.toml", "Cargo.lock"]]:
            it.write_text(replaced(it.read_text(), [("keyward-axum-example", "keyward-axum-on-a-socket")]))
        example.run_block(environment, command.replace("cargo run", "cargo build"), "build.log")
    with open(example.work / "socket.log", "wb") as log:
        process = subprocess.Popen(["bash", "-euc", command], cwd=example.work, env=environment | {"PORT": str(path)},
                                   stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True)
    try:
        wait_for_socket(path, process)
        good, listed = [("X-API-Key", it) for it in keys]
        where = "on a Unix socket, and a slash at the end of KEYWARD_URL"
        example.expect(f"a key {where}", example.send(good, to=UnixConnection(str(path))), 200)
        answer = example.send(listed, to=UnixConnection(str(path)))
        example.expect(f"a key with an address list {where}", answer, 403, "IP_NOT_ALLOWED")
        if example.name == "Express":
            for told, status in [("unknown", 403), ("127.0.0.9", 200)]:
                answer = example.send(listed, ("X-Forwarded-For", told), to=UnixConnection(str(path)))
                example.expect(f"the proxy tells the address {told}", answer, status)
    finally:
        end(process)


def try_test_client(example, environment, keys):
    environment = environment | {"PYTHONPATH": str(example.work / "packaging/examples"), "PYTHONDONTWRITEBYTECODE": "1"}
    clients, program = TEST_CLIENTS[example.name]
    done = subprocess.run(["venv/bin/python", "-c", program, *keys], cwd=example.work, env=environment, text=True,
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=60)
    example.same(f"the test client: {done.stderr[-500:]}", done.stdout, "[200, 403]\n" * clients)


def try_php(example, environment, keys):
    """nginx gives PHP the address `unix:` for a connection on its own Unix socket."""
    for address in ["unix:", "", None]:
        codes = []
        for key in keys:
            server = {"REQUEST_METHOD": "GET", "REQUEST_URI": "/orders", "REMOTE_ADDR": address, "HTTP_X_API_KEY": key}
            done = subprocess.run(["php", "-r", PHP], cwd=example.work, text=True, stdout=subprocess.PIPE,
                                  stderr=subprocess.PIPE, env=environment | {"SERVER": json.dumps(server)}, timeout=60)
            codes.append(json.loads(done.stdout).get("code", "accepted"))
        example.same(f"PHP with the address {address}, and a slash at the end of KEYWARD_URL", codes,
                     ["accepted", "IP_NOT_ALLOWED"])


def replaced(text, changes):
    for old, new in changes:
        assert old in text, old
        text = text.replace(old, new)
    return text


def wait_for_socket(path, process):
    for _ in range(1200):
        if path.exists():
            connection = UnixConnection(str(path))
            try:
                return connection.connect()
            except OSError:
                pass
            finally:
                connection.close()
        assert process.poll() is None, (path.parent / "socket.log").read_text()
        time.sleep(0.05)
    raise AssertionError(f"no program listens on {path}")


def end(process):
    for sent in [signal.SIGTERM, signal.SIGKILL]:
        try:
            os.killpg(process.pid, sent)
            process.wait(10)
        except (ProcessLookupError, subprocess.TimeoutExpired):
            pass
