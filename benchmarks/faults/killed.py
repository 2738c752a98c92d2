"""kill -9 under load, again and again."""

from __future__ import annotations

import time

import numpy as np

from benchmarks.faults.audit import audit
from benchmarks.faults.ground import SEED, Ground, Source
from benchmarks.faults.load import Load, Sent, send_again, settle, transactions_of
from benchmarks.faults.row import Row, Sizes
from benchmarks.faults.server import Server

CLIENTS = 6
SIZES = (1, 1, 1, 2, 7)  # transactions of a body: mostly one
LATEST_S = 0.8  # after the first answer
DURABILITIES = ("fsync", "os")


class _Tally:
    """What is counted over all rounds."""

    def __init__(self) -> None:
        self.acknowledged: list[Sent] = []
        self.in_flight = 0
        self.lost = self.doubled = 0


def kill(ground: Ground, sizes: Sizes) -> Row:
    """Kill the server while it decides, start it on the same ledger, and send everything again."""
    folder = ground.folder("kill")
    tally = _Tally()
    source, rng = Source(ground.traffic, sizes=SIZES), np.random.default_rng(SEED)
    server = Server(folder)
    try:
        server.start()
        for turn in range(sizes.rounds):
            ground.say(f"kill -9: {turn + 1} of {sizes.rounds}")
            ground.configure(folder, DURABILITIES[(turn + 1) % len(DURABILITIES)])  # of the round after
            _round(server, source, rng, tally)
        tally.lost += send_again(server, tally.acknowledged)  # those of all rounds, after the last
    finally:
        server.stop()
    found = audit(folder)
    doubled = tally.doubled + found.repeated
    differ = found.features_differ + found.state_differs
    acknowledged = transactions_of(tally.acknowledged)
    return Row(
        "kill -9",
        f"{sizes.rounds} times at a random moment of the load of {CLIENTS} clients, durability fsync and os in turn",
        "what was acknowledged gets the same bytes again, what was on its way is decided once, features and state are "
        "those of one uninterrupted run, bit for bit",
        f"{acknowledged:,} transactions acknowledged, {tally.in_flight:,} of them after they had been on their way: "
        f"{tally.lost} lost, {doubled} doubled, {differ} differ",
        held=not (tally.lost or doubled or differ) and acknowledged == found.transactions > 0,
        figures={"kill_rounds": sizes.rounds, "lost": tally.lost, "doubled": doubled, "state_differs": differ},
    )


def _round(server: Server, source: Source, rng: np.random.Generator, tally: _Tally) -> None:
    with Load(server, source, CLIENTS) as load:
        load.await_answer()
        time.sleep(rng.uniform(0, LATEST_S))
        server.kill()
    server.start()
    recorded = server.health().ledger_transactions
    tally.lost += send_again(server, load.acknowledged)
    tally.lost += server.health().ledger_transactions - recorded  # one that was decided anew had been lost
    settled = settle(server, load.unknown + load.refused)
    with_them = server.health().ledger_transactions
    tally.doubled += max(with_them - recorded - transactions_of(settled), 0)
    tally.lost += send_again(server, settled)
    tally.doubled += server.health().ledger_transactions - with_them
    tally.acknowledged += load.acknowledged + settled
    tally.in_flight += transactions_of(load.unknown)
    total = transactions_of(tally.acknowledged)
    tally.lost += max(total - with_them, 0)
    tally.doubled += max(with_them - total, 0)
