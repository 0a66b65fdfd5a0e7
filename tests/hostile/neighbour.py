"""A valid client in a process of its own. It uses every door all the time, and measures each answer."""
import itertools
import json
import multiprocessing
import os
import threading
import time

from target import Wire

# A client that waits longer counts as one without an answer, in seconds.
PATIENCE = 30
PAUSE = 0.02


class Neighbour:
    """Verifies two keys in turn at each door: on one connection that stays open, and on a new one each time."""

    def __init__(self, doors, gateway, keys, patient=False):
        """A patient client asks again if its open connection ended between two requests (RFC 9112, 9.3.1)."""
        self.pipe, end = multiprocessing.Pipe()
        arguments = (doors, gateway, keys, end, patient)
        self.process = multiprocessing.get_context("fork").Process(target=run, args=arguments, daemon=True)
        self.process.start()

    def take(self):
        """Returns for each way the seconds of every answer since the last call, and a list of what went wrong.

        It also waits for a last answer on each way, so that a request that hangs is counted.
        """
        self.pipe.send("take")
        return self.pipe.recv()

    def end(self):
        self.process.kill()
        self.process.join()


def run(doors, gateway, keys, pipe, patient):
    ways = [Way(door, kept, gateway, keys, patient) for door in doors for kept in (True, False)]
    for way in ways:
        threading.Thread(target=way.run, daemon=True).start()
    while True:
        try:
            pipe.recv()
        except EOFError:
            os._exit(0)
        pipe.send({way.name: way.take() for way in ways})


class Way:
    def __init__(self, door, kept, gateway, keys, patient):
        self.door, self.kept, self.patient = door, kept, patient
        self.name = f"{door.name}, {'kept' if kept else 'new'}"
        self.gateway, self.keys = gateway, keys
        self.lock, self.done = threading.Lock(), threading.Condition()
        self.seconds, self.lost, self.finished = [], [], 0
        self.wire = None

    def run(self):
        for number in itertools.count():
            begin = time.monotonic()
            try:
                fault = self.ask(number)
            except (OSError, ValueError) as error:
                fault = repr(error)
            took = time.monotonic() - begin
            if fault or not self.kept:
                self.close()
            with self.lock:
                self.seconds.append(took)
                if fault:
                    self.lost.append(f"{self.name}, after {took:.3f} s: {fault}")
            with self.done:
                self.finished += 1
                self.done.notify_all()
            time.sleep(PAUSE)

    def close(self):
        if self.wire:
            self.wire.socket.close()
        self.wire = None

    def ask(self, number):
        """Returns what is wrong with the answer."""
        is_used = self.wire is not None
        self.wire = self.wire or Wire(self.door, PATIENCE)
        key, key_id = self.keys[number % 2]
        request_id = f"neighbour-{id(self)}-{number}"
        body = json.dumps({"key": key})
        self.wire.send((
            f"POST /api/v1/api-keys/verify HTTP/1.1\r\nHost: localhost\r\nX-API-Key: {self.gateway}\r\n"
            f"X-Request-Id: {request_id}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n{body}"
        ).encode())
        answer = self.wire.answer(PATIENCE)
        if answer is None and is_used and self.patient and self.wire.fate != "open" and not self.wire.data:
            self.close()
            return self.ask(number)
        if answer is None:
            return f"no answer; the connection is {self.wire.fate}"
        if answer.status != 200 or answer.headers.get("x-request-id") != request_id:
            return f"the answer {answer!r} to the request {request_id}"
        found = json.loads(answer.body)
        return None if found.get("keyId") == key_id and found["valid"] else f"{found} for {key_id}"

    def take(self):
        with self.done:
            # The request that runs now may have begun long ago. The one after it has not.
            last = self.finished + 2
            self.done.wait_for(lambda: last <= self.finished, 2 * PATIENCE + 5)
        with self.lock:
            taken = self.seconds, self.lost
            self.seconds, self.lost = [], []
        return taken
