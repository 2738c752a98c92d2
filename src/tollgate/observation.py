"""What is to be seen of a bundle's decisions in the ledger: traffic, drift, and how good they were once labels came.

Two periods are looked at. The newest payments show drift and traffic; they have no labels yet. How good decisions were
is told by the newest payments that are so old that their labels have come.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from tollgate.bundle import Manifest
from tollgate.config import PolicyConfig
from tollgate.dataset import Window
from tollgate.decision import Mode, Outcome
from tollgate.drift import Drift, Histogram
from tollgate.duration import DAY_US, SECOND_US
from tollgate.ledger.decided import Decided
from tollgate.ledger.labels import Said
from tollgate.maturity import Calibration, LabelLag, Maturity, Performance
from tollgate.policy import OUTCOMES

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

_APPROVE = OUTCOMES.index(Outcome.APPROVE)


class Day(msgspec.Struct, frozen=True):
    """The decisions of one day (UTC): how many there were, of each outcome, and without the model."""

    day: str
    transactions: int
    outcomes: dict[Outcome, int]
    degraded: int


class Traffic(msgspec.Struct, frozen=True, kw_only=True):
    """What was decided in the newest period.

    Attributes:
        transactions: Decided by the bundle.
        others: Decided by another bundle in the same period.
        degraded: Of `transactions`, decided without the model.
        late: Of them, with a time that lies further back than allowed behind one that came before.
        days: Day by day.
        score_quantiles: The 1st, 10th, 50th, 90th, 99th and 99.9th percentile of the scores, by its name.
    """

    transactions: int
    others: int
    outcomes: dict[Outcome, int]
    degraded: int
    late: int
    days: tuple[Day, ...]
    score_quantiles: dict[str, float]

    @property
    def alerts(self) -> int:
        """How many were held or blocked."""
        return self.outcomes[Outcome.REVIEW] + self.outcomes[Outcome.BLOCK]


class Challenger(msgspec.Struct, frozen=True, kw_only=True):
    """A challenger beside the champion, on payments of the newest period that both scored, each at its own thresholds.

    Attributes:
        bundle: Of the challenger.
        transactions: That both scored.
        unscored: That it failed to score, or was too slow for.
        mean_difference: Of its score less the champion's.
        mean_distance: Mean absolute difference of both.
        same: Share of the payments that both would let through, review or block alike.
        alerts: That it would raise: reviews and blocks.
        champion_alerts: That the champion's score raises.
        alerts_in_common: That both raise.
    """

    bundle: str
    transactions: int
    unscored: int
    mean_difference: float
    mean_distance: float
    same: float
    alerts: int
    champion_alerts: int
    alerts_in_common: int


class Observation(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that was seen.

    Attributes:
        bundle: Whose decisions.
        at_us: When it was looked, microseconds since 1970-01-01 UTC.
        newest_us: The newest effective time of all decisions; null before the first.
        period_us: The newest period: its first effective time, and the one that it ends before.
        mature_us: Likewise the period whose labels have come.
        score: The score against its reference; null where the bundle has none.
        features: Each feature against its reference, in the order of the plan.
    """

    bundle: str
    at_us: int
    newest_us: int | None
    period_us: tuple[int, int]
    mature_us: tuple[int, int]
    traffic: Traffic
    score: Drift | None
    features: tuple[Drift, ...]
    performance: Performance
    calibration: Calibration
    lags: tuple[LabelLag, ...]
    challengers: tuple[Challenger, ...] = ()

    @property
    def age_s(self) -> float | None:
        """How old the newest payment is, in seconds."""
        return None if self.newest_us is None else (self.at_us - self.newest_us) / SECOND_US


class Periods(NamedTuple):
    """What is looked at, by effective time: the newest payments, and the newest of which labels have come."""

    newest: Window
    mature: Window

    @staticmethod
    def of(at_us: int, newest_us: int | None, window_us: int, delay_us: int) -> Periods:
        """Return the periods of one length, as seen at a moment.

        Args:
            at_us: The moment.
            newest_us: The newest effective time there is.
            window_us: How long each is.
            delay_us: How long after a transaction its label has come.
        """
        end_us = at_us if newest_us is None else min(newest_us + 1, at_us)
        mature_us = min(end_us, at_us - delay_us)
        return Periods(Window(end_us - window_us, end_us), Window(mature_us - window_us, mature_us))

    @property
    def since_us(self) -> int:
        """Where the earlier one begins."""
        return min(self.newest.start_us, self.mature.start_us)


class Answers(NamedTuple):
    """N decisions: scores, float64 (N,), NaN without one; places in `OUTCOMES`, int8 (N,); without the model, (N,)."""

    scores: Floats
    levels: NDArray[np.int8]
    degraded: Bools


class _Answer(msgspec.Struct):
    outcome: Outcome
    score: float | None
    mode: Mode


_ANSWERS = msgspec.json.Decoder(list[_Answer])
_LEVELS = {outcome: level for level, outcome in enumerate(OUTCOMES)}


def read_answers(answers: Iterable[bytes]) -> Answers:
    """Return recorded decisions as columns."""
    read = _ANSWERS.decode(b"[" + b",".join(answers) + b"]")
    scores = np.array([np.nan if one.score is None else one.score for one in read], dtype=np.float64)
    levels = np.array([_LEVELS[one.outcome] for one in read], dtype=np.int8)
    return Answers(scores, levels, np.array([one.mode is Mode.DEGRADED for one in read], dtype=np.bool_))


class Observer:
    """Looks at decisions, a chunk at a time."""

    def __init__(
        self,
        bundle: str,
        manifest: Manifest,
        periods: Periods,
        late_us: int,
        policies: Callable[[str], PolicyConfig],
    ) -> None:
        """Look at nothing yet.

        Args:
            bundle: Whose decisions.
            manifest: Of it.
            periods: What is looked at.
            late_us: How far a time may lie behind one that came before, before it is late.
            policies: The thresholds of a challenger.
        """
        self._bundle = bundle
        self._periods = periods
        self._features = Histogram(manifest.profiles, manifest.training.rows)
        reference = manifest.scores
        self._score = None if reference is None else Histogram([reference.profile], reference.rows)
        self._traffic = _Traffic(late_us)
        self._policy = manifest.policy
        self._policies = policies
        self._challengers: dict[str, _Challenge] = {}
        self.maturity = Maturity()

    def add(
        self,
        decided: Decided,
        labels: Callable[[list[str]], dict[str, list[Said]]],
        amounts: Callable[[list[bytes]], Floats],
    ) -> None:
        """Look at some decisions.

        Args:
            decided: In the order of arrival.
            labels: Gives what was said of some ids.
            amounts: Gives the amounts of some bodies, in major units, float64 (N,).
        """
        newest = self._periods.newest.holds(decided.effective_us)
        if decided.bundle != self._bundle:
            self._traffic.others += int(np.count_nonzero(newest))
            return
        answers = read_answers(decided.answers)
        if newest.any():
            scores, levels, degraded = answers
            self._traffic.add(decided.effective_us[newest], scores[newest], levels[newest], degraded[newest])
            if decided.features is not None:
                self._features.add(decided.features[newest])
            if self._score is not None:
                self._score.add(answers.scores[newest & ~np.isnan(answers.scores)][:, None])
            if decided.shadow is not None:
                self._challenge(decided.shadow.bundle, decided.shadow.scores[newest], answers.scores[newest])
        mature = self._periods.mature.holds(decided.effective_us)
        if mature.any():
            rows = decided.take(mature)
            said = labels(rows.ids)
            self.maturity.add(rows, answers.scores[mature], answers.levels[mature], said, amounts)

    def observation(self, at_us: int, newest_us: int | None) -> Observation:
        """Return what was seen, at a moment, with the newest effective time that there is."""
        newest, mature = self._periods
        return Observation(
            bundle=self._bundle,
            at_us=at_us,
            newest_us=newest_us,
            period_us=(newest.start_us, newest.end_us),
            mature_us=(mature.start_us, mature.end_us),
            traffic=self._traffic.traffic(),
            score=None if self._score is None else self._score.drifts()[0],
            features=tuple(self._features.drifts()),
            performance=self.maturity.performance(),
            calibration=self.maturity.calibration(),
            lags=self.maturity.lags(),
            challengers=tuple(one.challenger() for one in self._challengers.values()),
        )

    def _challenge(self, bundle: str, scores: Floats, champion: Floats) -> None:
        if bundle not in self._challengers:
            self._challengers[bundle] = _Challenge(bundle, self._policies(bundle), self._policy)
        self._challengers[bundle].add(scores, champion)


class _Traffic:
    def __init__(self, late_us: int) -> None:
        self._late_us = late_us
        self._clock_us = np.iinfo(np.int64).min
        self._days: dict[int, Counter[int]] = {}
        self._degraded: Counter[int] = Counter()
        self._late = 0
        self._scores: list[NDArray[np.float32]] = []
        self.others = 0

    def add(self, time_us: NDArray[np.int64], scores: Floats, levels: NDArray[np.int8], degraded: Bools) -> None:
        clock = np.maximum.accumulate(np.maximum(time_us, self._clock_us))
        self._late += int(np.count_nonzero(clock - time_us > self._late_us))
        self._clock_us = int(clock[-1])
        self._scores.append(scores[~np.isnan(scores)].astype(np.float32))
        days = time_us // DAY_US
        for day in np.unique(days).tolist():
            mine = days == day
            self._days.setdefault(day, Counter()).update(dict(enumerate(np.bincount(levels[mine]).tolist())))
            self._degraded[day] += int(np.count_nonzero(degraded[mine]))

    def traffic(self) -> Traffic:
        days = tuple(
            Day(
                str(np.datetime64(day, "D")),
                counts.total(),
                {one: counts[level] for level, one in enumerate(OUTCOMES)},
                self._degraded[day],
            )
            for day, counts in sorted(self._days.items())
        )
        scores = np.concatenate(self._scores) if self._scores else np.empty(0, dtype=np.float32)
        percents = (1, 10, 50, 90, 99, 99.9)
        quantiles = np.percentile(scores, percents).tolist() if scores.size else []
        return Traffic(
            transactions=sum(one.transactions for one in days),
            others=self.others,
            outcomes={outcome: sum(one.outcomes[outcome] for one in days) for outcome in OUTCOMES},
            degraded=self._degraded.total(),
            late=self._late,
            days=days,
            score_quantiles={f"p{percent:g}": value for percent, value in zip(percents, quantiles, strict=False)},
        )


class _Challenge:
    def __init__(self, bundle: str, policy: PolicyConfig, champion: PolicyConfig) -> None:
        self._bundle = bundle
        self._limits = np.array([policy.review, policy.block])
        self._champion_limits = np.array([champion.review, champion.block])
        self._difference = self._distance = 0.0
        self._counts: Counter[str] = Counter()

    def add(self, scores: Floats, champion: Floats) -> None:
        both = ~np.isnan(scores) & ~np.isnan(champion)
        self._counts["unscored"] += int(np.count_nonzero(np.isnan(scores)))
        difference = scores[both] - champion[both]
        self._difference += float(difference.sum())
        self._distance += float(np.abs(difference).sum())
        mine = self._limits.searchsorted(scores[both], side="right")
        theirs = self._champion_limits.searchsorted(champion[both], side="right")
        held, champion_held = mine > _APPROVE, theirs > _APPROVE
        for name, rows in (
            ("both", both),
            ("same", mine == theirs),
            ("alerts", held),
            ("champion_alerts", champion_held),
            ("common", held & champion_held),
        ):
            self._counts[name] += int(np.count_nonzero(rows))

    def challenger(self) -> Challenger:
        counts, rows = self._counts, max(self._counts["both"], 1)
        return Challenger(
            bundle=self._bundle,
            transactions=counts["both"],
            unscored=counts["unscored"],
            mean_difference=self._difference / rows,
            mean_distance=self._distance / rows,
            same=counts["same"] / rows,
            alerts=counts["alerts"],
            champion_alerts=counts["champion_alerts"],
            alerts_in_common=counts["common"],
        )
