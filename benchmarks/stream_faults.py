"""Does each transaction get one committed decision while workers and brokers are killed?

    python -m benchmarks.stream_faults [--kills 20] [--broker-kills 3] [--per-s 300] [--nodes 3] [--quick]

Three brokers of Apache Kafka, topics on all three of which two must have a record, and a worker under a bounded load.
The worker is killed with signal 9 at random moments and started again; so is a broker, while the worker goes on with
the other two. At the end every transaction that the brokers took must have one committed decision, the one of the
ledger; the ledger must hold it once, and recorded features and saved state must be those of one uninterrupted run, bit
for bit. The exit code is 1 if anything did not hold. Needs Java 17 and Maven.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np

from benchmarks.faults.audit import DATABASE, audit
from benchmarks.faults.ground import SEED, Ground
from benchmarks.serving.material import ROOT, environment, make_bundle, make_material, tollgate_command
from benchmarks.serving.process import NotRunError, cores, pinned, stop
from benchmarks.serving.traffic import Traffic
from benchmarks.stream.broker import Broker, broker, kill_node, start, stream_table
from benchmarks.stream.measure import Decisions
from benchmarks.table import Progress, finish, show
from tollgate.ledger import Ledger

WORK = ROOT / "build" / "stream-faults"
PARTITIONS = 2
LIMIT_S = 180.0  # until what was sent is decided, or the worker decides again
LATEST_S = 1.5  # after the first decisions of a worker that was started again
DOWN_S = (2.0, 6.0)  # a broker, from and to
QUIET_S = 2.0  # nothing more came for so long
_HISTORY = 20_000
_TICK_S = 0.01
_READ_S = 0.05
_FLUSH_S = 120.0


class Plan(NamedTuple):
    """What is done: kills of the worker, kills of a broker, and records a second meanwhile."""

    worker_kills: int
    broker_kills: int
    per_s: float


class Seen(NamedTuple):
    """What came of it.

    Attributes:
        worker_kills: Kills of the worker.
        broker_kills: Kills of a broker.
        worker_ends: How often the worker ended by itself and was started again.
        records: That the brokers took.
        lost: Of them, those without a committed decision or not in the ledger.
        doubled: Committed decisions and rows of the ledger that are one too many.
        differ: Committed decisions that are not the one of the ledger.
        state_differs: Recorded features, and the saved state, that are not those of an uninterrupted run.
    """

    worker_kills: int
    broker_kills: int
    worker_ends: int
    records: int
    lost: int
    doubled: int
    differ: int
    state_differs: int

    @property
    def held(self) -> bool:
        """Whether what must hold did."""
        return self.records > 0 and not (self.lost or self.doubled or self.differ or self.state_differs)


class Load:
    """Sends transactions at a steady rate, until it is stopped."""

    def __init__(self, kafka: Broker, topic: str, traffic: Traffic, per_s: float) -> None:
        self._producer = kafka.producer({"enable.idempotence": True})
        self._topic, self._traffic, self._per_s = topic, traffic, per_s
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="load", daemon=True)
        self._thread.start()
        self.sent = 0

    def stop(self) -> int:
        """Stop, and return how many records the brokers have: all that were sent.

        Raises:
            NotRunError: They did not take them.
        """
        self._stopping.set()
        self._thread.join()
        if self._producer.flush(_FLUSH_S):
            raise NotRunError("the brokers did not take the records")
        return self.sent

    def _run(self) -> None:
        begun_s = time.monotonic()
        while not self._stopping.wait(_TICK_S):
            due = int((time.monotonic() - begun_s) * self._per_s)
            for serial in range(self.sent, due):
                self._producer.produce(self._topic, self._traffic.body(serial))
            self.sent = due
            self._producer.poll(0)


class Worker:
    """`tollgate stream` on one folder, started again and again."""

    def __init__(self, folder: Path, core: int) -> None:
        self._folder = folder
        self._command = pinned(core, tollgate_command("stream", "--internal-port", "0"))
        self._process: subprocess.Popen[bytes] | None = None
        self.ends = 0  # by itself

    def start(self) -> None:
        """Start it."""
        with (self._folder / "worker.log").open("ab") as log:
            self._process = subprocess.Popen(
                self._command, cwd=self._folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=_environment(),
                start_new_session=True,
            )  # fmt: skip

    def supervise(self) -> None:
        """Start it again if it ended by itself, as an orchestrator does."""
        if self._process is not None and self._process.poll() is not None:
            self.ends += 1
            self.start()

    def kill(self) -> None:
        """Kill it with signal 9, and start it again."""
        assert self._process is not None
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()
        self.start()

    def stop(self) -> None:
        """End it politely, so that it saves its state."""
        if self._process is not None:
            stop(self._process)


def break_it(ground: Ground, kafka: Broker, nodes: Path, plan: Plan, core: int) -> Seen:
    """Kill workers and brokers under load and return what came of it.

    Args:
        ground: Bundle, traffic and a place for the worker's folder.
        kafka: The cluster.
        nodes: Its folder.
        plan: What is killed how often.
        core: Of the worker.

    Raises:
        NotRunError: The worker decides no more, or a broker does not come up again.
    """
    rng = np.random.default_rng(SEED)
    topics = kafka.topics(PARTITIONS)
    folder = ground.folder("stream")
    config = folder / "tollgate.toml"
    config.write_text(config.read_text() + stream_table(kafka.bootstrap, topics))
    order = rng.permutation([True] * plan.broker_kills + [False] * plan.worker_kills).tolist()
    worker, decisions = Worker(folder, core), Decisions(kafka, topics.decisions)
    load = Load(kafka, topics.transactions, ground.traffic, plan.per_s)
    try:
        worker.start()
        for turn, is_broker in enumerate(order, 1):
            ground.say(f"kill {turn} of {len(order)}: {'a broker' if is_broker else 'the worker'}")
            _read_for(decisions, worker, float(rng.uniform(0, LATEST_S)), more=True)
            if not is_broker:
                worker.kill()
                continue
            kill_node(nodes, int(rng.integers(1, kafka.nodes + 1)))
            _read_for(decisions, worker, float(rng.uniform(*DOWN_S)), more=True)
            start(nodes, kafka.nodes, core)
        records = load.stop()
        ground.say(f"{records:,} records were sent; waiting for what is not decided yet")
        _read_until(decisions, worker, records)
        while decisions.read(QUIET_S):  # what is one too many
            pass
    finally:
        load.stop()
        worker.stop()
        decisions.close()
    return _judged(folder, plan, worker.ends, records, decisions)


def _judged(folder: Path, plan: Plan, ends: int, records: int, decisions: Decisions) -> Seen:
    found = audit(folder)
    with Ledger(f"sqlite:///{folder / DATABASE}", write=False) as ledger:
        recorded = {int(one): msgspec.json.encode(decision) for one, decision, _ in ledger.decided()}
    committed = Counter(decisions.serials)
    sent = set(range(records))
    lost = len(sent - committed.keys()) + len(sent - recorded.keys())
    doubled = sum(committed.values()) - len(sent & committed.keys()) + found.transactions - len(sent & recorded.keys())
    differ = sum(
        recorded.get(serial) != value for serial, value in zip(decisions.serials, decisions.values, strict=True)
    )
    state = found.features_differ + found.state_differs
    return Seen(plan.worker_kills, plan.broker_kills, ends, records, lost, doubled, differ, state)


def _read_for(decisions: Decisions, worker: Worker, seconds: float, *, more: bool) -> None:
    """Read for a while; with `more`, from the first new decision on: whoever is killed is at work."""
    if more:
        _read_until(decisions, worker, len(decisions.serials) + 1)
    until_s = time.monotonic() + seconds
    while time.monotonic() < until_s:
        decisions.read(_READ_S)
        worker.supervise()


def _read_until(decisions: Decisions, worker: Worker, count: int) -> None:
    until_s = time.monotonic() + LIMIT_S
    while len(set(decisions.serials)) < count:
        decisions.read(_READ_S)
        worker.supervise()
        if time.monotonic() > until_s:
            return  # what is missing is counted as lost


def _environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", **environment()}


def main() -> None:
    given = _arguments()
    say = Progress()
    where = cores()
    work = given.work.resolve()
    plan = (
        Plan(3, min(1, given.nodes - 1), 200.0) if given.quick else Plan(given.kills, given.broker_kills, given.per_s)
    )
    try:
        material = make_material(work / "material", _HISTORY, say)
        make_bundle(material, "mlp", say)
        nodes = work / "kafka"
        shutil.rmtree(nodes, ignore_errors=True)
        with broker(nodes, given.nodes, where) as kafka:
            seen = break_it(Ground.of(material, work / "scenarios", say), kafka, nodes, plan, where.server)
    except NotRunError as error:
        sys.exit(f"could not measure: {error}")
    show(
        "Kafka when workers and brokers are killed",
        ["", *(name.replace("_", " ") for name in Seen._fields)],
        [["tollgate stream", *(f"{value:,}" for value in seen)]],
    )
    finish(seen._asdict())
    sys.exit(not seen.held)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20, help="of the worker")
    parser.add_argument("--broker-kills", type=int, default=3)
    parser.add_argument("--per-s", type=float, default=300.0, help="records a second")
    parser.add_argument("--nodes", type=int, default=3, help="brokers")
    parser.add_argument("--quick", action="store_true", help="a few kills: whether it runs")
    parser.add_argument("--work", type=Path, default=WORK)
    return parser.parse_args()


if __name__ == "__main__":
    main()
