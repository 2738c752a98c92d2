"""Feature state that several writers of one ledger share: filled once, then each applies what it recorded itself."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import cast

import numpy as np

from tollgate.errors import StateError
from tollgate.features import FILLING, Arrivals, FeaturePlan, RemoteEngine
from tollgate.intake import TransactionReader
from tollgate.ledger import ALONE, SharedLedger
from tollgate.recovery import Progress, Recovery

LOG = logging.getLogger(__name__)

_ALL = int(np.iinfo(np.int64).max)  # labels after whichever transaction


class SharedRecovery(Recovery):
    """As `Recovery`, for a ledger with several writers and a state on servers that all of them use.

    One writer at a time starts. The first fills the state with all that the ledger has. After that each writer has to
    apply what it recorded itself, from the position on that the servers know; for one that is gone, the next to start
    does so.
    """

    def __init__(
        self,
        plan: FeaturePlan,
        reader: TransactionReader,
        ledger: SharedLedger,
        remote: Callable[[FeaturePlan], RemoteEngine],
    ) -> None:
        """Say what to recover; see `Recovery`."""
        super().__init__(plan, reader, ledger, remote=remote)
        self._shared = ledger

    def follow(self, arrivals: Arrivals) -> None:
        """Apply what this writer recorded since."""
        self._apply(arrivals, self._shared.writer, cast(RemoteEngine, arrivals.engine).writers.number)
        self.learn(arrivals)

    def learn(self, arrivals: Arrivals) -> None:
        """Hand over the labels that were recorded since, whichever writer recorded them."""
        if arrivals.learns:
            self._learn(arrivals, _ALL)

    def _resume(self, engine: RemoteEngine, progress: Progress, *, anew: bool) -> Arrivals:
        own = self._shared.writer
        with self._shared.starting():
            if anew:
                engine.clear()
            filled, positions = engine.writers.standing()
            if filled is None:
                filled, positions = self._fill(engine, positions, progress), {}
            for writer in (positions.keys() | {ALONE}) - {own}:
                self._take_over(engine, writer, filled)
            position = _resume(engine, own, filled)
            arrivals = self._resumed(engine, _ALL)
            self._apply(arrivals, own, position)
            self.learn(arrivals)
            engine.settle()
        return arrivals

    def _fill(self, engine: RemoteEngine, positions: dict[str, int], progress: Progress) -> int:
        """Apply all that the ledger has, in order of arrival; return up to which number that is."""
        if FILLING not in positions and len(positions) > 1:
            raise StateError(
                "state_of_others",
                f"expected a feature state of one ledger, but writers of several have filled it: "
                f"{', '.join(sorted(positions))}; begin anew with 'tollgate backfill --anew'",
            )
        start = positions.get(FILLING, next(iter(positions.values()), 0))  # where it was cut off, or one writer was
        engine.resume(FILLING)
        engine.rewind(start)
        position = self.catch_up(self._resumed(engine, start), start, progress)
        engine.settle()
        engine.writers.fill_ends(position)
        return position

    def _take_over(self, engine: RemoteEngine, writer: str, filled: int) -> None:
        """Apply what a writer recorded last, if it is gone; unless it comes back, nothing is kept of it."""
        with self._shared.instead_of(writer) as is_gone:
            if not is_gone:
                return
            count = self._apply(Arrivals(engine), writer, _resume(engine, writer, filled))
            engine.settle()
            if count:
                LOG.info("handed over %d transactions that %s, which is gone, had recorded last", count, writer)
            if writer != ALONE:
                engine.writers.forget(writer)

    def _apply(self, arrivals: Arrivals, writer: str, after: int) -> int:
        """Hand over what a writer recorded after an arrival number; return how many transactions that are."""
        count = 0
        for number, bodies in self._shared.written(writer, after):
            arrivals.observe(self._reader.from_bodies(bodies))
            arrivals.engine.recorded(arrivals.engine.observed, number)
            count += len(bodies)
        return count


def _resume(engine: RemoteEngine, writer: str, filled: int) -> int:
    """Go on in the name of a writer, and return from which number on; what it recorded up to the filling is there."""
    position = engine.resume(writer)
    if position is None:
        position = filled
        engine.rewind(position)
    return position
