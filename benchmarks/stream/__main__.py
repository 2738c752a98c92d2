"""How fast and how late over Kafka, beside a plain loop?

    python -m benchmarks.stream [--quick] [--transactions N] [--nodes 3] [--work FOLDER]

The broker is Apache Kafka itself, started here. Tollgate gets raw payments, computes 40 windowed features, decides,
commits to its ledger and then, in one transaction, decisions and offsets. The peer scores what stands in the record
with LightGBM and keeps nothing. The worker has one core; the broker and the load share the other. `lost` and `doubled`
are counted by a reader of committed records after a worker was killed in the middle, several times. Needs Java 17 and
Maven.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

from benchmarks.serving.material import ROOT, Material, make_bundle, make_material, make_peer_models
from benchmarks.serving.peer_models import FOREST
from benchmarks.serving.process import NotRunError, cores
from benchmarks.stream.broker import Topics, broker, stream_table
from benchmarks.stream.measure import Command, Ground, backlog, kills, latency_ms
from benchmarks.table import Progress, finish, show

WORK = ROOT / "build" / "stream"
SHARE = 0.5  # of what it can: where latency is measured
MODEL = "mlp"
_HISTORY, _QUICK_HISTORY = 200_000, 20_000


def main() -> None:
    given = _arguments()
    say = Progress()
    work = given.work.resolve() / ("quick" if given.quick else "full")
    count, seconds = (5_000, 3.0) if given.quick else (given.transactions, 20.0)
    where = cores()
    if where.server == where.load:
        say("only one core: worker and load take it from each other, so read no figure")
    try:
        material = make_material(work, _QUICK_HISTORY if given.quick else _HISTORY, say)
        make_bundle(material, MODEL, say)
        models = make_peer_models(work, say)
        runs = work / "runs"
        shutil.rmtree(runs, ignore_errors=True)
        runs.mkdir()
        with broker(runs / "kafka", given.nodes, where) as kafka:
            ground = Ground(kafka, material.traffic, where, runs)
            tollgate = _tollgate(material, kafka.bootstrap)
            peer = _peer(kafka.bootstrap, models / FOREST)
            say(f"{count:,} records that wait")
            per_s = backlog(ground, tollgate, "backlog", count)
            peer_per_s = backlog(ground, peer, "peer-backlog", count)
            say(f"records at {SHARE:.0%} of that")
            p99_ms = latency_ms(ground, tollgate, "latency", per_s * SHARE, seconds)
            peer_p99_ms = latency_ms(ground, peer, "peer-latency", per_s * SHARE, seconds)
            say("kills")
            lost, doubled = kills(ground, tollgate, "kills", count)
    except NotRunError as error:
        sys.exit(f"could not measure: {error}")
    rows = [
        ["tollgate stream", f"{per_s:,.0f}", f"{p99_ms:.1f}", str(lost), str(doubled)],
        ["consumer + LightGBM loop", f"{peer_per_s:,.0f}", f"{peer_p99_ms:.1f}", "-", "-"],
    ]
    show("Kafka in and out", ["worker", "records/s", f"p99 ms at {SHARE:.0%}", "lost", "doubled"], rows)
    finish({
        "broker": "kafka", "per_s": per_s, "p99_ms": p99_ms, "vs_peer": per_s / peer_per_s, "lost": lost,
        "doubled": doubled, "redis_p99_added_ms": None,
    })  # fmt: skip


def _tollgate(material: Material, bootstrap: str) -> Command:
    def command(topics: Topics, folder: Path) -> list[str]:
        if not folder.is_dir():  # one that was killed goes on with its ledger
            shutil.copytree(material.history, folder)
        config = material.configure(folder, MODEL)
        config.write_text(config.read_text() + stream_table(bootstrap, topics))
        return ["-m", "tollgate", "stream", "--config", str(config), "--internal-port", "0"]

    return command


def _peer(bootstrap: str, model: Path) -> Command:
    def command(topics: Topics, _folder: Path) -> list[str]:
        return ["-m", "benchmarks.stream.peer", bootstrap, topics.transactions, topics.decisions, str(model)]

    return command


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small: proves that it runs")
    parser.add_argument("--transactions", type=int, default=100_000)
    parser.add_argument("--nodes", type=int, default=1, help="brokers")
    parser.add_argument("--work", type=Path, default=WORK)
    return parser.parse_args()


if __name__ == "__main__":
    main()
