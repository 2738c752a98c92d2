"""Whether a ledger and the state beside it are what one uninterrupted run over the same transactions leaves."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np

from benchmarks.serving.material import environment, tollgate_command
from benchmarks.serving.process import finished
from tollgate.bundle import Bundle, Registry
from tollgate.features import Arrivals, FeatureEngine, FeaturePlan
from tollgate.features.plan import plan_from_data
from tollgate.features.snapshot import restore, save
from tollgate.intake import TransactionReader
from tollgate.ledger import Ledger

DATABASE = "tollgate.db"
_BACKFILL_LIMIT_S = 300.0
_HEADER_LENGTH, _HEADER_START = slice(12, 16), 16  # of a snapshot, in bytes
_PROBES = 200  # transactions that two states must give the same features


class Audit(NamedTuple):
    """What a ledger holds, and what of it is wrong.

    Attributes:
        transactions: In the ledger.
        repeated: Transactions whose id is there more than once.
        features_differ: Transactions whose recorded features are not those of a replay, bit for bit.
        state_differs: Whether the saved state is not that of a replay.
    """

    transactions: int
    repeated: int
    features_differ: int
    state_differs: bool

    @property
    def clean(self) -> bool:
        """Whether nothing is wrong."""
        return not (self.repeated or self.features_differ or self.state_differs)


def audit(folder: Path, url: str | None = None) -> Audit:
    """Compare the ledger and the saved state of a stopped server with a replay.

    Args:
        folder: Of a server that was ended politely, and saved its state.
        url: Of its ledger; the file in the folder by default.

    Raises:
        NotRunError: The backfill failed.
    """
    url = url or f"sqlite:///{folder / DATABASE}"
    plan, reader = champion_of(folder)
    arrivals = Arrivals(FeatureEngine(plan))
    ids: set[str] = set()
    count = differ = 0
    with Ledger(url, write=False) as ledger:
        recorded = ledger.decided()
        for part in ledger.replay():
            features = arrivals.observe(reader.from_rows([msgspec.json.decode(one.body) for one in part]))
            for row in features:
                identifier, _, stored = next(recorded)
                ids.add(identifier)
                count += 1
                differ += stored != row.tobytes()
        count += sum(1 for _ in recorded)
    return Audit(count, count - len(ids), differ, _state_differs(folder, plan, url))


def _state_differs(folder: Path, plan: FeaturePlan, url: str) -> bool:
    """Whether the state that the server saved gives other features than one that `tollgate backfill` makes anew."""
    path = snapshot_of(folder)
    if path is None:
        return True
    mine = path.with_suffix(".served")
    path.rename(mine)
    try:
        command = tollgate_command("backfill", "--config", str(folder / "tollgate.toml"))
        finished(command, "'tollgate backfill'", _BACKFILL_LIMIT_S, environment())
        if mine.read_bytes() == path.read_bytes():
            return False
        return _means(mine, plan, folder, url) != _means(path, plan, folder, url)
    finally:
        mine.unlink()


def _means(path: Path, plan: FeaturePlan, folder: Path, url: str) -> tuple[int, int, int, bytes]:
    """Return what a saved state comes to, whatever its layout: counts, and the features of the transactions after."""
    _, reader = champion_of(folder)
    found = restore(plan, path, key_check=_key_check(path))
    engine = found.engine
    counts = (found.position, engine.observed, engine.late)
    with Ledger(url, write=False) as ledger:
        last = max(ledger.transactions - _PROBES, 0)
        part = next(iter(ledger.replay(after=last)))
    probes = reader.from_rows([msgspec.json.decode(one.body) for one in part])
    return (*counts, np.ascontiguousarray(engine.observe(probes)).tobytes())


def _key_check(path: Path) -> bytes:
    """Return the check of a snapshot from its own header: here only two states are compared."""
    data = path.read_bytes()
    size = int.from_bytes(data[_HEADER_LENGTH], "little")
    header = msgspec.json.decode(data[_HEADER_START : _HEADER_START + size])
    return bytes.fromhex(header["key_check"])


def snapshot_of(folder: Path) -> Path | None:
    """Return the saved state in a folder, if there is one."""
    return next(iter(sorted(folder.glob("*.state"))), None)


def save_another_plan(path: Path, bundle: Bundle) -> None:
    """Write the state of a shorter list of features to `path`, where that of the bundle's is looked for."""
    plan = plan_of(bundle)
    save(FeatureEngine(plan.select([place > 0 for place in range(len(plan.names))])), path, 0)


def champion_of(folder: Path) -> tuple[FeaturePlan, TransactionReader]:
    """Return the features of the champion in a folder, and what reads its transactions as the servers there do."""
    bundle = Registry(folder / "bundles").load()
    return plan_of(bundle), TransactionReader(bundle.manifest.schema_, bundle.manifest.money, hash_key())


def plan_of(bundle: Bundle) -> FeaturePlan:
    """Return the compiled features of a bundle."""
    manifest = bundle.manifest
    return plan_from_data(manifest.plan["features"], manifest.schema_, manifest.money.scale)


def hash_key() -> bytes:
    """Return the secret of the servers here."""
    return environment()["TOLLGATE_HASH_KEY"].encode()


def observed_us(folder: Path) -> list[int]:
    """Return when the server received each transaction by its own clock, in arrival order."""
    with closing(sqlite3.connect(folder / DATABASE)) as connection:
        rows = connection.execute("SELECT observed_us, count FROM groups ORDER BY first")
        return [observed for observed, count in rows for _ in range(count)]
