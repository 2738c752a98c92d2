"""How fast and how late over Kafka, beside Quix Streams and a plain loop?

    python -m benchmarks.stream [--quick] [--transactions N] [--history N] [--nodes 3] [--work FOLDER]

The broker is Apache Kafka itself, started here. Tollgate gets raw payments, computes 40 windowed features, decides,
commits to its ledger and then, in one transaction, decisions and offsets. The peers score what stands in the record
with LightGBM and keep nothing: Quix Streams, record by record, and a plain loop that scores batches. The worker has one
core; the broker, the load and the reader share the other. `lost` and `doubled` are counted by a reader of committed
records after a worker was killed in the middle, several times. `vs_peer` is the ratio to Quix Streams. Needs Java 17,
Maven and, for Quix Streams, a package registry.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path
from typing import NamedTuple

from benchmarks.serving.environments import python_of
from benchmarks.serving.material import ROOT, Material, make_bundle, make_material, make_peer_models
from benchmarks.serving.peer_models import FOREST
from benchmarks.serving.process import NotRunError, cores
from benchmarks.stream.broker import Topics, broker, stream_table
from benchmarks.stream.measure import Backlog, Command, Ground, backlog, kills, latency_ms
from benchmarks.table import Progress, finish, show

WORK = ROOT / "build" / "stream"
SHARE = 0.1  # of what it can: where latency is measured
MODEL = "mlp"
PEER_QUIX = Path(__file__).with_name("peer_quix.py")  # by its path: its environment does not have ours
QUIX, LOOP = "Quix Streams + LightGBM", "loop + LightGBM"
_HISTORY, _QUICK_HISTORY = 200_000, 20_000


class Row(NamedTuple):
    """What was measured of one worker."""

    name: str
    backlog: Backlog
    p99_ms: float


def main() -> None:
    given = _arguments()
    say = Progress()
    history = _QUICK_HISTORY if given.quick else given.history
    work = given.work.resolve() / f"history-{history}"
    count, seconds = (5_000, 3.0) if given.quick else (given.transactions, 20.0)
    where = cores()
    if where.server == where.load:
        say("only one core: worker and load take it from each other, so read no figure")
    try:
        material = make_material(work, history, say)
        make_bundle(material, MODEL, say)
        models = make_peer_models(work, say)
        runs = work / "runs"
        shutil.rmtree(runs, ignore_errors=True)
        runs.mkdir()
        with broker(runs / "kafka", given.nodes, where) as kafka:
            ground = Ground(kafka, material.traffic, where, runs)
            tollgate = _tollgate(material, kafka.bootstrap)
            peers = _peers(kafka.bootstrap, models / FOREST, given.work.resolve() / "environments", say)
            rows = [_row(ground, "tollgate stream", tollgate, count, seconds, say)]
            rows += [_row(ground, name, command, count, seconds, say) for name, command in peers.items()]
            say("kills")
            lost, doubled = kills(ground, tollgate, "kills", count)
    except NotRunError as error:
        sys.exit(f"could not measure: {error}")
    show(
        "Kafka in and out",
        ["worker", "records/s", "us of processor each", f"p99 ms at {SHARE:.0%} of its rate"],
        [[row.name, f"{row.backlog.per_s:,.0f}", f"{row.backlog.cpu_us:.1f}", f"{row.p99_ms:.1f}"] for row in rows],
    )
    mine, by_name = rows[0], {row.name: row.backlog for row in rows}
    quix, loop = by_name.get(QUIX), by_name[LOOP]
    finish({
        "broker": "kafka", "per_s": mine.backlog.per_s, "p99_ms": mine.p99_ms,
        "vs_peer": None if quix is None else mine.backlog.per_s / quix.per_s, "lost": lost, "doubled": doubled,
        "cpu_us": mine.backlog.cpu_us, "vs_loop": mine.backlog.per_s / loop.per_s,
        "cpu_vs_peer": None if quix is None else mine.backlog.cpu_us / quix.cpu_us,
        "cpu_vs_loop": mine.backlog.cpu_us / loop.cpu_us,
    })  # fmt: skip


def _row(ground: Ground, name: str, command: Command, count: int, seconds: float, say: Progress) -> Row:
    slug = name.split(maxsplit=1)[0]
    say(f"{name}: {count:,} records that wait")
    found = backlog(ground, command, f"{slug}-backlog", count)
    say(f"{name}: {found.per_s:,.0f} a second; records at {SHARE:.0%} of that")
    return Row(name, found, latency_ms(ground, command, f"{slug}-latency", found.per_s * SHARE, seconds))


def _tollgate(material: Material, bootstrap: str) -> Command:
    def command(topics: Topics, folder: Path) -> list[str]:
        if not folder.is_dir():  # one that was killed goes on with its ledger
            shutil.copytree(material.history, folder)
        config = material.configure(folder, MODEL)
        config.write_text(config.read_text() + stream_table(bootstrap, topics))
        return [sys.executable, "-m", "tollgate", "stream", "--config", str(config), "--internal-port", "0"]

    return command


def _peers(bootstrap: str, model: Path, environments: Path, say: Progress) -> dict[str, Command]:
    """Return the commands of the peers that are to be had here."""

    def command_of(*start: str) -> Command:
        return lambda topics, _: [*start, bootstrap, topics.transactions, topics.decisions, str(model)]

    found = {LOOP: command_of(sys.executable, "-m", "benchmarks.stream.peer")}
    try:
        found[QUIX] = command_of(str(python_of("quix", environments)), str(PEER_QUIX))
    except NotRunError as error:
        say(f"{QUIX} is left out: {error}")
    return found


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small: proves that it runs")
    parser.add_argument("--transactions", type=int, default=100_000)
    parser.add_argument("--history", type=int, default=_HISTORY, help="payments in the ledger before it begins")
    parser.add_argument("--nodes", type=int, default=1, help="brokers")
    parser.add_argument("--work", type=Path, default=WORK)
    return parser.parse_args()


if __name__ == "__main__":
    main()
