"""Feature state from what is recorded: the newest snapshot that can be used, then the ledger from there on."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

import msgspec
import numpy as np

from tollgate.errors import SnapshotError
from tollgate.features import NOT_FRAUD, Arrivals, FeatureEngine, FeaturePlan, RemoteEngine
from tollgate.features.arrivals import Waiting
from tollgate.features.port import transaction_hashes
from tollgate.features.snapshot import restore, save
from tollgate.intake import TransactionReader
from tollgate.ledger import Ledger

LOG = logging.getLogger(__name__)

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Snapshots:
    """Where the state is saved, and the secret that its entities are hashed under."""

    path: Path
    hash_key: bytes


class Recovery:
    """Brings a new engine to where the ledger is. What a snapshot lacks or gets wrong, the ledger has."""

    def __init__(
        self,
        plan: FeaturePlan,
        reader: TransactionReader,
        ledger: Ledger,
        snapshots: Snapshots | None = None,
        remote: Callable[[FeaturePlan], RemoteEngine] | None = None,
    ) -> None:
        """Say what to recover.

        Args:
            plan: The features.
            reader: Reads recorded transactions back.
            ledger: What was recorded.
            snapshots: Where to save the state; without it the ledger is always replayed from its beginning.
            remote: Makes an engine whose state outlives this process; then there is nothing to save.
        """
        self._plan = plan
        self._reader = reader
        self._ledger = ledger
        self._snapshots = snapshots
        self._remote = remote

    def recover(self, progress: Progress = lambda _done, _total: None, *, anew: bool = False) -> Arrivals:
        """Return the state that an uninterrupted run would have.

        Args:
            progress: Told how many of how many transactions are applied.
            anew: Remove what servers have of it before, for all that share it.

        Raises:
            StateError: The state is on servers that do not answer.
        """
        self._reader.warm_up()
        if self._remote is not None:
            return self._resume(self._remote(self._plan), progress, anew=anew)
        arrivals, position = self._restore()
        self.catch_up(arrivals, position, progress)
        return arrivals

    def catch_up(self, arrivals: Arrivals, position: int, progress: Progress = lambda _done, _total: None) -> int:
        """Apply what the ledger has after `position` to a state that has what is before; return where it is then.

        A state can be prepared while another one decides, and be caught up once more when it takes over.

        Args:
            arrivals: The state.
            position: Arrival number of the last transaction that it has; 0 for none.
            progress: Told how many of how many transactions are applied.

        Raises:
            LedgerError: The ledger could not be read.
            CapacityError: The state is full.
        """
        for part in self._ledger.replay(after=position):
            known = [NOT_FRAUD if one.fraud_known_us is None else one.fraud_known_us for one in part]
            arrivals.observe(self._reader.from_bodies([one.body for one in part]), np.array(known, dtype=np.int64))
            position += len(part)
            progress(position, max(position, self._ledger.transactions))
        return position

    def save(self, arrivals: Arrivals) -> None:
        """Save the state, which has caught up with the ledger; a failure is logged and costs time at the next start."""
        engine = arrivals.engine
        if self._snapshots is None or not isinstance(engine, FeatureEngine):
            return
        try:
            save(
                engine,
                self._snapshots.path,
                engine.observed,  # each recorded transaction once: its number is the position
                waiting=arrivals.pending,
                key_check=self._key_check(self._snapshots.hash_key),
            )
        except SnapshotError as error:
            LOG.warning("%s: %s", error.code, error.message)

    def _restore(self) -> tuple[Arrivals, int]:
        if self._snapshots is not None:
            try:
                found = restore(self._plan, self._snapshots.path, key_check=self._key_check(self._snapshots.hash_key))
            except SnapshotError as error:
                LOG.log(
                    logging.INFO if error.code == "no_snapshot" else logging.WARNING,
                    "%s: %s",
                    error.code,
                    error.message,
                )
            else:
                if found.position <= self._ledger.transactions:
                    return Arrivals(found.engine, found.waiting), found.position
                LOG.warning("the snapshot is ahead of the ledger, which is replayed instead")
        return Arrivals(FeatureEngine(self._plan)), 0

    def _resume(self, engine: RemoteEngine, progress: Progress, *, anew: bool) -> Arrivals:
        """Apply what the ledger has and the servers have not; what they have already is recognised."""
        if anew:
            engine.clear()
        position = min(engine.resume(), self._ledger.transactions)
        engine.rewind(position)
        arrivals = Arrivals(engine, self._labels(engine, position) if position and self._plan.learns else None)
        self.catch_up(arrivals, position, progress)
        engine.settle()
        return arrivals

    def _labels(self, engine: RemoteEngine, position: int) -> Waiting:
        """Apply the labels of the transactions up to a position that are known by now, and return the others."""
        number = 0
        due: list[int] = []
        bodies: list[bytes] = []
        for part in self._ledger.replay(after=0):
            for one in part[: position - number]:
                if one.fraud_known_us is not None:
                    due.append(one.fraud_known_us)
                    bodies.append(one.body)
            number += len(part)
            if number >= position:
                break
        batch = self._reader.from_bodies(bodies)
        ids, due_us = transaction_hashes(batch.ids), np.array(due, dtype=np.int64)
        order = np.argsort(due_us, kind="stable")
        known, waits = order[due_us[order] <= engine.clock_us], order[due_us[order] > engine.clock_us]
        engine.relearn(np.ascontiguousarray(batch.keys[:, known]), due_us[known], ids[known])
        return Waiting(engine.clock_us, due_us[waits], batch.keys[:, waits], ids[waits])

    def _key_check(self, hash_key: bytes) -> bytes:
        """Return what must be the same when a snapshot is used: hash key, rates, and the labels that it knows."""
        rates = msgspec.json.encode(self._reader.money)
        text = b"%d labels, %s" % (self._ledger.labels, rates)
        return blake2b(text, digest_size=16, key=hash_key).digest()
