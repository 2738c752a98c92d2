"""A bundle at work: from features to scores, outcomes and reasons, as columns."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tollgate.breaker import Breaker
from tollgate.decision import Decision, Mode, Outcome, Reason
from tollgate.errors import ModelError
from tollgate.explain import Explainer
from tollgate.policy import Policy
from tollgate.steps import Steps
from tollgate.transaction import Batch

LOG = logging.getLogger(__name__)

CANARY_ERROR = 1e-4  # by how much the canary's score may differ from what it was at the start: other batches round
DEADLINE = "deadline_exceeded"  # why a transaction that waited too long has no score
BAD_SCORE = "bad_score"  # why one has none that is a number
PATIENCE_S = 60.0  # what a model is given where nobody waits for the answer: a file
NO_HISTORY = "state_unavailable"  # why one has none whose histories could not be read
MODEL = "model"  # what `missing` names where there is no score

Floats = NDArray[np.float64]
_OUTCOMES = tuple(Outcome)


class Judgement(NamedTuple):
    """What was found of N transactions.

    Attributes:
        outcomes: int8 (N,), places in `tuple(Outcome)`.
        scores: Calibrated, float64 (N,); NaN where there is none.
        confidences: Likewise.
        reasons: Of the rows that have any.
        degraded: For each code why there was no score: how many rows.
        rule_hits: On how many rows each rule held, by its name and how.
        list_hits: How many rows had an entry, by list and column.
        model_s: Seconds that scoring took; explaining is not in it.
        policy_s: Seconds that the rest took.
        lacking: The features that could not be read; then there are no scores.
    """

    outcomes: NDArray[np.int8]
    scores: Floats
    confidences: Floats
    reasons: dict[int, tuple[Reason, ...]]
    degraded: dict[str, int]
    rule_hits: Mapping[tuple[str, str], int]
    list_hits: Mapping[tuple[str, str], int]
    model_s: float
    policy_s: float
    lacking: tuple[str, ...] = ()

    def decisions(self, batch: Batch, bundles: Iterable[str]) -> list[Decision]:
        """Return the decisions on the N transactions as they are answered; `bundles` are the N that decided."""
        no_reasons: tuple[Reason, ...] = ()
        reasons = self.reasons
        return [
            Decision(
                identifier,
                _OUTCOMES[outcome],
                score,
                confidence,
                Mode.NORMAL,
                reasons.get(row, no_reasons),
                missing,
                bundle,
            )
            if score == score  # noqa: PLR0124  # NaN: there is none
            else Decision(
                identifier,
                _OUTCOMES[outcome],
                None,
                None,
                Mode.DEGRADED,
                reasons.get(row, no_reasons),
                (*missing, *self.lacking, MODEL),
                bundle,
            )
            for row, (identifier, outcome, score, confidence, missing, bundle) in enumerate(
                zip(
                    batch.ids,
                    self.outcomes.tolist(),
                    self.scores.tolist(),
                    self.confidences.tolist(),
                    batch.missing(),
                    bundles,
                    strict=True,
                )
            )
        ]


def joined(first: Judgement, second: Judgement, rows: NDArray[np.bool_], more_s: float) -> Judgement:
    """Return two judgements as one.

    Args:
        first: On those of N transactions that are not of `rows`, in their order.
        second: On the others, in theirs.
        rows: bool (N,).
        more_s: Seconds of scoring that are in neither.
    """
    outcomes = np.empty(len(rows), dtype=np.int8)
    scores, confidences = np.empty(len(rows)), np.empty(len(rows))
    reasons: dict[int, tuple[Reason, ...]] = {}
    for one, mine in ((first, ~rows), (second, rows)):
        outcomes[mine], scores[mine], confidences[mine] = one.outcomes, one.scores, one.confidences
        places = np.flatnonzero(mine).tolist()
        reasons |= {places[row]: why for row, why in one.reasons.items()}
    return Judgement(
        outcomes,
        scores,
        confidences,
        reasons,
        dict(Counter(first.degraded) + Counter(second.degraded)),
        Counter(first.rule_hits) + Counter(second.rule_hits),
        Counter(first.list_hits) + Counter(second.list_hits),
        first.model_s + second.model_s + more_s,
        first.policy_s + second.policy_s,
        first.lacking,
    )


@dataclass(frozen=True, slots=True)
class Judge:
    """A bundle at work. Replace one by another between two batches and no decision is mixed.

    Attributes:
        bundle: Its content id.
        score: Calibrated scores and confidences, float64 (N,) each, of features, float64 (N, F). Raises ModelError.
        policy: Lists, rules and thresholds.
        explainer: Finds the reasons.
        breaker: What the model runs behind.
        canary: Features of a transaction that nobody sent, float64 (1, F), and its score when the bundle was loaded.
    """

    bundle: str
    score: Callable[[Floats], tuple[Floats, Floats]]
    policy: Policy
    explainer: Explainer
    breaker: Breaker
    canary: tuple[Floats, float] | None = None

    def check(self, within_s: float) -> Steps[None]:
        """Score the canary: whoever gets an answer from this bundle gets the right one.

        Raises:
            ModelError: It has no score, or another than when the bundle was loaded.
        """
        if self.canary is None:
            return
        features, expected = self.canary
        scores, _ = yield from self.breaker.call(lambda: self.score(features), within_s)
        if not abs(float(scores[0]) - expected) <= CANARY_ERROR:
            raise ModelError("wrong_canary", f"expected a canary score of {expected:.6f}, but got {scores[0]:.6f}")

    def judge(
        self,
        batch: Batch,
        features: Floats,
        now_us: int | NDArray[np.int64],
        within_s: float = PATIENCE_S,
        late: NDArray[np.bool_] | None = None,
        lacking: tuple[str, ...] = (),
        given: tuple[Floats, Floats] | None = None,
    ) -> Steps[Judgement]:
        """Return the judgement on N transactions with features (N, F).

        Args:
            batch: The transactions.
            features: float64 (N, F).
            now_us: Observed time, or that of each transaction, int64 (N,): entries expire by it.
            within_s: What the model is given.
            late: bool (N,): those that waited too long to be scored.
            lacking: Features that could not be read: without them nothing is scored, and they are named as missing.
            given: What the model gave already, float64 (N,) each: scores without NaN, and confidences.
        """
        begun = time.perf_counter()
        ends = begun + within_s
        if lacking:
            scores, confidences = np.full(len(features), np.nan), np.full(len(features), np.nan)
            degraded = {NO_HISTORY: len(features)}
            late = None
        elif given is not None:
            (scores, confidences), degraded = given, {}
        else:
            scores, confidences, degraded = yield from self._scores(features, within_s, late)
        scored = time.perf_counter()
        verdict = self.policy.judge(batch, features, scores, now_us)
        reasons = dict(verdict.reasons)
        if degraded:
            code = list(degraded)[-1]  # of those that were not late
            for row in verdict.degraded.nonzero()[0].tolist():
                why = DEADLINE if late is not None and late[row] else code
                reasons[row] = (*reasons.get(row, ()), self.policy.without_score(why))
        held = ((verdict.outcomes > 0) & ~verdict.degraded).nonzero()[0]
        explaining_s = 0.0
        if held.size:
            explaining_s = yield from self._explain(features, scores, verdict.outcomes, held, reasons, ends)
        policy_s = time.perf_counter() - scored - explaining_s
        return Judgement(
            verdict.outcomes,
            scores,
            confidences,
            reasons,
            degraded,
            verdict.rule_hits,
            verdict.list_hits,
            scored - begun + explaining_s,
            policy_s,
            lacking,
        )

    def _scores(
        self, features: Floats, within_s: float, late: NDArray[np.bool_] | None
    ) -> Steps[tuple[Floats, Floats, dict[str, int]]]:
        count = len(features)
        waited = 0 if late is None else int(np.count_nonzero(late))
        degraded = {DEADLINE: waited} if waited else {}
        if waited == count:
            return np.full(count, np.nan), np.full(count, np.nan), degraded
        wanted = features if not waited else features[~late]  # type: ignore[operator]
        try:
            scores, confidences = yield from self.breaker.call(lambda: self.score(wanted), within_s)
        except ModelError as error:
            LOG.warning("deciding without the model", extra={"code": error.code, "transactions": len(wanted)})
            degraded[error.code] = len(wanted)
            return np.full(count, np.nan), np.full(count, np.nan), degraded
        bad = int(np.count_nonzero(np.isnan(scores)))
        if bad:
            degraded[BAD_SCORE] = bad
        if not waited:
            return scores, confidences, degraded
        all_scores, all_confidences = np.full(count, np.nan), np.full(count, np.nan)
        all_scores[~late], all_confidences[~late] = scores, confidences  # type: ignore[operator]
        return all_scores, all_confidences, degraded

    def _explain(
        self,
        features: Floats,
        scores: Floats,
        outcomes: NDArray[np.int8],
        held: NDArray[np.intp],
        reasons: dict[int, tuple[Reason, ...]],
        ends: float,
    ) -> Steps[float]:
        """Add the reasons of the model for the rows that it held; return the seconds that this took."""
        begun = time.perf_counter()
        mine = held[scores[held] >= self.policy.config.review]  # the others are held by lists and rules alone
        if mine.size:
            chosen, chosen_scores = features[mine], scores[mine]
            try:
                found = yield from self.breaker.call(
                    lambda: self.explainer.explain(chosen, chosen_scores), ends - time.perf_counter()
                )
            except ModelError as error:
                LOG.warning("no reasons of the model", extra={"code": error.code, "transactions": len(mine)})
                found = [()] * len(mine)
            for row, why in zip(mine.tolist(), found, strict=True):
                by_model = why or (self.policy.over_threshold(float(scores[row]), _OUTCOMES[outcomes[row]]),)
                reasons[row] = (*reasons.get(row, ()), *by_model)
        return time.perf_counter() - begun
