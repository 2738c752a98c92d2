"""A canary: a challenger that decides for a share of the cards, in place of the champion.

Which cards follows from their keyed hash, so a card stays with one bundle; a transaction without a card is assigned by
its own id. Where the canary gives no score, the champion decides: nobody gets a worse decision for being in the trial.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tollgate.errors import ModelError
from tollgate.hashing import HashKey, text_hashes
from tollgate.judge import BAD_SCORE, Floats, Judge, Judgement, joined
from tollgate.steps import Steps
from tollgate.transaction import Batch

LOG = logging.getLogger(__name__)

PATIENCE = 0.5  # of the time that a batch has left: the champion needs the rest where the canary fails
_HASHES = 2.0**64  # how many hashes there are
_MIX = (np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))  # SplitMix64 (Steele et al., 2014)
_SHIFTS = (np.uint64(30), np.uint64(27), np.uint64(31))

Bools = NDArray[np.bool_]


class Tried(NamedTuple):
    """What became of a trial in one batch of N transactions.

    Attributes:
        bundle: Content id of the canary.
        rows: Which it decided, bool (N,).
        failed: For each code why it had no score: how many rows the champion decided instead.
        model_s: Seconds that it took to score.
    """

    bundle: str
    rows: Bools
    failed: dict[str, int]
    model_s: float


@dataclass(frozen=True, slots=True)
class Trial:
    """A canary at work. It reads the champion's features.

    Attributes:
        judge: The canary.
        share: Of the cards, between 0 and 1.
        card: The entity by which transactions are assigned; None assigns each by its own id.
        key: Hashes ids where there is no card.
    """

    judge: Judge
    share: float
    card: str | None
    key: HashKey

    def assigned(self, batch: Batch) -> Bools:
        """Return which of N transactions are the canary's, bool (N,)."""
        if self.card is None:
            keys = text_hashes([f"canary {one}" for one in batch.ids], self.key)
        else:
            keys = batch.key(self.card)
            without = np.flatnonzero(keys == 0)
            if without.size:
                keys = keys.copy()
                keys[without] = text_hashes([f"canary {batch.ids[row]}" for row in without.tolist()], self.key)
        # Mixed with the bundle's id, so that the next canary does not get the same cards again.
        mixed = keys ^ np.uint64(int(self.judge.bundle, 16))
        for multiplier, shift in zip(_MIX, _SHIFTS, strict=False):
            mixed = (mixed ^ (mixed >> shift)) * multiplier
        mixed ^= mixed >> _SHIFTS[-1]
        chosen: Bools = mixed / _HASHES < self.share
        return chosen

    def decide(
        self,
        champion: Judge,
        batch: Batch,
        features: Floats,
        now_us: int,
        within_s: float,
        late: Bools | None = None,
        lacking: tuple[str, ...] = (),
    ) -> Steps[tuple[Judgement, Tried]]:
        """Return the judgement on N transactions, each by the champion or the canary, and which is whose.

        The arguments are those of `Judge.judge`. What is late or lacks features has no score from either: the
        champion's fallback decides it.
        """
        begun = time.perf_counter()
        mine = self.assigned(batch)
        if lacking:
            mine[:] = False
        elif late is not None:
            mine &= ~late
        failed: dict[str, int] = {}
        scored: tuple[Floats, Floats] | None = None
        if mine.any():
            scored = yield from self._scored(features[mine], within_s * PATIENCE, failed)
            bad = np.ones(np.count_nonzero(mine), dtype=np.bool_) if scored is None else np.isnan(scored[0])
            if scored is not None and bad.any():
                failed[BAD_SCORE] = int(np.count_nonzero(bad))
                scored = scored[0][~bad], scored[1][~bad]
            mine[np.flatnonzero(mine)[bad]] = False
        model_s = time.perf_counter() - begun
        left_s = within_s - model_s  # a canary that used its time up has left the champion the other half
        tried = Tried(self.judge.bundle, mine, failed, model_s)
        if scored is None or not mine.any():
            whole = yield from champion.judge(batch, features, now_us, left_s, late, lacking)
            return whole._replace(model_s=whole.model_s + model_s), tried
        own = yield from self.judge.judge(batch.take(mine), features[mine], now_us, left_s, given=scored)
        if mine.all():
            return own._replace(model_s=own.model_s + model_s), tried
        rest = ~mine
        left_s = within_s - (time.perf_counter() - begun)
        others = yield from champion.judge(
            batch.take(rest), features[rest], now_us, left_s, None if late is None else late[rest], lacking
        )
        return joined(others, own, mine, model_s), tried

    def _scored(self, features: Floats, within_s: float, failed: dict[str, int]) -> Steps[tuple[Floats, Floats] | None]:
        """Return scores and confidences; None where the canary failed, which is added to `failed`."""
        try:
            return (yield from self.judge.breaker.call(lambda: self.judge.score(features), within_s))
        except ModelError as error:
            LOG.warning("deciding without the canary", extra={"code": error.code, "transactions": len(features)})
            failed[error.code] = len(features)
            return None
