"""The window aggregates: what each one sums, and how the feature is read from the sums.

To add one: give it a line in `AGGREGATES`. An aggregate asks for running sums over the window's events and
returns the row expression that turns them into its value, so it needs no code in the kernel.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from tollgate.features.declaration import Expr


class Window(NamedTuple):
    """What an aggregate is made from.

    Attributes:
        sum_of: Returns the running sum of an expression over the window's events, leaving out missing values.
        count_of: Returns how many events have a value; with None, how many events there are.
        value: What is aggregated; None for `count`.
        scale: What the stored value is divided by when it is read: money is summed in whole minor units.
    """

    sum_of: Callable[[Expr], Expr]
    count_of: Callable[[Expr | None], Expr]
    value: Expr | None
    scale: float


def _count(window: Window) -> Expr:
    return window.count_of(window.value)


def _sum(window: Window) -> Expr:
    assert window.value is not None
    total = window.sum_of(window.value)
    return total if window.scale == 1.0 else total / window.scale


def _mean(window: Window) -> Expr:
    return _sum(window) / window.count_of(window.value)


AGGREGATES: dict[str, Callable[[Window], Expr]] = {"count": _count, "sum": _sum, "mean": _mean}
