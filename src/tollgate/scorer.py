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
from tollgate.ledger import Counts, Group, Ledger, Recorded
from tollgate.policy import Policy
from tollgate.recovery import Recovery
from tollgate.transaction import Batch, concatenate

LOG = logging.getLogger(__name__)

Floats = NDArray[np.float64]
Row = Mapping[str, Any]
_ENCODE_BODY = msgspec.json.Encoder(order="deterministic").encode
_ENCODE_ANSWER = msgspec.json.Encoder().encode
_DECODE_ANSWER = msgspec.json.Decoder(Decision).decode


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
        policy: The thresholds.
        explainer: Finds the reasons.
    """

    bundle: str
    score: Callable[[Floats], tuple[Floats, Floats]]
    policy: Policy
    explainer: Explainer

    def decide(self, batch: Batch, features: Floats) -> list[Decision]:
        """Return the decisions on N transactions with features (N, F)."""
        try:
            scores, confidences = self.score(features)
        except ModelError as error:
            LOG.exception("deciding %d transactions without the model", len(batch))
            return self._degraded(batch, error)
        outcomes = self.policy.outcomes(scores)
        return [
            Decision(
                transaction_id=identifier,
                outcome=outcome,
                score=float(score),
                confidence=float(confidence),
                mode=Mode.NORMAL,
                reasons=reasons,
                missing=batch.missing(row),
                bundle=self.bundle,
            )
            for row, (identifier, outcome, score, confidence, reasons) in enumerate(
                zip(
                    batch.ids,
                    outcomes,
                    scores,
                    confidences,
                    self._reasons(features, scores, outcomes),
                    strict=True,
                )
            )
        ]

    def _reasons(self, features: Floats, scores: Floats, outcomes: list[Outcome]) -> list[tuple[Reason, ...]]:
        reasons: list[tuple[Reason, ...]] = [()] * len(outcomes)
        held = [row for row, outcome in enumerate(outcomes) if outcome is not Outcome.APPROVE]
        if held:
            for row, found in zip(held, self.explainer.explain(features[held], scores[held]), strict=True):
                reasons[row] = found or (self.policy.over_threshold(float(scores[row]), outcomes[row]),)
        return reasons

    def _degraded(self, batch: Batch, error: ModelError) -> list[Decision]:
        outcome, reason = self.policy.degraded(error.code)
        return [
            Decision(
                identifier,
                outcome,
                None,
                None,
                Mode.DEGRADED,
                (reason,),
                (*batch.missing(row), "model"),
                self.bundle,
            )
            for row, identifier in enumerate(batch.ids)
        ]


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
        made = self._ledger.outcomes()
        self.counts = {Outcome.APPROVE: made.approve, Outcome.REVIEW: made.review, Outcome.BLOCK: made.block}
        self.degraded = made.degraded
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
        horizon_us = self._ledger.horizon_us
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
                if identifier in known and known[identifier].answer is None:
                    refused[s] = ConflictError(
                        "imported_transaction",
                        f"{identifier!r} was imported as history and not decided",
                        row=row,
                    )
                    break
                if identifier not in bodies:
                    if horizon_us is not None and one.batch.time_us[row] <= horizon_us:
                        refused[s] = ConflictError(
                            "archived_transaction",
                            f"{identifier!r} is as old as transactions that are archived, and may be one of them; "
                            "look it up in the archive",
                            row=row,
                        )
                        break
                    rows.append(row)
            else:
                bodies.update((one.batch.ids[row], one.bodies[row]) for row in rows)
                if rows:
                    fresh[s] = rows
        return refused, fresh

    def _judge_and_record(self, batch: Batch, bodies: Sequence[bytes], features: Floats) -> list[Decision]:
        observed_us = self._clock_us()
        try:
            decisions = self._judge.decide(batch, features)
            self._ledger.append(_group(batch, bodies, decisions, features, observed_us))
        except BaseException:
            # The features have counted what is not recorded: they must be rebuilt from what is.
            self._arrivals = None
            raise
        for decision in decisions:
            self.counts[decision.outcome] += 1
            self.degraded += decision.mode is Mode.DEGRADED
        return decisions


def _group(
    batch: Batch, bodies: Sequence[bytes], decisions: Sequence[Decision], features: Floats, observed_us: int
) -> Group:
    outcomes = [one.outcome for one in decisions]
    return Group(
        ids=batch.ids,
        effective_us=batch.time_us,
        bodies=bodies,
        answers=[_ENCODE_ANSWER(one) for one in decisions],
        features=features,
        observed_us=observed_us,
        bundle=decisions[0].bundle,
        counts=Counts(
            outcomes.count(Outcome.APPROVE),
            outcomes.count(Outcome.REVIEW),
            outcomes.count(Outcome.BLOCK),
            sum(one.mode is Mode.DEGRADED for one in decisions),
        ),
    )


def _decision(recorded: Recorded) -> Decision:
    assert recorded.answer is not None
    return _DECODE_ANSWER(recorded.answer)
