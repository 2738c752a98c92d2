"""Apache Kafka for a benchmark: started here, its topics new for every run."""

from __future__ import annotations

import itertools
import subprocess
import sys
from collections.abc import Iterable, Iterator
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


class Topics(NamedTuple):
    """Of one run."""

    transactions: str
    decisions: str
    alerts: str
    dead_letters: str


class Broker:
    """A running cluster."""

    def __init__(self, bootstrap: str) -> None:
        self.bootstrap = bootstrap
        self._admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})
        self._numbers = itertools.count(1)
        self._replicas = min(bootstrap.count(",") + 1, _MOST_REPLICAS)

    def topics(self) -> Topics:
        """Make topics of one partition each: one worker's share."""
        number = next(self._numbers)
        topics = Topics(*(f"{name}-{number}" for name in Topics._fields))
        for made in self._admin.create_topics([NewTopic(name, 1, self._replicas) for name in topics]).values():
            made.result()
        return topics

    def producer(self) -> Producer:
        """Return a producer of transactions."""
        return Producer({"bootstrap.servers": self.bootstrap, "linger.ms": 1, "log_level": 0})

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
    script = [sys.executable, str(ROOT / "scripts" / "kafka")]
    where = ["--folder", str(folder)]
    start = pinned(cores.load, [*script, "start", "--nodes", str(nodes), *where])
    done = subprocess.run(start, capture_output=True, text=True, check=False, timeout=START_LIMIT_S)
    try:
        if done.returncode:
            raise NotRunError(f"Kafka did not start: {done.stderr.strip()[-300:]}")
        yield Broker(done.stdout.strip())
    finally:
        subprocess.run([*script, "stop", *where], check=False, timeout=START_LIMIT_S)
