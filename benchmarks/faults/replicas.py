"""Several servers on one ledger and one feature state: one of them, Redis or PostgreSQL is killed, again and again."""

from __future__ import annotations

import datetime as dt
import re
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from benchmarks import redis_servers
from benchmarks.database import Database
from benchmarks.faults.audit import champion_of, hash_key
from benchmarks.faults.ground import SEED, Ground, Source
from benchmarks.faults.interface import NO_DEADLINE_MS
from benchmarks.faults.killed import LATEST_S, SIZES
from benchmarks.faults.load import Load, Sent, await_decisions, send_again, settle, transactions_of
from benchmarks.faults.postgres import AWAY_S
from benchmarks.faults.row import Row, Sizes
from benchmarks.faults.server import Server
from benchmarks.serving.process import NotRunError
from tollgate.cli.sharing import shared_engines
from tollgate.config import Config, read_config
from tollgate.duration import DAY_US, HOUR_US, parse_duration_us
from tollgate.features import FeatureEngine, FeaturePlan
from tollgate.ledger import Ledger
from tollgate.transaction import Batch

REPLICAS = 3
CLIENTS = 2  # of each
SHARE, LEAST = 0.15, 3  # of the rounds of kill -9 of one server
AFTER_S = 1.0  # how long the others go on at least
WAITS_S = 0.8  # at most, that a server decides without a primary before it is killed too
FAULTS = ("server", "primary", "both", "postgres", "both")  # in turn
_KILLED = {
    "server": "a server",
    "primary": "a primary of Redis",
    "both": "a primary and then a server that waits for it",
    "postgres": "PostgreSQL",
}
_PROBES = 3_000  # transactions that the state must give the same features as a replay
_ORDERLESS = re.compile(r"_(?:count|sum|mean|max|distinct)_(\d+d)$")  # the same in whatever order the events came
_TIME = re.compile(rb'"effective_time":"[^"]*"')
_SHARED = """\
shared = true

[state]
engine = "redis"

[state.redis]
urls = {urls}
cluster = true
timeout_ms = 500
"""


class _Live(Source):
    """Payments that are made now: how long a repeat is recognised goes by their time."""

    def body(self) -> tuple[bytes, int]:
        """Return a body, and how many transactions are in it."""
        body, size = super().body()
        now = dt.datetime.now(dt.UTC).isoformat().encode()
        return _TIME.sub(b'"effective_time":"%b"' % now, body), size


class _Found(NamedTuple):
    """What ledger and state came to."""

    transactions: int
    repeated: int
    state_differs: int


def replicas(ground: Ground, sizes: Sizes) -> Row:
    """Kill under load, send everything again to another server, and compare the state with a replay in the end."""
    if not redis_servers.installed():
        raise NotRunError(f"needs {redis_servers.PACKAGE}")
    rounds = max(round(sizes.rounds * SHARE), LEAST)
    source, rng = _Live(ground.traffic, sizes=SIZES), np.random.default_rng(SEED)
    acknowledged: list[Sent] = []
    kills: Counter[str] = Counter()
    broken = begun = 0
    with ExitStack() as stack:
        database = stack.enter_context(Database())
        cluster = redis_servers.Cluster(Path(stack.enter_context(TemporaryDirectory())))
        stack.callback(cluster.stop)
        url = database.ledger()
        more = _SHARED.format(urls=msgspec.json.encode(cluster.urls).decode())
        folders = [
            ground.folder(f"replica-{place}", url=url, more=more, deadline_ms=NO_DEADLINE_MS)
            for place in range(REPLICAS)
        ]
        servers = [_named(folder, f"server-{place}") for place, folder in enumerate(folders)]
        stack.callback(lambda: [one.stop() for one in servers])
        for one in servers:
            one.start()
        clock_s = time.monotonic()
        for turn in range(rounds):
            fault = FAULTS[turn % len(FAULTS)]
            ground.say(f"replicas: {turn + 1} of {rounds}, kill -9 of {fault}")
            loads, victim = _round(fault, servers, database, cluster, source, rng)
            if victim is not None:
                if rng.integers(2) == 1:
                    servers[victim] = _named(folders[victim], f"server-{REPLICAS + turn}")
                servers[victim].start()
            kills[fault] += 1
            sent = [one for load in loads for one in load.acknowledged]
            begun += transactions_of(sent)
            open_ = [one for load in loads for one in load.unknown + load.refused]
            broken += sum(one.answer is not None and one.answer.status != 503 for load in loads for one in load.refused)
            acknowledged += sent + settle(servers[turn % REPLICAS], open_)
        per_s = begun / (time.monotonic() - clock_s)
        lost = sum(
            send_again(one, acknowledged[place::REPLICAS])
            for place, one in enumerate(servers[1:] + servers[:1])  # mostly another than the one that decided
        )
        for one in servers:
            one.stop()
        ground.say("replicas: comparing the state with a replay")
        found = _audit(folders[0], url)
    count = transactions_of(acknowledged)
    doubled = found.repeated + max(found.transactions - count, 0)
    lost += max(count - found.transactions, 0)
    done = ", ".join(f"{kills[name]} times {what}" for name, what in _KILLED.items())
    return Row(
        "several servers on one ledger and one state",
        f"{REPLICAS} servers on one PostgreSQL and a Redis cluster of three primaries with a replica each; kill -9 "
        f"under the load of {CLIENTS} clients each: {done}; a server comes back under its own name or another one",
        "what was acknowledged gets the same bytes again from any server, what was on its way is decided once, and all "
        "that was recorded counts once in the state",
        f"{count:,} transactions acknowledged: {lost} lost, {doubled} doubled; {found.state_differs} of "
        f"{min(_PROBES, count):,} payments get other counts, sums, means or maxima than a replay gives; {broken} "
        "refusals other than 503",
        held=not (lost or doubled or found.state_differs or broken) and count == found.transactions > 0,
        figures={
            "replicas": REPLICAS,
            "per_s": per_s,
            "kills": rounds,
            "acknowledged": count,
            "lost": lost,
            "doubled": doubled,
            "state_differs": found.state_differs,
        },
    )


def _named(folder: Path, name: str) -> Server:
    return Server(folder, extra={"TOLLGATE_WRITER": name})


def _round(
    fault: str,
    servers: Sequence[Server],
    database: Database,
    cluster: redis_servers.Cluster,
    source: Source,
    rng: np.random.Generator,
) -> tuple[list[Load], int | None]:
    """Kill something under load; all but a server, whose place is returned, is there again when this returns."""
    with ExitStack() as stack:
        loads = [stack.enter_context(Load(one, source, CLIENTS)) for one in servers]
        for load in loads:
            load.await_answer()
        time.sleep(rng.uniform(0, LATEST_S))
        victim = int(rng.integers(REPLICAS))
        ends_server = fault in ("server", "both")
        gone = cluster.primaries_now()[victim] if fault in ("primary", "both") else None
        if gone is not None:
            gone.kill()
            time.sleep(rng.uniform(0, WAITS_S))
        if ends_server:
            servers[victim].kill()
        if gone is not None:
            cluster.until_taken_over()  # if it came back before, and empty, it would be the primary again
        if fault == "postgres":
            database.kill()
            time.sleep(rng.uniform(0, AWAY_S))
            database.start()
        await_decisions([load for place, load in enumerate(loads) if not (ends_server and place == victim)])
        time.sleep(AFTER_S)
    if gone is not None:
        gone.start()
        cluster.until_whole()
    return loads, victim if ends_server else None


def _audit(folder: Path, url: str) -> _Found:
    """Compare what the state says of the transactions of the ledger with what a replay says."""
    settings = read_config(folder / "tollgate.toml")
    plan, reader = champion_of(folder)
    memory = FeatureEngine(plan)
    ids: list[str] = []
    bodies: list[bytes] = []
    least_us, most_us = np.iinfo(np.int64).max, 0
    with Ledger(url, write=False) as ledger:
        for part in ledger.replay():
            batch = reader.from_bodies([one.body for one in part])
            memory.observe(batch)
            least_us, most_us = min(least_us, int(batch.time_us.min())), max(most_us, int(batch.time_us.max()))
            ids += [one.transaction_id for one in part]
            bodies += [one.body for one in part]
    columns = _orderless(plan, most_us - least_us)
    chosen = np.random.default_rng(SEED).permutation(len(bodies))[:_PROBES].tolist()
    probes = _later(reader.from_bodies([bodies[row] for row in chosen]), most_us)
    want = memory.observe(probes)[:, columns]
    got = _shared(settings, plan, probes)[:, columns]
    differs = ~((got == want) | (np.isnan(got) & np.isnan(want))).all(axis=1)
    return _Found(len(ids), len(ids) - len(set(ids)), int(differs.sum()))


def _orderless(plan: FeaturePlan, span_us: int) -> list[int]:
    """Return the features that are the same in whatever order the transactions of a span came."""
    found = [
        place
        for place, name in enumerate(plan.names)
        if (match := _ORDERLESS.search(name)) and parse_duration_us(match[1]) > span_us + HOUR_US
    ]
    if not found:
        raise NotRunError(f"no window is longer than the {span_us / DAY_US:.1f} days of the traffic; use fewer rounds")
    return found


def _later(batch: Batch, at_us: int) -> Batch:
    """Return the same transactions once more, as new ones that come after all others."""
    ids = [f"probe-{number}" for number in range(len(batch))]
    return replace(batch, ids=ids, time_us=at_us + np.arange(1, len(batch) + 1, dtype=np.int64))


def _shared(settings: Config, plan: FeaturePlan, probes: Batch) -> NDArray[np.float64]:
    engine = shared_engines(settings, hash_key())(plan)
    engine.resume("(probes)")
    got = engine.observe(probes)
    lacked = engine.lacked()
    engine.close()
    if lacked:
        raise NotRunError("the feature state does not answer, so that it cannot be compared")
    return got
