"""The values of features over a sample, good payments beside frauds: figures, and a page of plots.

Needs the extra `train`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from rich.table import Table

from tollgate.distribution import draw_category, draw_number
from tollgate.errors import InputError
from tollgate.features import NOT_FRAUD, Arrivals, FeatureEngine, FeaturePlan
from tollgate.features.prose import in_words
from tollgate.files import Rejected, Transactions
from tollgate.templates import embedded, environment

TEMPLATE = "preview.html"
NOTHING = "\N{EN DASH}"


@dataclass(frozen=True, slots=True)
class Sample:
    """N labelled transactions and their features.

    Attributes:
        values: float64 (N, F); NaN is missing.
        is_fraud: bool (N,).
        names: The F names.
        categorical: Which of the F are categories.
        texts: Of category codes.
        time_us: Effective times, int64 (N,).
    """

    values: NDArray[np.float64]
    is_fraud: NDArray[np.bool_]
    names: tuple[str, ...]
    categorical: tuple[bool, ...]
    texts: dict[float, str]
    time_us: NDArray[np.int64]


class Figures(NamedTuple):
    """One feature over the rows of one label.

    Attributes:
        rows: How many there are.
        missing: On how many of them it is missing.
        low: The smallest value; NaN where there is none, or of a category.
        middle: The median, or of a category the most frequent code.
        high: The largest value.
    """

    rows: int
    missing: int
    low: float
    middle: float
    high: float


def take_sample(
    file: Transactions, plan: FeaturePlan, rows: int, progress: Callable[[int], None] = lambda _rows: None
) -> tuple[Sample, list[Rejected]]:
    """Return the features of the first `rows` usable rows of a labelled file, and what was rejected on the way.

    Raises:
        InputError: No row could be used.
    """
    arrivals = Arrivals(FeatureEngine(plan))
    values, fraud, times = [], [], []
    rejected: list[Rejected] = []
    left = rows
    for chunk in file.chunks():
        assert chunk.is_fraud is not None
        assert chunk.available_us is not None
        batch, is_fraud = chunk.batch.take(slice(0, left)), chunk.is_fraud[:left]
        values.append(arrivals.observe(batch, np.where(is_fraud, chunk.available_us[:left], NOT_FRAUD)))
        fraud.append(is_fraud)
        times.append(batch.time_us)
        last = chunk.rows[left - 1] if len(chunk.rows) > left else math.inf
        rejected += [one for one in chunk.rejected if one.row < last]
        progress(len(batch))
        left -= len(batch)
        if left <= 0:
            break
    if left == rows:
        why = f"; the first: row {rejected[0].row}: {rejected[0].error.message}" if rejected else ""
        raise InputError("no_rows", f"no row of {file.path} could be used{why}", file=str(file.path))
    sample = Sample(
        np.concatenate(values), np.concatenate(fraud), plan.names, plan.categorical, file.category_texts(),
        np.concatenate(times),
    )  # fmt: skip
    return sample, rejected


def figures_of(column: NDArray[np.float64], *, categorical: bool) -> Figures:
    """Return the figures of one feature over N rows, float64 (N,)."""
    present = column[~np.isnan(column)]
    missing = column.size - present.size
    if not present.size:
        return Figures(column.size, missing, math.nan, math.nan, math.nan)
    if categorical:
        codes, counts = np.unique(present, return_counts=True)
        return Figures(column.size, missing, math.nan, float(codes[counts.argmax()]), math.nan)
    return Figures(column.size, missing, float(present.min()), float(np.median(present)), float(present.max()))


def table_of(sample: Sample) -> Table:
    """Return missing, smallest, median and largest value of each feature, good payments beside frauds."""
    frauds = int(sample.is_fraud.sum())
    good = len(sample.is_fraud) - frauds
    table = Table(title=f"{good:,} good payments and {frauds:,} frauds, each cell 'good / fraud'", title_justify="left")
    table.add_column("feature", overflow="fold")
    for heading in ("missing", "min", "median or mode", "max"):
        table.add_column(heading, justify="right", overflow="fold")
    for name, pair in _by_label(sample):
        table.add_row(name, *(" / ".join(texts) for texts in zip(*(_cells(one, sample) for one in pair), strict=True)))
    return table


def _by_label(sample: Sample) -> list[tuple[str, tuple[Figures, Figures]]]:
    return [
        (
            name,
            (
                figures_of(sample.values[~sample.is_fraud, place], categorical=sample.categorical[place]),
                figures_of(sample.values[sample.is_fraud, place], categorical=sample.categorical[place]),
            ),
        )
        for place, name in enumerate(sample.names)
    ]


def _cells(one: Figures, sample: Sample) -> tuple[str, str, str, str]:
    middle = sample.texts.get(one.middle) or number(one.middle)
    return f"{one.missing:,}", number(one.low), middle, number(one.high)


def number(value: float) -> str:
    """Return a number with as many digits as one reads."""
    if math.isnan(value):
        return NOTHING
    return f"{value:,.0f}" if abs(value) >= 1000 or value == round(value) else f"{value:.4g}"


def render_preview(
    sample: Sample, plan: FeaturePlan, title: str, progress: Callable[[int], None] = lambda _features: None
) -> str:
    """Return a page with the figures and a plot of each feature, as HTML that needs no other file or host.

    Args:
        sample: What to show.
        plan: The features, in the order of the sample's.
        title: What the sample is of.
        progress: Told how many features were drawn since the last call.
    """
    cards = []
    for place, (name, pair) in enumerate(_by_label(sample)):
        column, is_fraud = sample.values[:, place], sample.is_fraud
        good, fraud = column[~is_fraud & ~np.isnan(column)], column[is_fraud & ~np.isnan(column)]
        svg = draw_category(good, fraud, sample.texts) if sample.categorical[place] else draw_number(good, fraud)
        cards.append(
            {
                "name": name,
                "categorical": sample.categorical[place],
                "words": in_words(plan.features[place]),
                "rows": [(label, one, _cells(one, sample)) for label, one in zip(("good", "fraud"), pair, strict=True)],
                "image": None if svg is None else embedded(svg),
            }
        )
        progress(1)
    template = environment().get_template(TEMPLATE)
    first, last = (
        str(np.datetime64(int(moment), "us"))[:10] for moment in (sample.time_us.min(), sample.time_us.max())
    )
    frauds = int(sample.is_fraud.sum())
    return template.render(
        title=title, cards=cards, days=(first, last), frauds=frauds, good=len(sample.is_fraud) - frauds, nothing=NOTHING
    )
