"""A report on a model that a risk manager can read: one HTML file, no other file or host needed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter

import numpy as np
from numpy.typing import NDArray

from tollgate import plots
from tollgate.bootstrap import Interval
from tollgate.breakdown import FEWEST_FRAUDS, Week
from tollgate.dataset import Window
from tollgate.evaluate import Evaluation
from tollgate.model.profile import FeatureProfile
from tollgate.templates import embedded, environment
from tollgate.train import Epoch

TEMPLATE = "report.html"

# What each measure is called, what it means, and whether more is better.
MEASURES = (
    ("average_precision", "Average precision", "precision averaged over the frauds, from the highest score down", True),
    ("auc_roc", "AUC ROC", "chance that a fraud scores above a good payment", True),
    (
        "card_precision",
        "Card precision at the budget",
        "share of a day's most suspicious cards that is compromised",
        True,
    ),
    ("recall", "Frauds seen at the budget", "share of the frauds among the alerts", True),
    ("value_detection_rate", "Money seen at the budget", "share of the defrauded money among the alerts", True),
    (
        "money_saved_share",
        "Money saved at the budget",
        "the money of the frauds seen less the cost of reviewing, as a share of the defrauded money",
        True,
    ),
    ("precision", "Alerts that are fraud", "share of the alerts", True),
    (
        "recall_at_low_fpr",
        "Frauds caught at 0.1% disturbed",
        "recall where 0.1% of the good payments are flagged",
        True,
    ),
    ("recall_at_fpr", "Frauds caught at 1% disturbed", "recall where 1% of the good payments are flagged", True),
    ("brier", "Brier score", "mean squared error of the probability", False),
    ("log_loss", "Log loss", "mean surprise at what happened, in nats", False),
    ("calibration_error", "Calibration error", "mean gap of predicted and observed fraud share", False),
)
_SHARES = frozenset(
    {
        "card_precision",
        "recall",
        "value_detection_rate",
        "money_saved_share",
        "precision",
        "recall_at_low_fpr",
        "recall_at_fpr",
    }
)
_DASH = "\N{EN DASH}"


@dataclass(frozen=True, slots=True)
class History:
    """How a model came about.

    Attributes:
        training: The training period, the validation part included.
        rows: Transactions that were fitted on.
        frauds: How many of them are fraud.
        validation_rows: Newer transactions, to choose the epoch and to calibrate.
        epochs: Every epoch, or none where the model was not trained just now.
        best: Number of the epoch that was kept.
        warnings: Sentences that a reader should know.
        features: Each feature over the training rows.
    """

    training: Window
    rows: int
    frauds: int
    validation_rows: int
    epochs: Sequence[Epoch] = ()
    best: int = 0
    warnings: Sequence[str] = ()
    features: Sequence[FeatureProfile] = ()


@dataclass(frozen=True, slots=True)
class Live:
    """What was seen of a model while it decided live traffic.

    Attributes:
        facts: Pairs of a figure, as text, and what it is.
        latencies_ms: Of each answer, float64 (N,).
        scores: Of each decision, float64 (N,).
        held: Payments that were reviewed or blocked: id, outcome, score and reasons as text.
    """

    facts: Sequence[tuple[str, str]]
    latencies_ms: NDArray[np.float64]
    scores: NDArray[np.float64]
    held: Sequence[tuple[str, str, float, str]]


@dataclass(frozen=True, slots=True)
class _Cell:
    """A measure of one model as text, its interval as text, and whether it is better than all that read otherwise."""

    text: str
    interval: str
    best: bool


@dataclass(frozen=True, slots=True)
class _Plot:
    title: str
    caption: str
    source: str


def render_report(
    evaluation: Evaluation,
    history: History,
    *,
    title: str,
    currency: str,
    groups: Mapping[str, NDArray[np.bool_]] | None = None,
    live: Live | None = None,
    folds: Sequence[Evaluation] = (),
    over_folds: Mapping[str, Interval] | None = None,
) -> str:
    """Return the report as HTML.

    Args:
        evaluation: The measures and the measured rows.
        history: Of the model.
        title: Of the page.
        currency: Code of the currency that amounts are in.
        groups: Rows of each kind of fraud among the measured rows, bool (N,), such as typologies.
        live: What was seen of live traffic, if there was any.
        folds: Where the model was trained anew for one test period after another: all of them, the oldest first.
            `evaluation` is that of the newest.
        over_folds: The difference of AP to each other model over all folds; see `evaluate.differences`.
    """
    pages = environment()
    pages.filters |= {
        "share": _share,
        "number": _number,
        "measure": _measure,
        "score": _score,
        "money": _money,
        "rate": _rate,
        "date": _date,
    }
    template = pages.get_template(TEMPLATE)
    test = evaluation.test
    weeks = [week for fold in folds or (evaluation,) for week in fold.weeks]
    first, last = int(test.time_us.min()), int(test.time_us.max())
    return template.render(
        title=title,
        currency=currency,
        evaluation=evaluation,
        history=history,
        days=(_date(first), _date(last)),
        payments=len(test),
        frauds=test.frauds,
        stolen=float(test.amount[test.is_fraud].sum()),
        own=evaluation.measures[evaluation.model],
        table=_table(evaluation),
        level=_level(evaluation),
        verdicts=_verdicts(evaluation, folds, over_folds),
        weeks=weeks,
        folds=len(folds),
        chosen=_how_chosen(evaluation, currency),
        slices=[(by, list(group)) for by, group in groupby(evaluation.slices, key=attrgetter("by"))],
        fewest_frauds=FEWEST_FRAUDS,
        plots=_plots(evaluation, history, groups, weeks),
        live=live,
        live_plots=[] if live is None else _live_plots(live),
    )


def _table(evaluation: Evaluation) -> list[tuple[str, str, list[_Cell]]]:
    """Return title, meaning and a cell for each model, of each measure."""
    table = []
    for name, title, meaning, more_is_better in MEASURES:
        values = [getattr(measures, name) for measures in evaluation.measures.values()]
        defined = [value for value in values if not math.isnan(value)]
        best = (max if more_is_better else min)(defined, default=math.nan)
        texts = [_measure(value, name) for value in values]
        differ = len(set(texts)) > 1
        ranges = [_range(evaluation.intervals.get(model, {}).get(name), name) for model in evaluation.measures]
        cells = [
            _Cell(text, interval, differ and text == _measure(best, name))
            for text, interval in zip(texts, ranges, strict=True)
        ]
        table.append((title, meaning, cells))
    return table


def _range(interval: Interval | None, name: str) -> str:
    if interval is None or math.isnan(interval.low):
        return ""
    return f"{_measure(interval.low, name)} to {_measure(interval.high, name)}"


def _level(evaluation: Evaluation) -> str:
    """Return the level of the intervals as text, or nothing where there is none."""
    found = [one for of_model in evaluation.intervals.values() for one in of_model.values()]
    return f"{found[0].level:.0%}" if found else ""


def _verdicts(
    evaluation: Evaluation, folds: Sequence[Evaluation], over_folds: Mapping[str, Interval] | None
) -> list[str]:
    if over_folds:  # one period alone says less, and could seem to say the contrary
        return [f"Over all {len(folds)} test periods: {_verdict(name, one)}" for name, one in over_folds.items()]
    return [_verdict(name, one) for name, one in evaluation.differences.items()]


def _verdict(other: str, difference: Interval) -> str:
    """Return one sentence on whether average precision differs from another model's by more than chance."""
    if math.isnan(difference.value) or math.isnan(difference.low):
        return f"Average precision cannot be compared with {other}'s on these payments."
    sign = -1 if difference.value < 0 else 1  # told as how much better, or how much worse
    low, high = sorted((sign * difference.low, sign * difference.high))
    ends = f"{low:.3f} to {high:.3f}".replace("-", "\N{MINUS SIGN}")
    told = (
        f"Average precision is {'worse' if sign < 0 else 'better'} than {other}'s by {abs(difference.value):.3f} "
        f"({difference.level:.0%} interval {ends})"
    )
    return f"{told}: " + ("the difference may be chance." if difference.holds_zero else "more than chance explains.")


def _how_chosen(evaluation: Evaluation, currency: str) -> str:
    """Return, in words, where the thresholds come from and, if by cost, what they would have cost."""
    policy = evaluation.policy
    if policy.choose == "fixed":
        return "Both thresholds are fixed scores of the configuration."
    if policy.choose == "budget":
        return (
            f"The review threshold was chosen on the validation payments, as low as it goes with at most "
            f"{policy.review_per_day:,} of them a day at or above it. The block threshold is the fixed score of the "
            "configuration, or the review threshold where that is higher."
        )
    costs = policy.costs
    margin = f" and {100 * costs.false_block_share:g}% of its amount" if costs.false_block_share else ""
    return (
        "Both thresholds were chosen on the validation payments, where decisions would have cost the least: a missed "
        f"fraud costs {100 * costs.missed_share:g}% of its amount, a blocked good payment {costs.false_block:,.2f} "
        f"{currency}{margin}, a review {costs.review:,.2f} {currency}, and a review stops "
        f"{100 * costs.review_stops:g}% of the frauds. On the test payments, decisions would have cost "
        f"{_money(evaluation.policy_cost)} {currency}; to approve every payment, {_money(evaluation.approving_cost)} "
        f"{currency}."
    )


def _plots(
    evaluation: Evaluation,
    history: History,
    groups: Mapping[str, NDArray[np.bool_]] | None,
    weeks: Sequence[Week],
) -> list[_Plot]:
    budget = f"within {evaluation.alerts_per_day} alerts a day"
    made = [("Frauds day by day", f"Seen and missed {budget}.", plots.frauds_by_day(evaluation))]
    if len(weeks) > 1 and any(week.frauds for week in weeks):
        made.append(("Week by week", "Does it stay as good?", plots.measures_by_week(weeks)))
    if groups:
        made.append(("By kind of fraud", f"Seen {budget}.", plots.recall_by_group(evaluation, groups)))
    if 0 < evaluation.test.frauds < len(evaluation.test):  # a curve needs both classes
        made[:0] = [
            (
                "What an alert budget buys",
                "More analysts see more fraud; the curve says how much more.",
                plots.budget_curve(evaluation),
            ),
        ]
        made += [
            (
                "Precision and recall",
                "How pure the flagged payments are, as more of the fraud is caught.",
                plots.precision_recall(evaluation),
            ),
            (
                "Frauds caught, customers disturbed",
                "The left edge matters: one in ten thousand good payments flagged.",
                plots.roc(evaluation),
            ),
        ]
    made += [
        (
            "Scores of good payments and frauds",
            "The vertical axis is logarithmic; dotted lines are the thresholds.",
            plots.score_histogram(evaluation),
        ),
        ("Does 10% mean 10%?", "Dots on the line are right; bars are 95% intervals.", plots.reliability(evaluation)),
    ]
    if history.epochs:
        curve = plots.training_curve(history.epochs, history.best)
        made.append(("Training", "The dotted line is the epoch that was kept.", curve))
    return [_Plot(title, caption, embedded(svg)) for title, caption, svg in made]


def _live_plots(live: Live) -> list[_Plot]:
    return [
        _Plot(
            "How long an answer took",
            "From when the request was due, over the network, until the answer was there.",
            embedded(plots.latency_histogram(live.latencies_ms)),
        ),
        _Plot("Scores, as they came", "Each dot is a payment.", embedded(plots.scores_in_order(live.scores))),
    ]


def _share(value: float) -> str:
    if math.isnan(value):
        return _DASH
    return f"{100 * value:.1f}%" if value == 0 or abs(value) >= 0.001 else f"{100 * value:.3f}%"


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 or value == round(value) else f"{value:,.1f}"


def _money(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:,.2f}"


def _score(value: float) -> str:
    return f"{value:.2f}" if value == 0 or value >= 0.1 else f"{value:.2g}"


def _rate(value: float) -> str:
    """Return a small share, finely: two that are compared should not look equal because they were cut short."""
    return _DASH if math.isnan(value) else f"{value:.2%}" if value >= 0.001 else f"{value:.3%}"


def _date(time_us: int) -> str:
    return str(np.datetime64(time_us, "us"))[:10]


def _measure(value: float, name: str) -> str:
    if math.isnan(value):
        return _DASH
    return _share(value) if name in _SHARES else f"{value:.4f}" if value < 0.1 else f"{value:.3f}"
