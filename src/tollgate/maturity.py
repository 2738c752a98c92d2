"""How good decisions were, of payments so old that their labels have come.

A blocked payment did not happen, so nobody complains of it: without a label nobody knows what it was, and it is left
out and counted. Of any other, no label by then means that it was good: chargebacks are what comes otherwise.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from tollgate.decision import Outcome
from tollgate.duration import SECOND_US
from tollgate.ledger.decided import Decided
from tollgate.ledger.labels import Said, verdict_of
from tollgate.policy import OUTCOMES

EDGES = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 0.5, 0.7, 0.9)  # between the bins of scores whose frauds are counted
_Z95 = 1.96  # standard normal quantile of a 95% interval

_REVIEW, _BLOCK = OUTCOMES.index(Outcome.REVIEW), OUTCOMES.index(Outcome.BLOCK)

Floats = NDArray[np.float64]


class Performance(msgspec.Struct, frozen=True, kw_only=True):
    """What became of decided payments; a share of nothing is null.

    Attributes:
        transactions: Old enough.
        labelled: Of them, with a label.
        blocked_unknown: Of them, blocked and without a label: they count nowhere below.
        frauds: Known ones.
        caught: Of them, held or blocked.
        alerts: Payments held or blocked of which it is known what they were.
        precision: Share of `alerts` that is fraud.
        recall: Share of `frauds` that was held or blocked.
        value_detection_rate: Share of the money in them that was.
        fraud_value: That money, in major units of the base currency.
    """

    transactions: int
    labelled: int
    blocked_unknown: int
    frauds: int
    caught: int
    alerts: int
    precision: float | None
    recall: float | None
    value_detection_rate: float | None
    fraud_value: float


class CalibrationBin(msgspec.Struct, frozen=True, kw_only=True):
    """Payments with a score from `low` up to `high` that were not blocked.

    Attributes:
        expected: Sum of their scores: the frauds to be expected.
        frauds: That there were.
        least: Lower end of the 95% interval of Wilson for the share of fraud.
        most: Upper end.
    """

    low: float
    high: float
    transactions: int
    expected: float
    frauds: int
    least: float
    most: float


class Calibration(msgspec.Struct, frozen=True, kw_only=True):
    """Frauds expected and frauds seen among payments that were not blocked.

    Attributes:
        spread: Standard deviation of the frauds, were the scores right and the payments independent.
        bins: Those that have payments.
    """

    transactions: int
    expected: float
    frauds: int
    spread: float
    bins: tuple[CalibrationBin, ...]

    @property
    def ratio(self) -> float | None:
        """Frauds seen for each one expected; null where none is expected."""
        return self.frauds / self.expected if self.expected > 0 else None

    @property
    def surprise(self) -> float:
        """By how many standard deviations more or less frauds came than expected."""
        return abs(self.frauds - self.expected) / self.spread if self.spread > 0 else 0.0


class LabelLag(msgspec.Struct, frozen=True, kw_only=True):
    """How long after their transaction the labels of one source came, of transactions old enough to have one.

    Attributes:
        median_s: In seconds.
        slow_s: The 90th percentile.
    """

    source: str
    labels: int
    frauds: int
    median_s: float
    slow_s: float


class Maturity:
    """Counts what became of payments, a chunk at a time."""

    def __init__(self) -> None:
        self._rows = self._labelled = self._unknown = 0
        self._frauds = self._caught = self._alerts = 0
        self._value = self._caught_value = 0.0
        bins = len(EDGES) + 1
        self._bin_rows, self._bin_frauds = np.zeros(bins, dtype=np.int64), np.zeros(bins, dtype=np.int64)
        self._expected, self._variance = np.zeros(bins), 0.0
        self._lags: dict[str, list[int]] = {}
        self._lag_frauds: dict[str, int] = {}

    def add(
        self,
        rows: Decided,
        scores: Floats,
        levels: NDArray[np.int8],
        said: Mapping[str, Sequence[Said]],
        amounts: Callable[[list[bytes]], Floats],
    ) -> None:
        """Count N payments.

        Args:
            rows: Old enough for their labels to have come.
            scores: float64 (N,), NaN without one.
            levels: Places in `OUTCOMES`, int8 (N,).
            said: The labels of those that have some.
            amounts: Gives the amounts of some bodies, in major units, float64.
        """
        verdicts = [verdict_of(said[one]).is_fraud if said.get(one) else None for one in rows.ids]
        labelled = np.array([one is not None for one in verdicts], dtype=np.bool_)
        is_fraud = np.array([one is True for one in verdicts], dtype=np.bool_)
        unknown = (levels == _BLOCK) & ~labelled
        held = (levels >= _REVIEW) & ~unknown
        self._rows += len(rows.ids)
        self._labelled += int(np.count_nonzero(labelled))
        self._unknown += int(np.count_nonzero(unknown))
        self._alerts += int(np.count_nonzero(held))
        self._frauds += int(np.count_nonzero(is_fraud))
        self._caught += int(np.count_nonzero(is_fraud & held))
        frauds = np.flatnonzero(is_fraud)
        if frauds.size:
            value = np.nan_to_num(amounts([rows.bodies[row] for row in frauds.tolist()]))
            self._value += float(value.sum())
            self._caught_value += float(value[held[frauds]].sum())
        self._calibrate(scores, is_fraud, (levels != _BLOCK) & ~np.isnan(scores))
        for identifier, effective_us in zip(rows.ids, rows.effective_us.tolist(), strict=True):
            for one in said.get(identifier, ()):
                self._lags.setdefault(one.source, []).append(one.available_us - effective_us)
                self._lag_frauds[one.source] = self._lag_frauds.get(one.source, 0) + one.is_fraud

    def _calibrate(self, scores: Floats, is_fraud: NDArray[np.bool_], open_: NDArray[np.bool_]) -> None:
        probabilities, frauds = scores[open_], is_fraud[open_]
        bins = np.searchsorted(EDGES, probabilities, side="right")
        count = len(EDGES) + 1
        self._bin_rows += np.bincount(bins, minlength=count)
        self._bin_frauds += np.bincount(bins[frauds], minlength=count)
        self._expected += np.bincount(bins, weights=probabilities, minlength=count)
        self._variance += float(np.sum(probabilities * (1 - probabilities)))

    def performance(self) -> Performance:
        """Return what became of them."""
        return Performance(
            transactions=self._rows,
            labelled=self._labelled,
            blocked_unknown=self._unknown,
            frauds=self._frauds,
            caught=self._caught,
            alerts=self._alerts,
            precision=_share(self._caught, self._alerts),
            recall=_share(self._caught, self._frauds),
            value_detection_rate=_share(self._caught_value, self._value),
            fraud_value=self._value,
        )

    def calibration(self) -> Calibration:
        """Return frauds expected and seen."""
        ends = (0.0, *EDGES, 1.0)
        bins = []
        for place in np.flatnonzero(self._bin_rows).tolist():
            rows, frauds = int(self._bin_rows[place]), int(self._bin_frauds[place])
            least, most = wilson(frauds, rows)
            bins.append(
                CalibrationBin(
                    low=ends[place],
                    high=ends[place + 1],
                    transactions=rows,
                    expected=float(self._expected[place]),
                    frauds=frauds,
                    least=least,
                    most=most,
                )
            )
        return Calibration(
            transactions=int(self._bin_rows.sum()),
            expected=float(self._expected.sum()),
            frauds=int(self._bin_frauds.sum()),
            spread=math.sqrt(self._variance),
            bins=tuple(bins),
        )

    def lags(self) -> tuple[LabelLag, ...]:
        """Return how long labels took, by source, the one with most labels first."""
        found = []
        for source, lags in sorted(self._lags.items(), key=lambda item: -len(item[1])):
            median, slow = np.percentile(np.array(lags) / SECOND_US, (50, 90)).tolist()
            found.append(
                LabelLag(source=source, labels=len(lags), frauds=self._lag_frauds[source], median_s=median, slow_s=slow)
            )
        return tuple(found)


def wilson(hits: int, rows: int) -> tuple[float, float]:
    """Return the 95% interval of Wilson (1927) for the share that `hits` out of `rows` > 0 stand for."""
    share = hits / rows
    middle = (share + _Z95**2 / (2 * rows)) / (1 + _Z95**2 / rows)
    half = _Z95 / (1 + _Z95**2 / rows) * math.sqrt(share * (1 - share) / rows + _Z95**2 / (4 * rows**2))
    return max(middle - half, 0.0), min(middle + half, 1.0)


def _share(part: float, whole: float) -> float | None:
    return part / whole if whole > 0 else None
