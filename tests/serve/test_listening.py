"""Serving until told to stop, as a process, and over TLS."""

import signal
import socket
import ssl
import subprocess
import sys

import httpx
import pytest

from serve.talking import HOST, read_all, read_until, serving, statuses
from serve.test_tls import make
from tollgate.serve.limits import Limits
from tollgate.serve.tls import tls_context

GET = b"GET /a HTTP/1.1\r\n" + HOST + b"\r\n"

PROGRAM = """
import asyncio
from tollgate.serve.asynchronous import asynchronous
from tollgate.serve.listening import Port, Server, serve_forever
from tollgate.serve.message import Answer

go_on = asyncio.Event()

async def handler(request):
    print("got", request.path, flush=True)
    if request.path == "/go":
        go_on.set()
    if request.path == "/wait":
        await go_on.wait()
    return Answer(200, b"[]")

async def start():
    print("start", flush=True)

async def shutdown():
    print("shutdown", flush=True)

application = asynchronous(handler)
ports = [Port(application, "127.0.0.1", 0), Port(application, "::1", 0)]
serve_forever(Server(ports, id_prefix="p-"), lambda url: print(url, flush=True), start, shutdown)
print("end", flush=True)
"""


class Program:
    """A process that serves; `next` is its next line."""

    def __init__(self):
        command = [sys.executable, "-W", "error", "-c", PROGRAM]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self.next() == "start"
        self.urls = [self.next(), self.next()]

    def next(self):
        return self.process.stdout.readline().strip()

    def wait(self):
        """Connect, ask for what waits, and return the client once the request has come."""
        client = socket.create_connection(("127.0.0.1", int(self.urls[0].rsplit(":", 1)[1])), timeout=20)
        client.sendall(GET.replace(b"/a", b"/wait"))
        assert self.next() == "got /wait"
        return client


def connect_on(address):
    """Connect again and again, until that fails."""
    while True:
        socket.create_connection(address).close()


@pytest.fixture
def program():
    program = Program()
    yield program
    program.process.kill()
    program.process.wait()
    program.process.stdout.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_in_order(program, number):
    """Both ports are served; after the signal the request that waits is answered, then comes the shutdown."""
    assert program.urls[1].startswith("http://[::1]:")
    with program.wait() as client, httpx.Client() as other:
        other.get(program.urls[1] + "/a")
        assert program.next() == "got /a"
        client.sendall(GET.replace(b"/a", b"/go"))
        assert program.next() == "got /go"
        program.process.send_signal(number)
        assert statuses(read_all(client)) == [200, 200]
    assert [program.next(), program.next()] == ["shutdown", "end"]
    assert program.process.wait(20) == 0


def test_a_second_signal_ends_it_at_once(program):
    """A request that never is answered does not hold up whoever asks twice."""
    with program.wait() as client:
        program.process.send_signal(signal.SIGTERM)
        with pytest.raises(ConnectionError):  # the first signal has come once nothing more is accepted
            connect_on(client.getpeername())
        program.process.send_signal(signal.SIGTERM)
        assert program.next() == "end"
        assert program.process.wait(5) == 0


@pytest.fixture(scope="module")
def tls(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tls")
    make(folder, "one")
    return folder


def test_tls_is_served_with_strict_transport_security(tls):
    """Over TLS requests are answered as ever, with the header that keeps browsers and clients to TLS."""
    context = tls_context(str(tls / "one.pem"), str(tls / "one.key"))
    trust = ssl.create_default_context(cafile=str(tls / "one.pem"))
    trust.check_hostname = False
    with serving(tls=context) as running, httpx.Client(verify=trust) as client:
        assert running.url.startswith("https://")
        for _ in range(3):
            answer = client.post(running.url + "/p", content=b"x" * 100_000)
            assert answer.json()[3] == "x" * 100_000
            assert answer.headers["strict-transport-security"] == "max-age=31536000"


def test_tls_refusals_are_read_and_closed(tls):
    """What is refused over TLS is answered too, and the connection ends."""
    context = tls_context(str(tls / "one.pem"), str(tls / "one.key"))
    trust = ssl.create_default_context(cafile=str(tls / "one.pem"))
    trust.check_hostname = False
    with serving(tls=context, limits=Limits(linger_timeout_s=0.1)) as running:
        with trust.wrap_socket(running.connect()) as client:
            client.sendall(b"nonsense\r\n")
            assert statuses(read_until(client, b"}}")) == [400]
            assert client.recv(1) == b""
        with trust.wrap_socket(running.connect()) as client:
            client.sendall(GET.replace(b"Host", b"Connection: close\r\nHost"))
            assert statuses(read_all(client)) == [200]
