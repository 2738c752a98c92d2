"""What scores are worth on the test period: the model beside the baseline, on the same rows."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from tollgate import metrics
from tollgate.bootstrap import MEASURES, Interval, Pair, difference_interval, intervals
from tollgate.breakdown import Groups, Slice, Week, amount_bands, by_value, by_week, newness, slices
from tollgate.config import EvaluateConfig, PolicyConfig
from tollgate.dataset import Dataset
from tollgate.duration import DAY_US
from tollgate.errors import InputError
from tollgate.thresholds import total_cost


class Measures(msgspec.Struct, frozen=True, kw_only=True):
    """One model's measures; NaN where one is not defined.

    Attributes:
        recall: At the alert budget, as are `precision` and `value_detection_rate`.
        card_precision: Card precision@k, k being the alert budget.
        money_saved: At the alert budget, of all days: the money of the frauds among the alerts less the cost of
            reviewing, in major units of the base currency. Negative where reviewing costs more.
        money_saved_per_day: The same, a day.
        money_saved_share: The same, as a share of the money of all frauds.
        recall_at_fpr: At 1% of the good payments flagged.
        recall_at_low_fpr: At 0.1% of them.
        calibration_error: Expected calibration error.
    """

    auc_roc: float
    average_precision: float
    card_precision: float
    recall: float
    precision: float
    value_detection_rate: float
    money_saved: float
    money_saved_per_day: float
    money_saved_share: float
    recall_at_fpr: float
    recall_at_low_fpr: float
    brier: float
    log_loss: float
    calibration_error: float

    def as_metrics(self) -> dict[str, float | None]:
        """Return them by name, as a manifest keeps them: null where one is not defined."""
        return {name: None if math.isnan(value) else value for name, value in msgspec.structs.asdict(self).items()}


class OperatingPoint(msgspec.Struct, frozen=True, kw_only=True):
    """What a threshold of the policy does to the payments.

    Attributes:
        outcome: What happens at or above `threshold`: review or block.
        payments_per_day: Payments at or above it, a day.
        precision: Share of them that is fraud.
        recall: Share of the frauds that is at or above it.
        value_detection_rate: Share of the defrauded money that is.
        disturbed: Share of the good payments that is.
    """

    outcome: str
    threshold: float
    payments_per_day: float
    precision: float
    recall: float
    value_detection_rate: float
    disturbed: float


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Measures, and the rows that they were taken on.

    Attributes:
        test: The measured rows.
        scores: Calibrated probabilities of each model, float64 (N,), the model itself first.
        measures: Of each model, in the same order.
        points: Of the model itself, review before block.
        alerts_per_day: The alert budget.
        days: How many days (UTC) the rows are of.
        left_out: How many test rows were not measured, since their card was known as compromised.
        policy: The thresholds, and how they were chosen.
        policy_cost: What deciding by the policy would have cost on the rows; see `total_cost`.
        approving_cost: What approving every payment would have cost.
        review_cost: Of one alert, in major units of the base currency.
        intervals: Of measures of each model, by measure; none where resampling is off.
        differences: AP of the model itself less that of each other one.
        slices: Of the model itself.
        weeks: Of the model itself, in order.
    """

    test: Dataset
    scores: Mapping[str, NDArray[np.float64]]
    measures: Mapping[str, Measures]
    points: tuple[OperatingPoint, ...]
    alerts_per_day: int
    days: int
    left_out: int
    policy: PolicyConfig
    policy_cost: float
    approving_cost: float
    review_cost: float
    intervals: Mapping[str, Mapping[str, Interval]] = field(default_factory=dict)
    differences: Mapping[str, Interval] = field(default_factory=dict)
    slices: tuple[Slice, ...] = ()
    weeks: tuple[Week, ...] = ()

    @property
    def model(self) -> str:
        """Name of the model itself."""
        return next(iter(self.scores))

    def alerts(self, name: str) -> NDArray[np.bool_]:
        """Return which rows the analysts would see with a model's scores, bool (N,)."""
        return metrics.alerts(self.scores[name], self.test.time_us, self.alerts_per_day)


def evaluate(
    test: Dataset,
    scores: Mapping[str, NDArray[np.float64]],
    config: EvaluateConfig,
    policy: PolicyConfig,
    known: NDArray[np.bool_] | None = None,
    *,
    new_card: NDArray[np.bool_] | None = None,
    categories: Mapping[str, NDArray[Any]] | None = None,
) -> Evaluation:
    """Return the measures of each model's scores on the test rows.

    Args:
        test: N rows.
        scores: Calibrated probabilities by name, float64 (N,) each; the first is the model, others are compared.
        config: The alert budget, and whether to leave out rows of known cards.
        policy: The thresholds.
        known: Which rows are of a card already known as compromised, bool (N,); see `Split.test_known`.
        new_card: Which rows have no earlier payment of their card in the data, bool (N,); see `Split.test_new`.
        categories: Texts to slice by, such as those of the channel, object (N,) each.

    Raises:
        InputError: No row is left to measure on.
    """
    measured = ~known if config.drop_known_cards and known is not None else np.ones(len(test), dtype=np.bool_)
    rows = test.take(measured)
    if len(rows) == 0:
        raise InputError(
            "empty_part",
            f"expected test rows to measure on, but all {len(test)} are of cards already known as compromised; set "
            "[evaluate] drop_known_cards = false",
        )
    kept = {name: values[measured] for name, values in scores.items()}
    days = np.unique(rows.time_us // DAY_US).size
    first = next(iter(kept.values()))
    seen = metrics.alerts(first, rows.time_us, config.alerts_per_day)
    groups = divisions(
        rows,
        config,
        None if new_card is None else new_card[measured],
        {name: texts[measured] for name, texts in (categories or {}).items()},
    )
    evaluation = Evaluation(
        test=rows,
        scores=kept,
        measures={name: _measure(rows, values, config, days) for name, values in kept.items()},
        points=(
            _point(rows, first, "review", policy.review, days),
            _point(rows, first, "block", policy.block, days),
        ),
        alerts_per_day=config.alerts_per_day,
        days=days,
        left_out=len(test) - len(rows),
        policy=policy,
        policy_cost=total_cost(rows.is_fraud, first, rows.amount, policy),
        approving_cost=policy.costs.missed_share * float(rows.amount[rows.is_fraud].sum()),
        review_cost=config.review_cost,
        intervals=_intervals(rows, kept, config),
        slices=slices(rows, first, seen, groups),
        weeks=by_week(rows, first, config.alerts_per_day),
    )
    return replace(evaluation, differences=differences([evaluation], config))


def divisions(
    rows: Dataset,
    config: EvaluateConfig,
    new_card: NDArray[np.bool_] | None = None,
    categories: Mapping[str, NDArray[Any]] | None = None,
) -> dict[str, Groups]:
    """Return what divides N rows into slices: groups of rows by name, bool (N,) each. The arguments are as above."""
    found: dict[str, Groups] = {"amount": amount_bands(rows.amount, config.amount_bands)}
    if new_card is not None:
        found["card"] = newness(new_card)
    return found | {name: by_value(texts) for name, texts in (categories or {}).items()}


def mean_over(evaluations: Sequence[Evaluation], model: str, measure: str) -> float:
    """Return the mean of one model's measure over folds; NaN where it is not defined in one of them."""
    return float(np.mean([getattr(one.measures[model], measure) for one in evaluations]))


def differences(
    evaluations: Sequence[Evaluation], config: EvaluateConfig, measure: str = "average_precision"
) -> dict[str, Interval]:
    """Return the interval of the model's measure less each other model's, meaned over folds; none without resampling.

    Args:
        evaluations: Of the same models on each fold, such as four test weeks, all with one alert budget.
        config: How often to resample, the level and the seed.
        measure: One of `bootstrap.MEASURES`.
    """
    if config.resamples == 0:
        return {}
    first, *others = evaluations[0].scores
    return {
        other: difference_interval(
            [Pair(one.test, one.scores[first], one.scores[other]) for one in evaluations],
            measure,
            budget=evaluations[0].alerts_per_day,
            resamples=config.resamples,
            seed=config.seed,
            level=config.level,
        )
        for other in others
    }


def fraud_groups(test: Dataset, group: NDArray[Any]) -> dict[str, NDArray[np.bool_]]:
    """Return the rows of each group that has frauds, such as a typology, the one with most frauds first.

    Args:
        test: N rows.
        group: The name of each row's group, (N,).
    """
    names, counts = np.unique(group[test.is_fraud].astype(str), return_counts=True)
    return {str(names[place]): group.astype(str) == names[place] for place in np.argsort(-counts, kind="stable")}


def _measure(rows: Dataset, scores: NDArray[np.float64], config: EvaluateConfig, days: int) -> Measures:
    seen = metrics.alerts(scores, rows.time_us, config.alerts_per_day)
    saved = metrics.money_saved(rows.is_fraud, seen, rows.amount, config.review_cost)
    stolen = float(rows.amount[rows.is_fraud].sum())
    return Measures(
        auc_roc=metrics.auc_roc(rows.is_fraud, scores),
        average_precision=metrics.average_precision(rows.is_fraud, scores),
        card_precision=metrics.card_precision(rows.is_fraud, scores, rows.card, rows.time_us, config.alerts_per_day),
        recall=metrics.recall(rows.is_fraud, seen),
        precision=metrics.precision(rows.is_fraud, seen),
        value_detection_rate=metrics.value_detection_rate(rows.is_fraud, seen, rows.amount),
        money_saved=saved,
        money_saved_per_day=saved / days,
        money_saved_share=saved / stolen if stolen > 0 else math.nan,
        recall_at_fpr=metrics.recall_at_fpr(rows.is_fraud, scores),
        recall_at_low_fpr=metrics.recall_at_fpr(rows.is_fraud, scores, metrics.LOW_FPR_LIMIT),
        brier=metrics.brier(rows.is_fraud, scores),
        log_loss=metrics.log_loss(rows.is_fraud, scores),
        calibration_error=metrics.expected_calibration_error(rows.is_fraud, scores),
    )


def _intervals(
    rows: Dataset, scores: Mapping[str, NDArray[np.float64]], config: EvaluateConfig
) -> dict[str, dict[str, Interval]]:
    if config.resamples == 0:
        return {}
    return {
        name: intervals(
            rows,
            values,
            MEASURES,
            budget=config.alerts_per_day,
            resamples=config.resamples,
            seed=config.seed,
            level=config.level,
        )
        for name, values in scores.items()
    }


def _point(rows: Dataset, scores: NDArray[np.float64], outcome: str, threshold: float, days: int) -> OperatingPoint:
    flagged = scores >= threshold
    return OperatingPoint(
        outcome=outcome,
        threshold=threshold,
        payments_per_day=np.count_nonzero(flagged) / days,
        precision=metrics.precision(rows.is_fraud, flagged),
        recall=metrics.recall(rows.is_fraud, flagged),
        value_detection_rate=metrics.value_detection_rate(rows.is_fraud, flagged, rows.amount),
        disturbed=metrics.recall(~rows.is_fraud, flagged),
    )
