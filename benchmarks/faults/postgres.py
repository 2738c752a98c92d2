"""PostgreSQL under a server is killed while it decides, again and again; the server is never started anew."""

from __future__ import annotations

import time

import numpy as np

from benchmarks.database import Database
from benchmarks.faults.audit import audit
from benchmarks.faults.ground import SEED, Ground, Source
from benchmarks.faults.killed import CLIENTS, LATEST_S, SIZES
from benchmarks.faults.load import Load, Sent, await_decisions, send_again, settle, transactions_of
from benchmarks.faults.row import Row, Sizes
from benchmarks.faults.server import Server

AWAY_S = 1.0  # at most, until the database is started again


def postgres(ground: Ground, sizes: Sizes) -> Row:
    """Kill all processes of the database under load, start it again, and send everything again in the end."""
    source, rng = Source(ground.traffic, sizes=SIZES), np.random.default_rng(SEED)
    acknowledged: list[Sent] = []
    refusals = broken = 0
    with Database() as database:
        url = database.ledger()
        folder = ground.folder("postgres", url=url)
        with Server(folder) as server:
            for turn in range(sizes.rounds):
                ground.say(f"kill -9 of PostgreSQL: {turn + 1} of {sizes.rounds}")
                load = _round(server, database, source, rng)
                acknowledged += load.acknowledged
                refusals += len(load.refused)
                broken += sum(one.answer is not None and one.answer.status != 503 for one in load.refused)
                acknowledged += settle(server, load.unknown + load.refused)
            lost = send_again(server, acknowledged)
            recorded = server.health().ledger_transactions
        found = audit(folder, url)
    doubled = found.repeated + max(recorded - transactions_of(acknowledged), 0)
    differ = found.features_differ + found.state_differs
    lost += max(transactions_of(acknowledged) - found.transactions, 0)
    return Row(
        "PostgreSQL is killed",
        f"kill -9 of all its processes, {sizes.rounds} times at a random moment of the load of {CLIENTS} clients; "
        f"started again within {AWAY_S:g} s",
        "503 meanwhile and on without a restart; what was acknowledged gets the same bytes again, what was on its way "
        "is decided once; features and state are those of one uninterrupted run, bit for bit",
        f"{transactions_of(acknowledged):,} transactions acknowledged: {lost} lost, {doubled} doubled, {differ} "
        f"differ; {refusals} refusals, {broken} of them other than 503",
        held=not (lost or doubled or differ or broken) and refusals > 0 and found.transactions > 0,
        figures={
            "kills": sizes.rounds,
            "acknowledged": transactions_of(acknowledged),
            "lost": lost,
            "doubled": doubled,
            "state_differs": differ,
        },
    )


def _round(server: Server, database: Database, source: Source, rng: np.random.Generator) -> Load:
    with Load(server, source, CLIENTS) as load:
        load.await_answer()
        time.sleep(rng.uniform(0, LATEST_S))
        database.kill()
        time.sleep(rng.uniform(0, AWAY_S))
        database.start()
        await_decisions([load])
    return load
