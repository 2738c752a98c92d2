"""The year as a picture."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from tollgate.plots import BASELINE, GRID, INK, MODEL, svg

_SIZE = (6.4, 3.2)  # inches
_COLOURS = (BASELINE, MODEL)
_ROOM = 1.15  # above the highest point


def by_month(months: Sequence[str], lines: Mapping[str, Sequence[float]], what: str) -> str:
    """Return an SVG: a share, from 0 up, for each of N months (such as 2025-01) and each name."""
    figure = Figure(figsize=_SIZE, layout="constrained")
    axes = figure.subplots()
    places = range(len(months))
    for (name, values), colour in zip(lines.items(), _COLOURS, strict=False):
        axes.plot(places, values, color=colour, marker="o", markersize=4, label=f"retrained {name}")
    axes.set_xticks(places, [dt.date.fromisoformat(f"{month}-01").strftime("%b") for month in months])
    axes.set_ylim(0, _ROOM * max(max(values) for values in lines.values()))
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    axes.set_ylabel(what, fontsize=9, color=INK)
    axes.tick_params(labelsize=8, colors=INK)
    axes.grid(axis="y", color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.legend(loc="lower left", fontsize=8, frameon=False)
    return svg(figure)
