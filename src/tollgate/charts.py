"""Pictures of what was decided and how it moved, each a self-contained SVG. Needs the extra `train`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from tollgate.drift import Drift
from tollgate.maturity import CalibrationBin
from tollgate.plots import BASELINE, FRAUD, GOOD, GRID, INK, MODEL, svg

_SIZE = (5.2, 3.2)  # inches
_SMALLEST_SHARE = 1e-6  # that a logarithmic axis shows
_BAR = 0.4  # of the room for a bin
_MOST_LABELS = 12  # bins that have their edges written below


def stacked(labels: Sequence[str], layers: Mapping[str, Sequence[float]], what: str) -> str:
    """Draw bars that stand on each other: for each of N labels a value of each layer, the lowest layer first."""
    figure, axes = _axes("", what)
    bottom = np.zeros(len(labels))
    for (name, values), colour in zip(layers.items(), (MODEL, FRAUD, BASELINE, GOOD), strict=False):
        axes.bar(labels, values, bottom=bottom, color=colour, label=name)
        bottom += np.asarray(values)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=8, integer=True))
    axes.set_ylim(0, 1.25 * max(float(bottom.max(initial=0)), 1.0))
    axes.legend(loc="upper right", ncols=3, fontsize=8, frameon=False)
    return svg(figure)


def line(labels: Sequence[str], lines: Mapping[str, Sequence[float]], what: str) -> str:
    """Draw a line through N labelled values, for each name."""
    figure, axes = _axes("", what)
    for (name, values), colour in zip(lines.items(), (MODEL, FRAUD, BASELINE), strict=False):
        axes.plot(labels, values, color=colour, marker="o", markersize=3, label=name)
    axes.axhline(0, color=INK, linewidth=0.8)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=8, integer=True))
    axes.legend(loc="best", fontsize=8, frameon=False)
    return svg(figure)


def shares(drift: Drift) -> str:
    """Draw the share of each bin in training and today."""
    figure, axes = _axes("", "share of the payments")
    texts = _bin_texts(drift)
    places = np.arange(len(texts))
    for side, values, colour, name in (
        (-1, drift.shares_before, GOOD, "in training"),
        (1, drift.shares, MODEL, "now"),
    ):
        axes.bar(places + side * _BAR / 2, values, _BAR, color=colour, label=name)
    if len(texts) > _MOST_LABELS:
        texts = [text if not place % 2 else "" for place, text in enumerate(texts)]
    axes.set_xticks(places, texts, rotation=40, ha="right")
    axes.legend(loc="best", fontsize=8, frameon=False)
    return svg(figure)


def calibration(bins: Sequence[CalibrationBin]) -> str:
    """Draw the share of fraud that scores foretell against the one that was seen, with its 95% interval."""
    figure, axes = _axes("score: predicted share of fraud", "observed share of fraud")
    predicted = np.array([one.expected / one.transactions for one in bins])
    observed = np.array([one.frauds / one.transactions for one in bins])
    least, most = (np.array([getattr(one, end) for one in bins]) for end in ("least", "most"))
    errors = np.maximum(np.array([observed - least, most - observed]), 0)
    axes.errorbar(predicted, observed, errors, color=MODEL, fmt="o", markersize=4, capsize=2)
    shown = [*predicted[predicted > 0], *least[least > 0]]
    floor = max(min(shown, default=_SMALLEST_SHARE) / 2, _SMALLEST_SHARE)
    axes.plot([floor, 1], [floor, 1], color=INK, linewidth=1, linestyle=":")
    axes.set(xscale="log", yscale="log", xlim=(floor, 1.3), ylim=(floor, 1.3))
    return svg(figure)


def _bin_texts(drift: Drift) -> list[str]:
    """Return what is written below each bin: the upper edge of a number, the place of a category."""
    edges = [f"{edge:.3g}" for edge in drift.edges]
    if drift.categorical:
        texts = [f"{place + 1}." for place in range(len(edges))] + ["rarer"]
    else:
        texts = [f"<{edge}" for edge in edges] + [f"\N{GREATER-THAN OR EQUAL TO}{edges[-1]}" if edges else "any"]
    return [*texts[: len(drift.shares) - 1], "missing"]


def _axes(x: str, y: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=_SIZE, layout="constrained")
    axes = figure.subplots()
    axes.set_xlabel(x, fontsize=9, color=INK)
    axes.set_ylabel(y, fontsize=9, color=INK)
    axes.tick_params(labelsize=8, colors=INK)
    axes.grid(axis="y", color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    return figure, axes
