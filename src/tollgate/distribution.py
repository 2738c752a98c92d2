"""Small pictures of how one feature is distributed over good payments and over frauds, each a self-contained SVG.

Needs the extra `train`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from tollgate.plots import FRAUD, GOOD, GRID, INK, svg

Values = NDArray[np.float64]

_SIZE = (4.2, 2.0)  # inches
_BINS = 36
_MOST_WHOLE = 24  # different whole numbers that get a bar each
_MOST_CODES = 7  # categories that get a bar each; the rest is counted together
_MOST_TEXT = 16  # characters of a category's text
_TAILS = (0.5, 99.5)  # percentiles: what lies further out is drawn in the last bar of its side
_SKEWED = 20.0  # the upper tail over the median from which a logarithmic axis shows more
_LARGEST_COUNT = 1000
_DECADES = 1e6  # the most that a logarithmic axis spans
_BAR = 0.42  # of the room for a value


def draw_number(good: Values, fraud: Values) -> str | None:
    """Return the shares of each label by value; None where there is no value at all.

    Args:
        good: Values of good payments, float64 (N,), none missing.
        fraud: Values of frauds, float64 (M,).
    """
    both = np.concatenate((good, fraud))
    if not both.size:
        return None
    figure, axes = _axes()
    distinct = np.unique(both)
    whole = bool((distinct == np.round(distinct)).all())
    if whole and np.ptp(distinct) <= _MOST_WHOLE:
        _bars(axes, distinct.tolist(), [_shares_at(part, distinct) for part in (good, fraud)])
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    else:
        _histogram(axes, good, fraud, whole=whole)
    return svg(figure)


def draw_category(good: Values, fraud: Values, texts: Mapping[float, str]) -> str | None:
    """Return the shares of each label by category, the most frequent first; None where there is no value at all.

    Args:
        good: Category codes of good payments, float64 (N,), none missing.
        fraud: Category codes of frauds, float64 (M,).
        texts: Of the codes.
    """
    both = np.concatenate((good, fraud))
    if not both.size:
        return None
    codes, counts = np.unique(both, return_counts=True)
    top = codes[np.argsort(-counts, kind="stable")[:_MOST_CODES]]
    labels = [_short(texts.get(float(code), "?")) for code in top]
    shares = [_shares_at(part, top) for part in (good, fraud)]
    if codes.size > top.size:
        labels.append("others")
        shares = [np.append(one, max(0.0, 1 - one.sum()) if one.any() else 0.0) for one in shares]
    figure, axes = _axes()
    places = np.arange(len(labels))
    _bars(axes, places.tolist(), shares)
    tilted = sum(map(len, labels)) > 40
    axes.set_xticks(places, labels, rotation=30 if tilted else 0, ha="right" if tilted else "center")
    return svg(figure)


def _short(text: str) -> str:
    return text if len(text) <= _MOST_TEXT else text[: _MOST_TEXT - 1] + "\N{HORIZONTAL ELLIPSIS}"


def _shares_at(values: Values, places: Values) -> Values:
    """Return which share of the values is each of K values, float64 (K,)."""
    return (values[:, None] == places).mean(axis=0) if values.size else np.zeros(places.size)


def _bars(axes: Axes, places: Sequence[float], shares: Sequence[Values]) -> None:
    for side, share, colour in zip((-1, 1), shares, (GOOD, FRAUD), strict=True):
        axes.bar(np.asarray(places) + side * _BAR / 2, share, _BAR, color=colour)
    if len(places) == 1:
        axes.set_xlim(places[0] - 2, places[0] + 2)


def _histogram(axes: Axes, good: Values, fraud: Values, *, whole: bool) -> None:
    """Draw the share of each label in bins that both have in common."""
    scale, edges = _edges(good, fraud, whole=whole)
    axes.set_xscale(scale)
    for part, colour, alpha in ((good, GOOD, 0.55), (fraud, FRAUD, 0.35)):
        if part.size:
            share, _ = np.histogram(np.clip(part, edges[0], edges[-1]), edges)
            axes.stairs(share / part.size, edges, fill=True, color=colour, alpha=alpha)
            axes.stairs(share / part.size, edges, color=colour, linewidth=1.3)
    axes.set_xlim(edges[0], edges[-1])


def _edges(good: Values, fraud: Values, *, whole: bool) -> tuple[str, Values]:
    """Return the scale of the axis and the edges of the bins: of equal ratio where the upper tail is long."""
    low, high = np.percentile(good if good.size else fraud, _TAILS)
    if fraud.size:  # one label must not push the other out of the picture
        ends = np.percentile(fraud, _TAILS)
        low, high = min(low, ends[0]), max(high, ends[1])
    if high <= low:
        low, high = low - 0.5, low + 0.5
    both = np.concatenate((good, fraud))
    positive = both[both > 0]
    counts = whole and high < _LARGEST_COUNT  # of these, 0 and 1 must be told apart
    if not counts and low >= 0 and positive.size and high > _SKEWED * np.median(positive):
        floor = max(float(np.percentile(positive, _TAILS[0])), high / _DECADES)
        return "log", np.geomspace(floor, max(high, floor * _SKEWED), _BINS + 1)
    if whole:  # a bin holds equally many whole numbers as the next
        width = max(1.0, np.ceil((high - low) / _BINS))
        return "linear", np.arange(np.floor(low) - 0.5, high + width, width)
    return "linear", np.linspace(low, high, _BINS + 1)


def _axes() -> tuple[Figure, Axes]:
    figure = Figure(figsize=_SIZE, layout="constrained")
    axes = figure.subplots()
    axes.tick_params(labelsize=8, colors=INK, length=2)
    axes.yaxis.set_major_locator(MaxNLocator(4))
    axes.yaxis.set_major_formatter(lambda share, _place: f"{100 * share:g}%")
    axes.grid(axis="y", color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(GOOD)
    return figure, axes
