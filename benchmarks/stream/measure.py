"""What is measured of one worker: how fast it works off what is there, how late it is, and what a kill does to it."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
from confluent_kafka import Consumer, TopicPartition

from benchmarks.serving.material import environment
from benchmarks.serving.process import Cores, NotRunError, pinned, stop
from benchmarks.serving.traffic import Traffic
from benchmarks.stream.broker import Broker, Topics

LIMIT_S = 300.0  # of anything that is waited for
WARM = 2_000  # records before a latency is measured
KILLS = 3
_READ_AT_ONCE = 2_000
_READ_S = 0.05
_BRIEF_S = 0.001
_USER, _SYSTEM = 11, 12  # fields of /proc/PID/stat after the name in brackets

Command = Callable[[Topics, Path], list[str]]


class Backlog(NamedTuple):
    """How a worker works off what waits for it: records a second, and microseconds of processor a record."""

    per_s: float
    cpu_us: float


class Ground(NamedTuple):
    """What every measurement needs."""

    broker: Broker
    traffic: Traffic
    cores: Cores
    folder: Path


class Decisions:
    """What a reader of committed records has seen of a topic of decisions."""

    def __init__(self, broker: Broker, topic: str) -> None:
        self._consumer = Consumer({
            "bootstrap.servers": broker.bootstrap, "group.id": f"reader-{topic}", "isolation.level": "read_committed",
            "enable.auto.commit": False, "fetch.wait.max.ms": 5, "log_level": 0,
        })  # fmt: skip
        self._consumer.assign([TopicPartition(topic, 0, 0)])
        self.serials: list[int] = []
        self.values: list[bytes] = []
        self.seen_s: list[float] = []  # when each was here, on the monotonic clock

    def read(self, wait_s: float) -> int:
        """Take in what is there; return how many that was."""
        first = self._consumer.poll(wait_s)
        if first is None:
            return 0
        now_s = time.monotonic()
        got = [first, *self._consumer.consume(_READ_AT_ONCE, 0)]
        got = [one for one in got if one.error() is None]
        self.serials += [int(one.key() or b"") for one in got]
        self.values += [one.value() or b"" for one in got]
        self.seen_s += [now_s] * len(got)
        return len(got)

    def read_until(self, count: int, what: str) -> None:
        """Read until so many have been seen.

        Raises:
            NotRunError: They did not come; `what` names who should have sent them.
        """
        until_s = time.monotonic() + LIMIT_S
        while len(self.serials) < count:
            self.read(_READ_S)
            if time.monotonic() > until_s:
                raise NotRunError(f"{what}: {len(self.serials)} of {count} decisions came in {LIMIT_S:.0f} s")

    def close(self) -> None:
        """Leave."""
        self._consumer.close()


def backlog(ground: Ground, command: Command, name: str, count: int) -> Backlog:
    """Return how fast a worker decides what waits for it, its start left out."""
    topics = ground.broker.topics()
    ground.broker.fill(topics.transactions, map(ground.traffic.body, range(count)))
    made = command(topics, ground.folder / name)
    with _reading(ground.broker, topics) as decisions, _working(ground, made, name) as process:
        decisions.read_until(1, name)
        first, begun_s, cpu_s = len(decisions.serials), decisions.seen_s[-1], cpu_seconds(process.pid)
        decisions.read_until(count, name)
        cpu_s = cpu_seconds(process.pid) - cpu_s
    return Backlog((count - first) / (decisions.seen_s[-1] - begun_s), cpu_s / (count - first) * 1e6)


def cpu_seconds(pid: int) -> float:
    """Return what a process has had of the processor, all its threads together."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[_USER]) + int(fields[_SYSTEM])) / os.sysconf("SC_CLK_TCK")


def latency_ms(ground: Ground, command: Command, name: str, per_s: float, seconds: float) -> float:
    """Return the 99th percentile of the time from when a record was due to when its decision was read, in ms."""
    topics = ground.broker.topics()
    body, count = ground.traffic.body, int(per_s * seconds)
    with _reading(ground.broker, topics) as decisions, _working(ground, command(topics, ground.folder / name), name):
        ground.broker.fill(topics.transactions, map(body, range(WARM)))
        decisions.read_until(WARM, name)
        producer = ground.broker.producer()
        begun_s = time.monotonic()
        sent = 0
        while sent < count:
            due = min(int((time.monotonic() - begun_s) * per_s), count)
            for serial in range(sent, due):
                producer.produce(topics.transactions, body(WARM + serial))
            sent = due
            producer.poll(0)
            decisions.read(_BRIEF_S)
        decisions.read_until(WARM + count, name)
    serials, seen_s = np.array(decisions.serials[WARM:]), np.array(decisions.seen_s[WARM:])
    return float(np.percentile(seen_s - begun_s - (serials - WARM) / per_s, 99)) * 1e3


def kills(ground: Ground, command: Command, name: str, count: int) -> tuple[int, int]:
    """Kill a worker in the middle, several times; return how many records have no decision, and how many extra ones."""
    topics = ground.broker.topics()
    ground.broker.fill(topics.transactions, map(ground.traffic.body, range(count)))
    with _reading(ground.broker, topics) as decisions:
        for turn in range(1, KILLS + 1):
            with _working(ground, command(topics, ground.folder / name), name) as process:
                decisions.read_until(count * turn // (KILLS + 1), name)
                os.kill(process.pid, signal.SIGKILL)
                process.wait()
        with _working(ground, command(topics, ground.folder / name), name):
            decisions.read_until(count, name)
        while decisions.read(1.0):  # what is too much
            pass
    different = len(set(decisions.serials))
    return count - different, len(decisions.serials) - different


@contextmanager
def _reading(broker: Broker, topics: Topics) -> Iterator[Decisions]:
    decisions = Decisions(broker, topics.decisions)
    try:
        yield decisions
    finally:
        decisions.close()


@contextmanager
def _working(ground: Ground, command: list[str], name: str) -> Iterator[subprocess.Popen[bytes]]:
    with (ground.folder / f"{name}.log").open("ab") as log:
        process = subprocess.Popen(
            pinned(ground.cores.server, command), cwd=ground.folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            env={**os.environ, "OMP_NUM_THREADS": "1", **environment()}, start_new_session=True,
        )  # fmt: skip
    try:
        yield process
    finally:
        stop(process)
