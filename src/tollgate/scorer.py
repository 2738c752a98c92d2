"""THE path: transactions in, decisions out; the same for HTTP, files and streams."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from tollgate.decision import Decision, Mode, Outcome, Reason
from tollgate.errors import ConflictError, LedgerError, ModelError, TollgateError
from tollgate.explain import Explainer
from tollgate.features import Arrivals, FeatureEngine
from tollgate.ledger import Entry, History, Ledger, Recorded
from tollgate.policy import OUTCOMES, Policy, Times, Verdict
from tollgate.recovery import Recovery
from tollgate.transaction import Batch, concatenate

LOG = logging.getLogger(__name__)

Floats = NDArray[np.float64]
Row = Mapping[str, Any]
_ENCODE_BODY = msgspec.json.Encoder(order="deterministic").encode


def body_of(row: Row) -> bytes:
    """Return a transaction's fields as the ledger keeps them: equal transactions are equal bytes."""
    return _ENCODE_BODY({field: value for field, value in row.items() if value is not None})


@dataclass(frozen=True, slots=True)
class Submission:
    """Transactions that came together and are answered together.

    Attributes:
        batch: The N transactions; no id twice.
        bodies: Each as `body_of` writes it.
    """

    batch: Batch
    bodies: Sequence[bytes]


@dataclass(frozen=True, slots=True)
class Judge:
    """A bundle at work: features to scores, outcomes and reasons.

    Attributes:
        bundle: Its content id.
        score: Calibrated scores and confidences, float64 (N,) each, of features, float64 (N, F). Raises
            ModelError.
        policy: Lists, rules and thresholds.
        explainer: Finds the reasons.
    """

    bundle: str
    score: Callable[[Floats], tuple[Floats, Floats]]
    policy: Policy
    explainer: Explainer

    def decide(self, batch: Batch, features: Floats, now_us: Times) -> list[Decision]:
        """Return the decisions on N transactions with features (N, F), at a time or at that of each; see `judge`."""
        why, scores, confidences = "no_score", None, np.full(len(batch), np.nan)
        try:
            scores, confidences = self.score(features)
        except ModelError as error:
            LOG.exception("deciding %d transactions without the model", len(batch))
            why = error.code
        verdict = self.policy.judge(batch, features, scores, now_us)
        reasons = self._reasons(features, scores, verdict)
        decisions = []
        for row, (identifier, level) in enumerate(zip(batch.ids, verdict.outcomes.tolist(), strict=True)):
            if scores is None or verdict.degraded[row]:
                decisions.append(self._degraded(batch, row, OUTCOMES[level], verdict, why))
                continue
            decisions.append(
                Decision(
                    transaction_id=identifier,
                    outcome=OUTCOMES[level],
                    score=float(scores[row]),
                    confidence=float(confidences[row]),
                    mode=Mode.NORMAL,
                    reasons=reasons[row],
                    missing=batch.missing(row),
                    bundle=self.bundle,
                )
            )
        return decisions

    def _reasons(self, features: Floats, scores: Floats | None, verdict: Verdict) -> list[tuple[Reason, ...]]:
        """Return what lists and rules had to do with it, and for what is held the reasons of the score."""
        reasons = [verdict.reasons.get(row, ()) for row in range(len(verdict.outcomes))]
        held = np.flatnonzero((verdict.outcomes != OUTCOMES.index(Outcome.APPROVE)) & ~verdict.degraded)
        if scores is not None and held.size:
            for row, found in zip(held.tolist(), self.explainer.explain(features[held], scores[held]), strict=True):
                reasons[row] += found
                if not reasons[row]:
                    outcome = OUTCOMES[verdict.outcomes[row]]
                    reasons[row] = (self.policy.over_threshold(float(scores[row]), outcome),)
        return reasons

    def _degraded(self, batch: Batch, row: int, outcome: Outcome, verdict: Verdict, why: str) -> Decision:
        _, reason = self.policy.degraded(why)
        return Decision(
            batch.ids[row],
            outcome,
            None,
            None,
            Mode.DEGRADED,
            (*verdict.reasons.get(row, ()), reason),
            (*batch.missing(row), "model"),
            self.bundle,
        )


class Scorer:
    """Decides every transaction once: looks it up, observes it, judges it, records it.

    Not thread-safe: one thread decides.
    """

    def __init__(self, recovery: Recovery, judge: Judge, ledger: Ledger, clock_us: Callable[[], int]) -> None:
        """Make a scorer that has not caught up with its ledger yet; see `recover`.

        Args:
            recovery: Rebuilds the feature state.
            judge: The bundle at work.
            ledger: Where decisions become durable before they are answered.
            clock_us: Observed time, microseconds since 1970-01-01 UTC.
        """
        self._recovery = recovery
        self._judge = judge
        self._ledger = ledger
        self._clock_us = clock_us
        self._arrivals: Arrivals | None = None
        self.counts = dict.fromkeys(Outcome, 0)
        self.degraded = 0

    @property
    def bundle(self) -> str:
        """Content id of the bundle that decides."""
        return self._judge.bundle

    @property
    def ready(self) -> bool:
        """Whether the feature state has caught up with the ledger."""
        return self._arrivals is not None

    @property
    def engine(self) -> FeatureEngine:
        """The feature state.

        Raises:
            LedgerError: It has not caught up with the ledger.
        """
        return self._caught_up().engine

    def _caught_up(self) -> Arrivals:
        if self._arrivals is None:
            raise LedgerError("not_ready", "the feature state is being rebuilt from the ledger; try again shortly")
        return self._arrivals

    def recover(self, progress: Callable[[int, int], None] = lambda _done, _total: None) -> None:
        """Rebuild the feature state from the ledger: exactly what an uninterrupted run would have.

        Args:
            progress: Told how many of how many transactions are applied.
        """
        self._arrivals = None
        arrivals = self._recovery.recover(progress)
        self.counts = dict.fromkeys(Outcome, 0)
        self.degraded = 0
        for outcome, mode, count in self._ledger.outcomes():
            self.counts[outcome] += count
            self.degraded += count if mode is Mode.DEGRADED else 0
        self._arrivals = arrivals

    def close(self) -> None:
        """Save the feature state, so that the next start is fast."""
        if self._arrivals is not None:
            self._recovery.save(self._arrivals)

    def decide(self, submissions: Sequence[Submission]) -> list[list[Decision] | TollgateError]:
        """Decide what was submitted, in order, with one durable commit.

        A transaction that was decided before gets that decision again and moves no counter. A submission with an id
        that is known under another body is refused whole.

        Returns:
            For each submission its decisions, or the error that refuses it.

        Raises:
            LedgerError: The ledger or the feature state could not be used; nothing was decided or counted.
            CapacityError: The feature state is full; nothing was decided or counted.
        """
        arrivals = self._caught_up()
        known = self._ledger.find([identifier for one in submissions for identifier in one.batch.ids])
        refused, fresh = self._sort_out(submissions, known)
        made: dict[str, Decision] = {}
        if fresh:
            batch = concatenate([submissions[s].batch.take(np.array(rows)) for s, rows in fresh.items()])
            bodies = [submissions[s].bodies[row] for s, rows in fresh.items() for row in rows]
            features = self._observe(arrivals, batch)
            made = dict(zip(batch.ids, self._judge_and_record(batch, bodies, features), strict=True))
        results: list[list[Decision] | TollgateError] = []
        for s, one in enumerate(submissions):
            results.append(refused.get(s) or [made.get(i) or _decision(known[i]) for i in one.batch.ids])
        return results

    def _observe(self, arrivals: Arrivals, batch: Batch) -> Floats:
        try:
            return arrivals.observe(batch)
        except BaseException:
            self._arrivals = None  # with labels in between, a part of the batch may have been applied
            raise

    def _sort_out(
        self, submissions: Sequence[Submission], known: Mapping[str, Recorded]
    ) -> tuple[dict[int, TollgateError], dict[int, list[int]]]:
        """Return which submissions are refused, and which rows of the others are decided now."""
        refused: dict[int, TollgateError] = {}
        fresh: dict[int, list[int]] = {}
        bodies = {identifier: recorded.body for identifier, recorded in known.items()}
        for s, one in enumerate(submissions):
            rows = []
            for row, (identifier, body) in enumerate(zip(one.batch.ids, one.bodies, strict=True)):
                if bodies.get(identifier, body) != body:
                    refused[s] = ConflictError(
                        "conflicting_transaction",
                        f"transaction_id {identifier!r} came before with other fields; send a new transaction under an "
                        "id of its own",
                        row=row,
                    )
                    break
                if identifier in known and known[identifier].decision is None:
                    refused[s] = ConflictError(
                        "imported_transaction",
                        f"{identifier!r} was imported as history and not decided",
                        row=row,
                    )
                    break
                if identifier not in bodies:
                    rows.append(row)
            else:
                bodies.update((one.batch.ids[row], one.bodies[row]) for row in rows)
                if rows:
                    fresh[s] = rows
        return refused, fresh

    def _judge_and_record(self, batch: Batch, bodies: Sequence[bytes], features: Floats) -> list[Decision]:
        observed_us = self._clock_us()
        try:
            decisions = self._judge.decide(batch, features, observed_us)
            self._ledger.append(
                [
                    Entry(History(decision.transaction_id, time_us, observed_us, body), decision, row.tobytes())
                    for decision, time_us, body, row in zip(
                        decisions, batch.time_us.tolist(), bodies, features, strict=True
                    )
                ]
            )
        except BaseException:
            # The features have counted what is not recorded: they must be rebuilt from what is.
            self._arrivals = None
            raise
        for decision in decisions:
            self.counts[decision.outcome] += 1
            self.degraded += decision.mode is Mode.DEGRADED
        return decisions


def _decision(recorded: Recorded) -> Decision:
    assert recorded.decision is not None
    return recorded.decision
