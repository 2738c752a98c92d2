"""A bundle or a policy over labelled history, week by week: what it would have caught, disturbed, cost and saved.

Prequential: each payment is decided with what was known before it. Features are computed as they were then, by the
engine that serves; a label counts in a feature, in a training and in these figures once it had come, never before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from tollgate.config import CostsConfig
from tollgate.decision import Outcome
from tollgate.duration import DAY_US
from tollgate.errors import InputError
from tollgate.features import Arrivals, FeatureEngine
from tollgate.past import Past
from tollgate.policy import OUTCOMES, Policy
from tollgate.thresholds import costs_by_level

WEEK_US = 7 * DAY_US

_REVIEW, _BLOCK = OUTCOMES.index(Outcome.REVIEW), OUTCOMES.index(Outcome.BLOCK)

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Times = NDArray[np.int64]


class Verdicts(NamedTuple):
    """N decided payments.

    Attributes:
        time_us: Effective times, int64 (N,).
        amount: In major units of the base currency, float64 (N,); a missing one is 0.
        levels: Places in `OUTCOMES`, int8 (N,).
        is_fraud: bool (N,).
        available_us: When that was known, int64 (N,).
    """

    time_us: Times
    amount: Floats
    levels: NDArray[np.int8]
    is_fraud: Bools
    available_us: Times

    def take(self, rows: Bools) -> Verdicts:
        """Return the chosen rows, bool (N,)."""
        return Verdicts(*(column[rows] for column in self))  # type: ignore[arg-type]


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """What became of the payments of some days. All but the first four are of payments whose label had come for sure.

    Attributes:
        days: How many.
        transactions: All.
        reviewed: Of all, held for an analyst.
        blocked: Of all.
        known: Payments whose label had come by the end of the history, and that were old enough for it.
        caught: Frauds held or blocked.
        caught_value: The money in them, in major units of the base currency.
        blocked_frauds: Frauds that were blocked.
        blocked_good: Good payments that were blocked.
        held_good: Good payments that were held or blocked.
        cost: Of the decisions, by [policy.costs].
        approving_cost: Of letting every payment through.
    """

    days: float
    transactions: int
    reviewed: int
    blocked: int
    known: int
    frauds: int
    fraud_value: float
    caught: int
    caught_value: float
    blocked_frauds: int
    blocked_good: int
    held_good: int
    cost: float
    approving_cost: float

    @property
    def reviews_per_day(self) -> float:
        """How many payments an analyst is to look at."""
        return self.reviewed / self.days if self.days else 0.0

    @property
    def recall(self) -> float | None:
        """Share of the frauds that is held or blocked."""
        return _share(self.caught, self.frauds)

    @property
    def value_detection_rate(self) -> float | None:
        """Share of their money that is."""
        return _share(self.caught_value, self.fraud_value)

    @property
    def precision(self) -> float | None:
        """Share of what is held or blocked that is fraud."""
        return _share(self.caught, self.caught + self.held_good)

    @property
    def false_positive_rate(self) -> float | None:
        """Share of the good payments that is held or blocked."""
        return _share(self.held_good, self.known - self.frauds)

    @property
    def saved(self) -> float:
        """What the decisions are worth against letting every payment through."""
        return self.approving_cost - self.cost


class Week(msgspec.Struct, frozen=True, kw_only=True):
    """One week of seven days (UTC), the last one perhaps cut short.

    Attributes:
        start_us: Its first midnight, microseconds since 1970-01-01 UTC.
        known_us: When the last label that counts here had come: before, this row could not have been written.
        trained: Payments that lie in the period the model was trained on: it scores those better than others.
    """

    start_us: int
    known_us: int | None
    trained: int
    figures: Figures


class Weeks(msgspec.Struct, frozen=True, kw_only=True):
    """A history week by week.

    Attributes:
        end_us: The newest effective time: labels that came after it do not count.
        mature_us: Newer payments do not count, since some of their labels come later.
        total: Of all weeks together.
        unseen: Of the weeks without a payment that the model was trained on; null where it is all of them, or none.
    """

    end_us: int
    mature_us: int
    weeks: tuple[Week, ...]
    total: Figures
    unseen: Figures | None


def decide(
    history: Iterator[Past],
    engine: FeatureEngine,
    score: Callable[[Floats], Floats],
    policy: Policy,
    progress: Callable[[int], None] = lambda _rows: None,
) -> Verdicts:
    """Return what a policy says of each payment of a history, with the features of its moment.

    Args:
        history: In order of arrival.
        engine: Without history; it is moved on.
        score: Calibrated probabilities, float64 (N,), of features, float64 (N, F).
        policy: Goes by effective time; what its rules use of their limits is used.
        progress: Told how many rows were read since the last call.

    Raises:
        InputError: There is no payment.
    """
    arrivals = Arrivals(engine)
    parts: list[Verdicts] = []
    for one in history:
        features = arrivals.observe(one.batch, one.fraud_us)
        levels = policy.judge(one.batch, features, score(features), one.batch.time_us).outcomes
        parts.append(verdicts(one, levels, engine.plan.money_scale))
        progress(len(one.batch) + len(one.rejected))
    return joined(parts)


def verdicts(one: Past, levels: NDArray[np.int8], money_scale: float) -> Verdicts:
    """Return what was decided of N payments: places in `OUTCOMES`, int8 (N,)."""
    amount = np.nan_to_num(one.batch.value("amount")) / money_scale
    return Verdicts(one.batch.time_us, amount, levels, one.is_fraud, one.available_us)


def joined(parts: Sequence[Verdicts]) -> Verdicts:
    """Return all of some parts.

    Raises:
        InputError: There is no payment.
    """
    if not any(len(one.time_us) for one in parts):
        raise InputError("no_rows", "expected labelled transactions to decide, but no row could be used")
    return Verdicts(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def by_week(
    decided: Verdicts,
    costs: CostsConfig,
    *,
    since_us: int | None = None,
    trained_us: tuple[int, int] = (0, 0),
    delay_us: int = 0,
    end_us: int | None = None,
) -> Weeks:
    """Return what decisions would have done, week by week.

    Payments of the last label delay do not count even where their label has come: frauds are known sooner than good
    payments, and decisions would look better than they are.

    Args:
        decided: In any order.
        costs: What decisions cost.
        since_us: Where the first week begins; by default with the day of the first payment.
        trained_us: When the training period of the model began and ended.
        delay_us: How long after a transaction its label has come, in microseconds.
        end_us: Labels that came after it do not count; by default the newest effective time.

    Raises:
        InputError: No payment is so new.
    """
    newest_us = int(decided.time_us.max())
    end_us = newest_us if end_us is None else end_us
    start_us = int(decided.time_us.min()) // DAY_US * DAY_US if since_us is None else since_us
    rows = decided.take(decided.time_us >= start_us)
    if not len(rows.time_us):
        raise InputError(
            "no_rows",
            f"expected payments from {_day(start_us)} on, but the newest is of {_day(newest_us)}; name an earlier "
            "--since",
        )
    number = (rows.time_us - start_us) // WEEK_US
    last_us = (newest_us // DAY_US + 1) * DAY_US
    weeks = []
    for place in np.unique(number).tolist():
        mine = rows.take(number == place)
        begins_us = start_us + place * WEEK_US
        days = (min(begins_us + WEEK_US, last_us) - begins_us) / DAY_US
        known = (mine.available_us <= end_us) & (mine.time_us <= end_us - delay_us)
        trained = (mine.time_us >= trained_us[0]) & (mine.time_us < trained_us[1])
        weeks.append(
            Week(
                start_us=begins_us,
                known_us=int(mine.available_us[known].max()) if known.any() else None,
                trained=int(np.count_nonzero(trained)),
                figures=_figures(mine, known, days, costs),
            )
        )
    unseen = [one.figures for one in weeks if not one.trained]
    return Weeks(
        end_us=end_us,
        mature_us=end_us - delay_us,
        weeks=tuple(weeks),
        total=_total([one.figures for one in weeks]),
        unseen=_total(unseen) if 0 < len(unseen) < len(weeks) else None,
    )


def _figures(rows: Verdicts, known: Bools, days: float, costs: CostsConfig) -> Figures:
    levels = rows.levels
    held, fraud, good = known & (levels >= _REVIEW), known & rows.is_fraud, known & ~rows.is_fraud
    paid = costs_by_level(rows.is_fraud, rows.amount, levels, costs)
    free = costs_by_level(rows.is_fraud, rows.amount, np.zeros_like(levels), costs)
    return Figures(
        days=days,
        transactions=len(levels),
        reviewed=_count(levels == _REVIEW),
        blocked=_count(levels == _BLOCK),
        known=_count(known),
        frauds=_count(fraud),
        fraud_value=float(rows.amount[fraud].sum()),
        caught=_count(fraud & held),
        caught_value=float(rows.amount[fraud & held].sum()),
        blocked_frauds=_count(fraud & (levels == _BLOCK)),
        blocked_good=_count(good & (levels == _BLOCK)),
        held_good=_count(good & held),
        cost=float(paid[known].sum()),
        approving_cost=float(free[known].sum()),
    )


def _total(parts: Sequence[Figures]) -> Figures:
    names = Figures.__struct_fields__
    return Figures(**{name: sum(getattr(one, name) for one in parts) for name in names})


def _count(rows: Bools) -> int:
    return int(np.count_nonzero(rows))


def _share(part: float, whole: float) -> float | None:
    return part / whole if whole > 0 else None


def _day(moment_us: int) -> str:
    return str(np.datetime64(moment_us, "us"))[:10]
