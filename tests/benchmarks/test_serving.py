"""The benchmark of the servers runs, sends what it says it sends, and hides no wait."""

import asyncio
import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.serving.closed_loop import closed_loop, transactions
from benchmarks.serving.environments import requirements
from benchmarks.serving.open_loop import measure, schedule
from benchmarks.serving.process import NotRunError, Probe, cores, free_port, running
from benchmarks.serving.traffic import Traffic, traffic_of
from tollgate.config import Config
from tollgate.intake import TransactionReader
from tollgate.simulate import Scenario, simulate

ROOT = Path(__file__).parents[2]
KEYS = {
    "vs_fastapi_lightgbm", "vs_bentoml", "requests_per_s", "open_loop_p99_ms", "open_loop_p999_ms", "nginx_p99_ms",
    "batch_per_s",
}  # fmt: skip
needs_wrk = pytest.mark.skipif(
    shutil.which("wrk") is None and "CI" not in os.environ, reason="needs wrk: apt-get install wrk"
)
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
BUSY = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 2\r\n\r\n{}"


@pytest.mark.slow
@needs_wrk
def test_the_quick_run_ends_with_its_measures(tmp_path):
    """The last line is JSON with exactly the promised names; what was not run is null, and Tollgate made no errors."""
    done = subprocess.run(
        [
            sys.executable, "-m", "benchmarks.serving", "--quick", "--only", "tollgate", "bentoml",
            "--work", str(tmp_path), "--peers", "/dev/null",
        ],
        cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=False, timeout=280,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "bentoml: not run: making /dev/null/bentoml" in done.stdout
    measures = json.loads(done.stdout.splitlines()[-1])
    assert set(measures) == KEYS
    assert measures["requests_per_s"] > 0
    assert measures["batch_per_s"] > 0
    assert measures["open_loop_p999_ms"] >= measures["open_loop_p99_ms"] > 0
    assert measures["vs_bentoml"] is None


def test_each_transaction_is_new_and_later_than_those_before():
    """Ids never repeat, times never go back, and each body is one that Tollgate reads, over several rounds."""
    frame = simulate(Scenario(transactions=400, cards=40, merchants=200, days=5, seed=3))
    traffic = traffic_of(frame, 100)
    reader = TransactionReader(Config().table, Config().money, b"key of the benchmark")
    bodies = [traffic.body(serial) for serial in range(250)]
    batch = reader.from_json(b"[" + b",".join(bodies) + b"]")
    assert len(set(batch.ids)) == 250
    assert (np.diff(batch.time_us) >= 0).all()
    assert batch.time_us[0] > frame["effective_time"].dt.epoch("us")[-1]


@needs_wrk
@pytest.mark.parametrize("together", [1, 3])
def test_wrk_sends_the_same_requests_as_the_open_loop(tmp_path, together):
    """The Lua script makes the bodies of `Traffic`, in order and without a gap, over many rounds."""
    traffic = Traffic(19_000, 2, [0, 0, 1], [b'T10:00:00Z","a":1}', b'T11:00:00Z","a":22}', b'T01:00:00Z"}'])
    traffic.save(tmp_path / "traffic.txt")
    assert Traffic.load(tmp_path / "traffic.txt") == traffic
    received = []
    with answering(lambda body: received.append(body) or OK) as port:
        arguments = transactions(tmp_path / "traffic.txt", 6, together, ["X-Key: a"])
        closed = closed_loop(f"http://127.0.0.1:{port}/predict", arguments, 1, 1, cores().load)
    assert closed.refused == closed.broken == 0
    assert len(received) >= closed.requests > 3
    first = int((received[0] if together == 1 else received[0].strip(b"["))[19:31])
    for place, body in enumerate(received):
        serial = first + place * together
        bodies = [traffic.body(serial + one) for one in range(together)]
        assert body == (bodies[0] if together == 1 else b"[" + b",".join(bodies) + b"]")


@needs_wrk
def test_a_refused_request_is_no_throughput(tmp_path):
    """Answers that are no success count as errors, not as requests a second."""
    (tmp_path / "request.http").write_bytes(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{}")
    with answering(lambda _body: BUSY) as port:
        closed = closed_loop(f"http://127.0.0.1:{port}/predict", [str(tmp_path / "request.http")], 2, 1, cores().load)
    assert closed.refused == closed.requests > 0
    assert closed.per_s == 0


def test_the_open_loop_counts_the_wait_that_a_closed_loop_hides():
    """While a server stalls, all that is due waits, and waits from the time at which it was due."""
    stall_s, due_s = 0.3, schedule(1_000, 0.1, None)
    first = iter([True])

    def answer(_body):
        if next(first, False):
            time.sleep(stall_s)
        return OK

    result = opened(answer, due_s, connections=1)
    assert result.answered == result.due == len(due_s) == 100
    assert result.p50_ms >= (stall_s - due_s[-1]) * 1e3  # a closed loop would have seen one slow request
    assert result.max_ms >= result.p999_ms >= result.p99_ms >= result.p50_ms
    assert result.waited >= 90


def test_the_open_loop_counts_refusals_and_lost_requests():
    """An answer that is no success is refused, and a connection that closes leaves its request unanswered."""
    numbers = iter(range(1_000))
    result = opened(lambda _body: BUSY if next(numbers) % 2 else OK, schedule(2_000, 0.05, None), connections=4)
    assert (result.due, result.answered, result.refused) == (100, 100, 50)

    numbers = iter(range(1_000))
    result = opened(lambda _body: None if next(numbers) == 10 else OK, schedule(2_000, 0.05, None), connections=4)
    assert (result.due, result.answered) == (100, 99)


@given(rate=st.floats(1, 1e5), seconds=st.floats(0.001, 0.1), seed=st.none() | st.integers(0, 99))
def test_a_schedule_is_fixed_before_it_begins(rate, seconds, seed):
    """Arrivals ascend, are as many as the rate says, and are evenly spaced without randomness."""
    due_s = schedule(rate, seconds, None if seed is None else np.random.default_rng(seed))
    assert len(due_s) == max(round(rate * seconds), 1)
    assert (np.diff(due_s) >= 0).all()
    if seed is None:
        assert due_s[-1] == pytest.approx(len(due_s) / rate)


def test_all_that_a_server_started_is_ended(tmp_path):
    """A worker in a session of its own, which outlives its parent, does not outlive the measurement."""
    script = (
        "import http.server, pathlib, subprocess, sys\n"
        "child = subprocess.Popen(['sleep', '200'], start_new_session=True)\n"
        f"pathlib.Path({str(tmp_path / 'child')!r}).write_text(str(child.pid))\n"
        "http.server.test(http.server.SimpleHTTPRequestHandler, port=int(sys.argv[1]), bind='127.0.0.1')\n"
    )
    port = free_port()
    command = [sys.executable, "-c", script, str(port)]
    with running(command, cores().server, port, Probe("/"), tmp_path / "log", {}):
        child = int((tmp_path / "child").read_text())
        assert command_of(child).startswith(b"sleep")
    until = time.monotonic() + 5
    while command_of(child).startswith(b"sleep") and time.monotonic() < until:
        time.sleep(0.01)
    assert not command_of(child).startswith(b"sleep")


def test_a_server_that_ends_says_why(tmp_path):
    """A row that cannot be measured has a reason: the last words of its log."""
    command = [sys.executable, "-c", "raise SystemExit('no model here')"]
    with (
        pytest.raises(NotRunError, match="ended with 1: no model here"),
        running(command, cores().server, free_port(), Probe("/"), tmp_path / "log", {}),
    ):
        pass


def test_every_peer_is_pinned():
    """Each environment names exact versions, so that a run can be repeated."""
    assert set(requirements()) == {"fastapi", "bentoml", "litserve", "ray", "mlserver", "quix"}
    assert all("==" in package for packages in requirements().values() for package in packages)


def command_of(process):
    with contextlib.suppress(OSError):
        return Path(f"/proc/{process}/cmdline").read_bytes()
    return b""


def opened(answer, due_s, connections):
    request = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{}"
    with answering(answer) as port:
        return asyncio.run(measure("127.0.0.1", port, lambda _number: request, due_s, connections))


@contextlib.contextmanager
def answering(answer):
    """Run a small HTTP server in a thread; `answer` returns the response to a body, or None to hang up."""

    async def serve(reader, writer):
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
                response = answer(await reader.readexactly(length))
                if response is None:
                    break
                writer.write(response)
        writer.close()

    listener = socket.create_server(("127.0.0.1", 0))
    loop = asyncio.new_event_loop()
    server = loop.run_until_complete(asyncio.start_server(serve, sock=listener))
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        loop.call_soon_threadsafe(server.close)
        asyncio.run_coroutine_threadsafe(settled(loop), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def settled(loop):
    """Wait for the connections that are open; their clients have hung up."""
    others = asyncio.all_tasks(loop) - {asyncio.current_task()}
    await asyncio.wait_for(asyncio.gather(*others, return_exceptions=True), 5)
