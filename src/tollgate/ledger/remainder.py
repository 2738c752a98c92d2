"""What is left of a group when some of its transactions are recorded already."""

from __future__ import annotations

from collections.abc import Container, Sequence

import msgspec
import numpy as np

from tollgate.decision import Decision, Mode, Outcome
from tollgate.ledger.group import Counts, Group, Shadow, Tried

_DECISION = msgspec.json.Decoder(Decision)


def without(group: Group, known: Container[str]) -> Group | None:
    """Return a group without some of its transactions, in the same order; None if nothing is left.

    Args:
        group: Any.
        known: Ids of those to leave out.
    """
    rows = [row for row, one in enumerate(group.ids) if one not in known]
    if not rows:
        return None
    if len(rows) == len(group):
        return group
    answers = [group.answers[row] for row in rows] if group.answers else []
    shadow, tried = group.shadow, group.tried
    return Group(
        ids=[group.ids[row] for row in rows],
        effective_us=np.asarray(group.effective_us)[rows],
        bodies=[group.bodies[row] for row in rows],
        answers=answers,
        features=None if group.features is None else group.features[rows],
        observed_us=group.observed_us,
        bundle=group.bundle,
        counts=_counts(answers),
        shadow=None if shadow is None else Shadow(shadow.bundle, shadow.scores[rows]),
        tried=None if tried is None else Tried(tried.bundle, tried.rows[rows]),
    )


def _counts(answers: Sequence[bytes]) -> Counts:
    decisions = [_DECISION.decode(one) for one in answers]
    outcomes = [sum(one.outcome is outcome for one in decisions) for outcome in Outcome]
    return Counts._make([*outcomes, sum(one.mode is Mode.DEGRADED for one in decisions)])
