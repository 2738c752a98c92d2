"""Where to review and where to block: by a fixed score, by an alert budget, or by what decisions cost.

Thresholds are chosen on the validation rows, whose scores are calibrated, and stored in the bundle. Each lies midway
between the lowest score that reaches it and the next one below, so that a rounding of the score moves no payment.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray

from tollgate.config import CostsConfig, PolicyConfig
from tollgate.duration import DAY_US

FEWEST_FRAUDS = 30  # among the validation rows; with fewer, one of them can move a threshold a long way


@dataclass(frozen=True, slots=True)
class Chosen:
    """Thresholds, and what a reader should know of them.

    Attributes:
        policy: The given policy with `review` and `block` as chosen.
        warnings: Sentences, where the rows could not carry the choice.
    """

    policy: PolicyConfig
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Cuts:
    """The M places at which N sorted scores can be cut, without parting equal ones.

    Attributes:
        order: Rows, the highest score first, int64 (N,).
        places: How many rows are above each cut, rising, int64 (M,).
        thresholds: The score that stands for each cut, falling, float64 (M,).
    """

    order: NDArray[np.int64]
    places: NDArray[np.int64]
    thresholds: NDArray[np.float64]


def choose_thresholds(
    is_fraud: NDArray[np.bool_],
    scores: NDArray[np.float64],
    amount: NDArray[np.float64],
    time_us: NDArray[np.int64],
    policy: PolicyConfig,
) -> Chosen:
    """Return `policy` with the thresholds that its `choose` asks for, on the validation rows.

    `fixed` keeps both. `budget` sets `review` as low as it goes with at most `review_per_day` payments a day at or
    above it, and raises `block` to it where it would lie below. `cost` sets both so that the decisions on these rows
    would have cost the least: see `total_cost`.

    Args:
        is_fraud: bool (N,).
        scores: Calibrated probabilities, float64 (N,), from 0 to 1.
        amount: float64 (N,), in major units of the base currency.
        time_us: Effective times, int64 (N,), in any order.
        policy: How to choose, and the fixed thresholds.
    """
    if policy.choose == "fixed":
        return Chosen(policy)
    if scores.size == 0:
        return Chosen(policy, ("no validation rows to choose thresholds on: the fixed ones are kept",))
    if policy.choose == "budget":
        return _by_budget(scores, time_us, policy)
    frauds = int(np.count_nonzero(is_fraud))
    if frauds in (0, scores.size):
        only = "no fraud" if frauds == 0 else "nothing but fraud"
        return Chosen(
            policy, (f"the validation rows hold {only}, so costs cannot choose thresholds: the fixed ones are kept",)
        )
    return _by_cost(is_fraud, scores, amount, policy)


def total_cost(
    is_fraud: NDArray[np.bool_], scores: NDArray[np.float64], amount: NDArray[np.float64], policy: PolicyConfig
) -> float:
    """Return what deciding by `policy` would have cost on the rows, in major units of the base currency.

    A fraud that goes through costs `missed_share` of its amount; a review costs `review`, and the frauds under review
    that it does not stop (1 - `review_stops` of them) cost what missed ones do; a good payment that is blocked costs
    `false_block` and `false_block_share` of its amount.

    Args:
        is_fraud: bool (N,).
        scores: Calibrated probabilities, float64 (N,).
        amount: float64 (N,), in major units of the base currency.
        policy: The thresholds and the costs.
    """
    levels = (scores >= policy.review).astype(np.int8) + (scores >= policy.block)
    return float(costs_by_level(is_fraud, amount, levels, policy.costs).sum())


def costs_by_level(
    is_fraud: NDArray[np.bool_], amount: NDArray[np.float64], levels: NDArray[np.int8], costs: CostsConfig
) -> NDArray[np.float64]:
    """Return what each decision would have cost, float64 (N,), in major units of the base currency; see `total_cost`.

    Args:
        is_fraud: bool (N,).
        amount: float64 (N,), in major units of the base currency.
        levels: What was decided: 0 for approve, 1 for review, 2 for block, int8 (N,).
        costs: Of each.
    """
    return np.choose(levels, _row_costs(is_fraud, amount, costs))


def _row_costs(
    is_fraud: NDArray[np.bool_], amount: NDArray[np.float64], costs: CostsConfig
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return what each row costs when it is approved, reviewed and blocked, float64 (N,) each."""
    lost = np.where(is_fraud, costs.missed_share * amount, 0.0)
    disturbed = np.where(is_fraud, 0.0, costs.false_block + costs.false_block_share * amount)
    return lost, costs.review + (1 - costs.review_stops) * lost, disturbed


def _by_cost(
    is_fraud: NDArray[np.bool_], scores: NDArray[np.float64], amount: NDArray[np.float64], policy: PolicyConfig
) -> Chosen:
    """Search all pairs of cuts, exactly, in O(N log N).

    With the i highest rows blocked, those up to j reviewed and the rest approved, the cost is a sum of what depends on
    i alone (blocking rather than reviewing the first i) and of what depends on j alone (reviewing rather than approving
    the first j). So for each j the best i <= j is a running minimum. Of equally good cuts the one that disturbs the
    fewest payments is taken.
    """
    cuts = _cuts(scores)
    approved, reviewed, blocked = (
        np.concatenate(([0.0], np.cumsum(cost[cuts.order])))[cuts.places]
        for cost in _row_costs(is_fraud, amount, policy.costs)
    )
    of_block, of_review = blocked - reviewed, reviewed - approved
    review = int(np.argmin(np.minimum.accumulate(of_block) + of_review))
    block = int(np.argmin(of_block[: review + 1]))
    chosen = msgspec.structs.replace(policy, review=float(cuts.thresholds[review]), block=float(cuts.thresholds[block]))
    warnings = []
    frauds = int(np.count_nonzero(is_fraud))
    if frauds < FEWEST_FRAUDS:
        warnings.append(
            f"thresholds were chosen by cost on {frauds} validation frauds; with fewer than {FEWEST_FRAUDS} a single "
            "fraud can move them far: choose them by budget, or validate on more data"
        )
    if cuts.places[review] == scores.size:
        warnings.append("by these costs no payment is approved unseen; check [policy.costs]")
    elif cuts.places[review] == 0:
        warnings.append("by these costs no payment is worth a review or a block; check [policy.costs]")
    return Chosen(chosen, tuple(warnings))


def _by_budget(scores: NDArray[np.float64], time_us: NDArray[np.int64], policy: PolicyConfig) -> Chosen:
    # Part of a day counts as that part: as a whole day it would let more than the budget through on the others.
    days = max((int(time_us.max()) - int(time_us.min())) / DAY_US, 1.0)
    limit = policy.review_per_day * days
    cuts = _cuts(scores)
    place = max(int(np.searchsorted(cuts.places, limit, side="right")) - 1, 0)
    review = float(cuts.thresholds[place])
    warnings = []
    if cuts.places[place] > limit:
        warnings.append(
            f"{cuts.places[place]:,} validation payments share the highest score, 1, which is more than "
            f"{policy.review_per_day} a day: the budget will be exceeded"
        )
    elif cuts.places[place] == scores.size:
        warnings.append(
            f"a budget of {policy.review_per_day} reviews a day covers every validation payment, so each is reviewed; "
            "lower [policy] review_per_day"
        )
    elif cuts.places[place] == 0:
        warnings.append(
            f"so many validation payments share the highest score that reviewing them would take more than "
            f"{policy.review_per_day} a day: nothing is reviewed below a score of 1"
        )
    return Chosen(msgspec.structs.replace(policy, review=review, block=max(policy.block, review)), tuple(warnings))


def _cuts(scores: NDArray[np.float64]) -> _Cuts:
    order = np.argsort(-scores, kind="stable")
    ordered = scores[order]
    inner = np.flatnonzero(ordered[1:] < ordered[:-1]) + 1
    above, below = ordered[inner - 1], ordered[inner]
    middle = (above + below) / 2
    middle = np.where(middle > below, middle, above)  # between neighbouring floats there is no middle
    places = np.concatenate(([0], inner, [scores.size]))
    thresholds = np.concatenate(([1.0], middle, [float(ordered[-1] >= 1.0)]))
    if ordered[0] >= 1.0:  # no threshold is above such a score
        places, thresholds = places[1:], thresholds[1:]
    return _Cuts(order, places, thresholds)
