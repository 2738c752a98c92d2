"""What Tollgate answers: a decision, with the reasons for it."""

from __future__ import annotations

from enum import StrEnum

import msgspec


class Outcome(StrEnum):
    """What happens to the payment."""

    APPROVE = "approve"
    REVIEW = "review"
    BLOCK = "block"


class Mode(StrEnum):
    """Whether the model stood behind the decision."""

    NORMAL = "normal"
    DEGRADED = "degraded"  # the fallback policy decided, without the model


class Reason(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """One thing that raised the score, as a code for machines and a sentence for people.

    Attributes:
        code: The feature, rule or fallback that it names.
        text: The sentence.
        effect: By how much the score falls without it, in probability; 0 for a rule.
    """

    code: str
    text: str
    effect: float = 0.0


class Decision(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """The answer to one transaction.

    Attributes:
        score: Calibrated probability of fraud in [0, 1]; null in `degraded` mode: an error never looks like
            a score.
        confidence: How sure the model is of the score, in [0, 1]; null in `degraded` mode.
        missing: Columns of the schema that this transaction did not have, plus `model` where that was missing.
        bundle: Content id of the bundle that decided.
    """

    transaction_id: str
    outcome: Outcome
    score: float | None
    confidence: float | None
    mode: Mode
    reasons: tuple[Reason, ...]
    missing: tuple[str, ...]
    bundle: str


class _Outcome(msgspec.Struct):
    outcome: Outcome


_APPROVES = b'"outcome":"approve"'  # in a text of JSON, each quotation mark would have a backslash before it
_READ_OUTCOME = msgspec.json.Decoder(_Outcome).decode


def outcome_of(answer: bytes) -> Outcome:
    """Return the outcome of a recorded decision, JSON; the rest of it is passed over."""
    return _READ_OUTCOME(answer).outcome


def approves(answer: bytes) -> bool:
    """Return whether a recorded decision, JSON, approves; `outcome_of` takes ten times as long to say which it is."""
    return _APPROVES in answer
