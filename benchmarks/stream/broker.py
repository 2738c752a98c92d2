"""Apache Kafka for a benchmark: started here, its topics new for every run."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

from benchmarks.serving.material import ROOT
from benchmarks.serving.process import Cores, NotRunError, pinned

START_LIMIT_S = 900.0  # the first time, the jars are fetched
FLUSH_LIMIT_S = 120.0
_MOST_REPLICAS = 3
_SCRIPT = (sys.executable, str(ROOT / "scripts" / "kafka"))
_STREAM = """
[stream]
bootstrap = "{bootstrap}"
group = "{topics.transactions}"

[stream.topics]
transactions = "{topics.transactions}"
decisions = "{topics.decisions}"
alerts = "{topics.alerts}"
dead_letters = "{topics.dead_letters}"
"""


class Topics(NamedTuple):
    """Of one run."""

    transactions: str
    decisions: str
    alerts: str
    dead_letters: str


def stream_table(bootstrap: str, topics: Topics) -> str:
    """Return the part of a configuration that has a worker read and write these topics."""
    return _STREAM.format(bootstrap=bootstrap, topics=topics)


class Broker:
    """A running cluster."""

    def __init__(self, bootstrap: str) -> None:
        self.bootstrap = bootstrap
        self._admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})
        self._numbers = itertools.count(1)
        self._replicas = min(self.nodes, _MOST_REPLICAS)

    def topics(self, partitions: int = 1) -> Topics:
        """Make topics of one partition each, but for that of transactions, which has so many."""
        number = next(self._numbers)
        topics = Topics(*(f"bench-{name}-{number}" for name in Topics._fields))
        counts = {name: partitions if name == topics.transactions else 1 for name in topics}
        new = [NewTopic(name, count, self._replicas) for name, count in counts.items()]
        for made in self._admin.create_topics(new).values():
            made.result()
        return topics

    @property
    def nodes(self) -> int:
        """How many brokers there are."""
        return self.bootstrap.count(",") + 1

    def producer(self, settings: Mapping[str, str | int | bool] | None = None) -> Producer:
        """Return a producer of transactions."""
        return Producer({"bootstrap.servers": self.bootstrap, "linger.ms": 1, "log_level": 0, **(settings or {})})

    def fill(self, topic: str, bodies: Iterable[bytes]) -> None:
        """Produce records and wait until the brokers have them."""
        producer = self.producer()
        for body in bodies:
            while True:
                try:
                    producer.produce(topic, body)
                    break
                except BufferError:
                    producer.poll(0.1)
        if producer.flush(FLUSH_LIMIT_S):
            raise NotRunError("the brokers did not take the records")


@contextmanager
def broker(folder: Path, nodes: int, cores: Cores) -> Iterator[Broker]:
    """Run a cluster until the block is left, beside the load.

    Raises:
        NotRunError: There is no Java or Maven, or it did not start.
    """
    try:
        yield Broker(start(folder, nodes, cores.load))
    finally:
        subprocess.run([*_SCRIPT, "stop", "--folder", str(folder)], check=False, timeout=START_LIMIT_S)


def start(folder: Path, nodes: int, core: int) -> str:
    """Start those nodes of a cluster that do not run, and return the addresses of all.

    Raises:
        NotRunError: One did not start.
    """
    command = pinned(core, [*_SCRIPT, "start", "--nodes", str(nodes), "--folder", str(folder)])
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=START_LIMIT_S)
    if done.returncode:
        raise NotRunError(f"Kafka did not start: {done.stderr.strip()[-300:]}")
    return done.stdout.strip()


def kill_node(folder: Path, number: int) -> None:
    """Kill a node of a cluster, counted from 1, with signal 9."""
    os.kill(int((folder / f"node-{number}" / "pid").read_text()), signal.SIGKILL)
