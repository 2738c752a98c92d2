"""Feature state from what is recorded: the newest snapshot that can be used, then the ledger from there on."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from tollgate.errors import SnapshotError, StateError
from tollgate.features import Arrivals, FeatureEngine, FeaturePlan, RemoteEngine
from tollgate.features.arrivals import Waiting
from tollgate.features.snapshot import restore, save
from tollgate.intake import TransactionReader
from tollgate.ledger import Ledger, Replayed
from tollgate.transaction import Batch

LOG = logging.getLogger(__name__)

Progress = Callable[[int, int], None]
OnFeatures = Callable[[Sequence[Replayed], Batch, NDArray[np.float64]], None]


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

    def replay(self, on_features: OnFeatures, progress: Progress = lambda _done, _total: None) -> Arrivals:
        """Do the same from the ledger's beginning, and hand over the features of every transaction.

        Args:
            on_features: Told the next N transactions, as recorded and as a batch, and their features, float64 (N, F),
                as they were when each came.
            progress: Told how many of how many transactions are applied.
        """
        arrivals = Arrivals(FeatureEngine(self._plan))
        self.catch_up(arrivals, 0, progress, on_features)
        return arrivals

    def catch_up(
        self,
        arrivals: Arrivals,
        position: int,
        progress: Progress = lambda _done, _total: None,
        on_features: OnFeatures = lambda _part, _batch, _features: None,
    ) -> int:
        """Apply what the ledger has after `position` to a state that has what is before; return where it is then.

        A state can be prepared while another one decides, and be caught up once more when it takes over.

        Args:
            arrivals: The state.
            position: Arrival number of the last transaction that it has; 0 for none.
            progress: Told how many of how many transactions are applied.
            on_features: Told the next N transactions, as recorded and as a batch, and their features, float64 (N, F).

        Raises:
            LedgerError: The ledger could not be read.
            CapacityError: The state is full.
        """
        old = self._ledger.old_frauds() if arrivals.learns else {}
        for part in self._ledger.replay(after=position):
            batch = self._reader.from_bodies([one.body for one in part])
            first, position = position + 1, position + len(part)
            if arrivals.learns:
                if old:
                    _learn_old(arrivals, batch, first, old)
                self._learn(arrivals, position, batch, first)  # read after the part: it has all that came within it
            on_features(part, batch, arrivals.observe(batch))
            arrivals.engine.recorded(arrivals.engine.observed, position)
            progress(position, max(position, self._ledger.transactions))
        self.learn(arrivals)
        return position

    def follow(self, arrivals: Arrivals) -> None:
        """Apply what was recorded since to a state that was recovered; it may take over from another one then.

        Raises:
            LedgerError: The ledger could not be read.
            CapacityError: The state is full.
        """
        self.catch_up(arrivals, arrivals.engine.observed)

    def learn(self, arrivals: Arrivals) -> None:
        """Hand over the labels that were recorded since, to a state that has all transactions of before them.

        Raises:
            LedgerError: The ledger could not be read.
        """
        if arrivals.learns:
            self._learn(arrivals, arrivals.engine.observed)

    def _learn(self, arrivals: Arrivals, last: int, batch: Batch | None = None, first: int = 0) -> None:
        """Hand over what belongs after transactions up to `last`; `batch` has those from `first` on."""
        found, newest = self._ledger.frauds(arrivals.newest, last)
        numbers = np.array([one.number for one in found], dtype=np.int64)
        due_us = np.array([one.available_us for one in found], dtype=np.int64)
        after = np.array([one.after for one in found], dtype=np.int64)
        if batch is None:  # of several writers none has observed all that has a number
            after = np.minimum(after, arrivals.engine.observed)
        keys = np.empty((len(arrivals.engine.plan.schema.entities), len(found)), dtype=np.uint64)
        ids = np.empty(len(found), dtype=object)
        here = np.zeros(len(found), dtype=np.bool_) if batch is None else numbers >= first
        if batch is not None:
            keys[:, here] = batch.keys[:, numbers[here] - first]
            ids[here] = [batch.ids[row] for row in (numbers[here] - first).tolist()]
        if not here.all():
            others = self._reader.from_bodies(self._ledger.bodies(numbers[~here].tolist()))
            keys[:, ~here], ids[~here] = others.keys, others.ids
        arrivals.learn(keys, due_us, after, newest, ids.tolist())

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
                arrivals = Arrivals(found.engine, found.waiting)
                if found.position <= self._ledger.transactions and arrivals.newest <= self._ledger.newest_label:
                    return arrivals, found.position
                LOG.warning("the snapshot is ahead of the ledger, which is replayed instead")
        return Arrivals(FeatureEngine(self._plan)), 0

    def _resume(self, engine: RemoteEngine, progress: Progress, *, anew: bool) -> Arrivals:
        """Apply what the ledger has and the servers have not; what they have already is recognised."""
        if anew:
            engine.clear()
        if engine.writers.standing().filled is not None:
            raise StateError(
                "state_shared",
                "expected a feature state of one writer of the ledger, but several write this one; say shared = true "
                "in [ledger], or begin anew with 'tollgate backfill --anew'",
            )
        position = min(engine.resume() or 0, self._ledger.transactions)
        engine.rewind(position)
        arrivals = self._resumed(engine, position)
        self.catch_up(arrivals, position, progress)
        engine.settle()
        return arrivals

    def _resumed(self, engine: RemoteEngine, position: int) -> Arrivals:
        """Return what feeds an engine that has what was recorded up to a position, with the labels of up to there."""
        arrivals = Arrivals(engine, Waiting.none(len(self._plan.schema.entities), engine.clock_us))
        if position and arrivals.learns:
            self._relearn(engine, arrivals, position)
        return arrivals

    def _relearn(self, engine: RemoteEngine, arrivals: Arrivals, position: int) -> None:
        """Apply the labels that came up to a position and are known by now, and let the others wait."""
        old = self._ledger.old_frauds()
        number = 0
        for part in self._ledger.replay() if old else ():
            if number >= position:
                break
            bodies = [one.body for one in part[: position - number]]
            _learn_old(arrivals, self._reader.from_bodies(bodies), number + 1, old)
            number += len(part)
        self._learn(arrivals, position)
        waiting = arrivals.take_known()
        assert waiting.ids is not None
        engine.relearn(waiting.keys, waiting.due_us, waiting.ids)

    def _key_check(self, hash_key: bytes) -> bytes:
        """Return what must be the same when a snapshot is used: hash key and rates."""
        return blake2b(msgspec.json.encode(self._reader.money), digest_size=16, key=hash_key).digest()


def _learn_old(arrivals: Arrivals, batch: Batch, first: int, known_us: Mapping[str, int]) -> None:
    """Hand over the labels, of before labels had numbers, of transactions from number `first` on."""
    rows = np.array([row for row, one in enumerate(batch.ids) if one in known_us], dtype=np.int64)
    due_us = np.array([known_us[batch.ids[row]] for row in rows], dtype=np.int64)
    arrivals.learn(batch.keys[:, rows], due_us, first + rows, ids=[batch.ids[row] for row in rows.tolist()])
