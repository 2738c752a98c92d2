"""The pictures of a report, each as one self-contained SVG."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from itertools import cycle

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter
from numpy.typing import NDArray
from sklearn.metrics import precision_recall_curve, roc_curve

from tollgate import metrics
from tollgate.breakdown import Week
from tollgate.duration import DAY_US
from tollgate.evaluate import Evaluation
from tollgate.train import Epoch

MODEL, BASELINE, FRAUD, GOOD, GRID, INK = "#1d5fa8", "#d9822b", "#c0392b", "#8a97a6", "#e6eaef", "#33404d"

_COLOURS = (MODEL, BASELINE, "#2e8b6f", "#8e5aa8", "#6f5b4b")  # of the models, in their order
_SIZE = (5.2, 3.4)  # inches
_MAX_POINTS = 400  # of a curve: more cannot be seen
_BUDGETS = 40  # alert budgets that are tried
_LOWEST_FPR = 1e-4
_HISTOGRAM_BINS = 40
_RELIABILITY_BINS = 10
_LABEL_ROOM = 0.85  # a threshold above it has its name at its left
_SHOWN_PERCENT = 99.5  # of latencies; the rest is counted in the last bar
_Z95 = 1.96  # standard normal quantile of a 95% interval


def budget_curve(evaluation: Evaluation) -> str:
    """Share of frauds and of their money that is seen, by how many alerts a day the analysts can look at."""
    figure, axes = _axes("alerts a day", "share seen")
    test = evaluation.test
    most = max(len(test) // max(evaluation.days, 1), evaluation.alerts_per_day, 2)
    budgets = np.unique(np.geomspace(1, most, _BUDGETS).round().astype(np.int64))
    for (name, scores), colour in zip(evaluation.scores.items(), cycle(_COLOURS), strict=False):
        seen = [metrics.alerts(scores, test.time_us, int(budget)) for budget in budgets]
        axes.plot(budgets, [metrics.recall(test.is_fraud, one) for one in seen], color=colour, label=f"{name}: frauds")
        value = [metrics.value_detection_rate(test.is_fraud, one, test.amount) for one in seen]
        axes.plot(budgets, value, color=colour, linestyle="--", label=f"{name}: money")
    axes.axvline(evaluation.alerts_per_day, color=INK, linewidth=1, linestyle=":")
    axes.text(evaluation.alerts_per_day, 0.02, f" budget: {evaluation.alerts_per_day}", color=INK, fontsize=8)
    axes.set_xscale("log")
    _shares(axes, "y")
    axes.legend(loc="upper left", fontsize=8, frameon=False)
    return svg(figure)


def precision_recall(evaluation: Evaluation) -> str:
    """Precision over recall: the area under it is average precision."""
    figure, axes = _axes("share of frauds caught (recall)", "share of flagged that is fraud")
    for (name, scores), colour in zip(evaluation.scores.items(), cycle(_COLOURS), strict=False):
        precision, recall, _ = precision_recall_curve(evaluation.test.is_fraud, scores)
        keep = _thin(recall)
        ap = evaluation.measures[name].average_precision
        axes.plot(recall[keep], precision[keep], color=colour, label=f"{name}: AP {ap:.3f}")
    _shares(axes, "xy")
    axes.legend(loc="lower left", fontsize=8, frameon=False)
    return svg(figure)


def roc(evaluation: Evaluation) -> str:
    """Frauds caught by good payments flagged, on a scale that shows the few per thousand that matter."""
    figure, axes = _axes("share of good payments flagged", "share of frauds caught")
    for (name, scores), colour in zip(evaluation.scores.items(), cycle(_COLOURS), strict=False):
        fpr, tpr, _ = roc_curve(evaluation.test.is_fraud, scores)
        keep = _thin(np.log10(np.maximum(fpr, _LOWEST_FPR)))
        auc = evaluation.measures[name].auc_roc
        axes.plot(np.maximum(fpr[keep], _LOWEST_FPR), tpr[keep], color=colour, label=f"{name}: AUC {auc:.3f}")
    chance = np.geomspace(_LOWEST_FPR, 1, 50)
    axes.plot(chance, chance, color=GOOD, linewidth=1, linestyle=":", label="by chance")
    axes.set_xscale("log")
    axes.set_xlim(_LOWEST_FPR, 1)
    axes.xaxis.set_major_formatter(_small_share)
    _shares(axes, "y")
    axes.legend(loc="upper left", fontsize=8, frameon=False)
    return svg(figure)


def score_histogram(evaluation: Evaluation) -> str:
    """How many good payments and frauds get which score, with the thresholds of the policy."""
    figure, axes = _axes("score", "payments")
    scores, is_fraud = evaluation.scores[evaluation.model], evaluation.test.is_fraud
    edges = np.linspace(0, 1, _HISTOGRAM_BINS + 1).tolist()
    axes.hist(scores[~is_fraud], edges, color=GOOD, alpha=0.75, label="good")
    axes.hist(scores[is_fraud], edges, color=FRAUD, alpha=0.75, label="fraud")
    axes.set_yscale("log")
    top = axes.get_ylim()[1]
    for line, point in enumerate(evaluation.points):  # a line of text each: two thresholds may lie together
        axes.axvline(point.threshold, color=INK, linewidth=1, linestyle=":")
        side = "right" if point.threshold > _LABEL_ROOM else "left"
        text = f" {point.outcome} "
        axes.annotate(
            text,
            (point.threshold, top),
            (0, -10 * line),
            textcoords="offset points",
            color=INK,
            fontsize=8,
            va="top",
            ha=side,
        )
    axes.set_xlim(0, 1)
    axes.legend(loc="upper left", bbox_to_anchor=(0.1, 0.9), fontsize=8, frameon=False)  # beside the tall first bar
    return svg(figure)


def reliability(evaluation: Evaluation) -> str:
    """Observed share of fraud by predicted probability, in bins that hold equally many expected frauds."""
    figure, axes = _axes("predicted probability of fraud", "observed share of fraud")
    is_fraud = evaluation.test.is_fraud
    drawn = []
    for (name, scores), colour in zip(evaluation.scores.items(), cycle(_COLOURS), strict=False):
        ordered = np.sort(scores)
        mass = np.cumsum(ordered) / max(ordered.sum(), np.finfo(float).tiny)
        cuts = np.searchsorted(mass, np.linspace(0, 1, _RELIABILITY_BINS + 1)[1:-1])
        predicted, frauds, rows = metrics.reliability(is_fraud, scores, np.unique(ordered[cuts]))
        low, high = _interval(frauds, rows)
        observed = frauds / rows
        errors = np.maximum(np.array([observed - low, high - observed]), 0)
        axes.errorbar(predicted, observed, errors, color=colour, fmt="o", markersize=4, capsize=2, label=name)
        drawn += [predicted.min(), *low[low > 0]]
    floor = 10.0 ** math.floor(math.log10(max(min(drawn), 1e-6)))
    axes.plot([floor, 1], [floor, 1], color=INK, linewidth=1, linestyle=":", label="perfect")
    axes.set(xscale="log", yscale="log", xlim=(floor, 1.3), ylim=(floor, 1.3))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(_small_share)
    axes.legend(loc="upper left", fontsize=8, frameon=False)
    return svg(figure)


def training_curve(epochs: Sequence[Epoch], best: int) -> str:
    """Loss and validation AP of each epoch."""
    figure = Figure(figsize=_SIZE, layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True)
    numbers = [epoch.number for epoch in epochs]
    upper.plot(numbers, [epoch.train_loss for epoch in epochs], color=GOOD, label="training (with dropout)")
    upper.plot(numbers, [epoch.validation_loss for epoch in epochs], color=MODEL, label="validation")
    lower.plot(numbers, [epoch.validation_ap for epoch in epochs], color=MODEL)
    for axes, label in ((upper, "loss"), (lower, "validation AP")):
        _style(axes, "epoch" if axes is lower else "", label)
        axes.axvline(best, color=INK, linewidth=1, linestyle=":")
    lower.xaxis.set_major_locator(MaxNLocator(integer=True))
    upper.legend(loc="upper right", fontsize=8, frameon=False)
    return svg(figure)


def frauds_by_day(evaluation: Evaluation) -> str:
    """Frauds of each day, seen and missed within the alert budget."""
    figure, axes = _axes("", "frauds")
    seen = evaluation.alerts(evaluation.model)
    day = evaluation.test.time_us // DAY_US
    days = np.unique(day)
    caught, missed = (
        np.array([np.count_nonzero(evaluation.test.is_fraud & part & (day == one)) for one in days])
        for part in (seen, ~seen)
    )
    dates = [str(np.datetime64(int(one), "D"))[5:] for one in days]
    axes.bar(dates, caught, color=MODEL, label="seen by analysts")
    axes.bar(dates, missed, bottom=caught, color=GRID, edgecolor=GOOD, linewidth=0.5, label="missed")
    axes.xaxis.set_major_locator(MaxNLocator(nbins=10, integer=True))
    axes.set_ylim(0, 1.25 * max((caught + missed).max(), 1))
    axes.legend(loc="upper right", ncols=2, fontsize=8, frameon=False)
    return svg(figure)


def measures_by_week(weeks: Sequence[Week]) -> str:
    """How good the model was in each week that was tested, one of which at least has a fraud."""
    figure, axes = _axes("week from", "")
    dates = [str(np.datetime64(week.start_us, "us"))[:10] for week in weeks]
    highest = 0.0
    for label, colour, marker, values in (
        ("average precision", MODEL, "o", [week.average_precision for week in weeks]),
        ("frauds seen at the budget", FRAUD, "s", [week.recall for week in weeks]),
        ("card precision at the budget", BASELINE, "^", [week.card_precision for week in weeks]),
    ):
        axes.plot(dates, values, color=colour, marker=marker, markersize=4, label=label)
        highest = max(highest, float(np.nanmax(values)))
    axes.xaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))
    axes.set_ylim(0, 1.35 * (highest or 1.0))  # room for the legend
    axes.legend(loc="upper left", ncols=2, fontsize=8, frameon=False)
    return svg(figure)


def recall_by_group(evaluation: Evaluation, groups: Mapping[str, NDArray[np.bool_]]) -> str:
    """Share of the frauds of each group that analysts see within the alert budget."""
    figure, axes = _axes("share of frauds seen", "")
    seen, test = evaluation.alerts(evaluation.model), evaluation.test
    for place, (_, rows) in enumerate(reversed(list(groups.items()))):
        caught, frauds = np.count_nonzero(test.is_fraud & rows & seen), np.count_nonzero(test.is_fraud & rows)
        share = caught / frauds if frauds else 0.0
        axes.barh(place, share, color=MODEL, height=0.6)
        axes.text(share, place, f" {caught} of {frauds}", va="center", fontsize=8, color=INK)
    axes.set_yticks(range(len(groups)), [name.replace("_", " ") for name in reversed(list(groups))])
    _shares(axes, "x")
    axes.set(xlim=(0, 1.25), xticks=(0, 0.25, 0.5, 0.75, 1))  # room for the numbers beside the bars
    return svg(figure)


def latency_histogram(latencies_ms: NDArray[np.float64]) -> str:
    """How long answers took, with the median and the 99th percentile."""
    figure, axes = _axes("milliseconds", "answers")
    most = float(np.percentile(latencies_ms, _SHOWN_PERCENT))
    axes.hist(np.minimum(latencies_ms, most), bins=_HISTOGRAM_BINS, color=MODEL)
    for quantile in (50, 99):
        at = float(np.percentile(latencies_ms, quantile))
        axes.axvline(at, color=INK, linewidth=1, linestyle=":")
        axes.text(at, axes.get_ylim()[1] * 0.96, f" p{quantile}: {at:.1f} ms", color=INK, fontsize=8, va="top")
    return svg(figure)


def scores_in_order(scores: NDArray[np.float64]) -> str:
    """The score of each payment in the order in which they came."""
    figure, axes = _axes("payments, in order", "score")
    axes.scatter(np.arange(len(scores)), scores, s=6, color=MODEL, linewidths=0)
    axes.set_ylim(-0.02, 1.02)
    return svg(figure)


def _axes(x: str, y: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=_SIZE, layout="constrained")
    axes = figure.subplots()
    _style(axes, x, y)
    return figure, axes


def _style(axes: Axes, x: str, y: str) -> None:
    axes.set_xlabel(x, fontsize=9, color=INK)
    axes.set_ylabel(y, fontsize=9, color=INK)
    axes.tick_params(labelsize=8, colors=INK)
    axes.grid(color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(GOOD)


def _shares(axes: Axes, which: str) -> None:
    if "x" in which:
        axes.set_xlim(0, 1.02)
        axes.xaxis.set_major_formatter(PercentFormatter(1))
    if "y" in which:
        axes.set_ylim(0, 1.02)
        axes.yaxis.set_major_formatter(PercentFormatter(1))


def _small_share(value: float, _place: float) -> str:
    return f"{100 * value:g}%"


def _thin(along: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the places of at most a few hundred points of a curve, spread evenly along `along`, ends included."""
    reach = np.abs(np.diff(along, prepend=along[0])).cumsum()
    places = np.searchsorted(reach, np.linspace(0, reach[-1], _MAX_POINTS))
    return np.unique(np.concatenate((places, [along.size - 1])))


def _interval(hits: NDArray[np.int64], rows: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the 95% Wilson intervals of `hits` out of `rows`."""
    share = hits / rows
    middle = (share + _Z95**2 / (2 * rows)) / (1 + _Z95**2 / rows)
    half = _Z95 / (1 + _Z95**2 / rows) * np.sqrt(share * (1 - share) / rows + _Z95**2 / (4 * rows**2))
    return middle - half, middle + half


def svg(figure: Figure) -> str:
    """Return a figure as SVG; the same figure gives the same bytes."""
    file = io.StringIO()
    # Without a fixed salt and date the same report would have other bytes, and its bundle another id, each time.
    with mpl.rc_context({"svg.hashsalt": "tollgate"}):
        figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
    return file.getvalue()
