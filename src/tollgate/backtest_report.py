"""A back-test week by week, as a page. Needs the extra `train`."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from tollgate import charts
from tollgate.page import Page, Picture, Section, Table, render
from tollgate.prequential import Figures, Weeks

_DASH = "\N{EN DASH}"


def backtest_report(
    found: Weeks,
    decided_by: str,
    currency: str,
    headings: Sequence[str],
    cells: Callable[[Figures], Sequence[str]],
    said: Sequence[str],
) -> str:
    """Return the report as HTML.

    Args:
        found: The weeks.
        decided_by: What decided, such as a bundle.
        currency: Of the amounts.
        headings: Of the table, that of the weeks first.
        cells: Gives the other cells of a row.
        said: Sentences on the figures.
    """
    figures = found.unseen or found.total
    weeks = found.weeks
    rows = [(_day(one.start_us) + (" *" if one.trained else ""), *cells(one.figures)) for one in weeks]
    rows.append(("all", *cells(found.total)))
    if found.unseen is not None:
        rows.append(("not trained on", *cells(found.unseen)))
    caught = _share(figures.recall), _share(figures.value_detection_rate)
    lead = (
        f"{caught[0]} of the frauds and {caught[1]} of their money would have been held or blocked, with "
        f"{figures.reviews_per_day:,.1f} reviews a day and {_share(figures.false_positive_rate, 2)} of the good "
        "payments disturbed."
    )
    tiles = [
        (f"{figures.transactions:,}", "payments" + (" not trained on" if found.unseen else "")),
        (f"{figures.frauds:,}", "frauds whose label had come"),
        (f"{figures.blocked_good:,}", "good payments blocked"),
        (_share(figures.precision), "of what is held or blocked is fraud"),
        (f"{figures.saved:,.0f}", f"{currency} saved against letting all through"),
    ]
    return render(
        Page(
            title="Back-test",
            about=f"{decided_by[:1].upper()}{decided_by[1:]}: {len(weeks)} weeks, {_day(weeks[0].start_us)} to "
            f"{_day(found.end_us)}. Each payment was decided with what was known before it.",
            lead=[lead],
            tiles=tiles,
            sections=[
                Section("In pictures", pictures=_pictures(found, currency)),
                Section("Week by week", Table(headings, rows, note=" ".join(f"{one}." for one in said))),
            ],
        )
    )


def _pictures(found: Weeks, currency: str) -> list[Picture]:
    labels = [_day(one.start_us)[5:] for one in found.weeks]
    figures = [one.figures for one in found.weeks]
    caught = {
        "blocked": [one.blocked_frauds for one in figures],
        "missed": [one.frauds - one.caught for one in figures],
        "under review": [one.caught - one.blocked_frauds for one in figures],
    }
    rates = {
        "frauds": [_or_nan(one.recall) for one in figures],
        "their money": [_or_nan(one.value_detection_rate) for one in figures],
    }
    return [
        Picture("Frauds", "What would have become of them, by week.", charts.stacked(labels, caught, "frauds")),
        Picture("Share held or blocked", "By week.", charts.line(labels, rates, "share")),
        Picture(
            "Work",
            "Payments to review, a day.",
            charts.stacked(labels, {"reviews a day": [one.reviews_per_day for one in figures]}, "payments"),
        ),
        Picture(
            "Money",
            "What the decisions are worth against letting every payment through, reviews and wrong blocks paid.",
            charts.line(labels, {"saved": [one.saved for one in figures]}, currency),
        ),
    ]


def _or_nan(value: float | None) -> float:
    return float("nan") if value is None else value


def _share(value: float | None, digits: int = 1) -> str:
    return _DASH if value is None else f"{100 * value:.{digits}f}%"


def _day(moment_us: int) -> str:
    return str(np.datetime64(moment_us, "us"))[:10]
