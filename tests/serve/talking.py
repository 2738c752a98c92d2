"""A server of its own thread for tests, an application that says what it was asked, and clients of raw bytes."""

import asyncio
import json
import socket
import threading
from contextlib import contextmanager

import uvloop

from tollgate.serve.limits import Limits
from tollgate.serve.listening import Port, Server
from tollgate.serve.message import Answer

HOST = b"Host: a\r\n"


class Echo:
    """Says what it was asked; `/later` waits until `/release`, which answers the latest first."""

    def __init__(self):
        self.later = []
        self.requests = []
        self.arrived = threading.Event()

    def handle(self, request, reply):
        self.requests.append(request)
        answer = said(request)
        if request.path == "/boom":
            raise ValueError("a secret")
        if request.path == "/large":
            answer = Answer(200, b"x" * (1 << 20), ((b"content-type", b"text/plain"),))
        if request.path == "/impossible":
            answer = Answer(599, b"")
        if request.path == "/nothing":
            answer = Answer(204, b"")
        if request.path == "/later":
            self.later.append((reply, answer))
            self.arrived.set()
            return
        if request.path == "/release":
            self.release()
        reply(answer)

    def release(self):
        while self.later:
            reply, answer = self.later.pop()
            reply(answer)


def said(request):
    return Answer(
        200,
        json.dumps([request.method, request.path, request.query, request.body.decode("latin-1")]).encode(),
    )


class Running:
    """A server that runs: its address, its application, what it counted."""

    def __init__(self, application, limits, tls):
        self.application = application
        self.latencies, self.statuses, self.flushes = [], [], 0
        port = Port(application, "127.0.0.1", 0, tls, limits, self._answered)
        self.server = Server([port], id_prefix="t-", clock=lambda: 1_700_000_000.5)
        self.url = self.server.urls[0]
        self.address = ("127.0.0.1", int(self.url.rsplit(":", 1)[1]))
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        self._started.wait()

    def _answered(self, latencies_s, statuses):
        self.flushes += 1
        self.latencies += latencies_s
        self.statuses += statuses

    def _run(self):
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(self._main())

    async def _main(self):
        self.loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        await self.server.start()
        self._started.set()
        await self._stop.wait()
        await self.server.drain(2)
        await asyncio.sleep(0.01)

    def call(self, function):
        """Call a function in the loop's thread and wait for it."""
        done = threading.Event()
        self.loop.call_soon_threadsafe(lambda: (function(), done.set()))
        assert done.wait(5)

    def begin_to_stop(self):
        self.loop.call_soon_threadsafe(self._stop.set)

    def stop(self):
        if self._thread.is_alive():
            self.begin_to_stop()
        self._thread.join()

    def connect(self):
        client = socket.create_connection(self.address, timeout=10)
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return client

    def talk(self, *pieces, end=True):
        """Send pieces, perhaps end this side, and return all that is answered until the server closes."""
        with self.connect() as client:
            for piece in pieces:
                client.sendall(piece)
            if end:
                client.shutdown(socket.SHUT_WR)
            return read_all(client)


@contextmanager
def serving(application=None, limits=None, tls=None):
    running = Running(application or Echo(), limits or Limits(), tls)
    try:
        yield running
    finally:
        running.stop()


def read_all(client):
    parts = []
    while part := client.recv(1 << 16):
        parts.append(part)
    return b"".join(parts)


def read_until(client, end):
    data = b""
    while not data.endswith(end):
        part = client.recv(1 << 16)
        assert part, data
        data += part
    return data


def send_on(client, data):
    """Send again and again, until that fails."""
    while True:
        client.sendall(data)


def answers(raw, methods=()):
    """Return (status, headers, body) of each answer in `raw`, all of it read; `methods` say which were HEAD."""
    found = []
    while raw:
        head, mark, raw = raw.partition(b"\r\n\r\n")
        assert mark
        line, *lines = head.split(b"\r\n")
        version, status, _ = line.split(b" ", 2)
        assert version == b"HTTP/1.1"
        headers = dict(each.decode().split(": ", 1) for each in lines)
        assert len(headers) == len(lines)
        size = int(headers.get("content-length", 0))
        if methods[len(found) : len(found) + 1] == ("HEAD",):
            size = 0
        assert len(raw) >= size
        found.append((int(status), headers, raw[:size]))
        raw = raw[size:]
    return found


def statuses(raw):
    return [status for status, _, _ in answers(raw)]


def codes(raw):
    """Return the status of each answer, and the code of those that refuse."""
    return [(status, json.loads(body)["error"]["code"] if status >= 400 else "") for status, _, body in answers(raw)]
