"""The window aggregates: what each one keeps, and how the feature is read from it.

To add one: give it a line in `AGGREGATES`, and a method of `Entity`. An aggregate asks for what the kernel keeps of a
window's events (running sums, extrema, distinct values) and returns the expression that turns it into its value.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

from tollgate.errors import ConfigError
from tollgate.features.declaration import Expr


class Keep(Protocol):
    """What the kernel can keep of the events of one window; a missing value is left out of all of it."""

    def count(self, value: Expr | None) -> Expr:
        """How many events have the value; with None, how many events there are."""

    def sum(self, value: Expr) -> Expr:
        """The sum of the value."""

    def std(self, value: Expr) -> Expr:
        """The sample standard deviation of the value, missing below two values."""

    def extremum(self, value: Expr, sign: int) -> Expr:
        """The largest value (sign 1) or the smallest (sign -1), missing where there is none."""

    def distinct(self, value: Expr) -> Expr:
        """How many different values there are."""


class Window(NamedTuple):
    """A window to aggregate over.

    Attributes:
        keep: What can be kept.
        value: What is aggregated; None for `count`.
        scale: What a stored value is divided by when it is read: money is kept in whole minor units.
        delayed: Whether events enter the window only after a delay.
    """

    keep: Keep
    value: Expr | None
    scale: float
    delayed: bool

    def of(self) -> Expr:
        """Return what is aggregated."""
        assert self.value is not None
        return self.value

    def scaled(self, expr: Expr) -> Expr:
        """Return a value of the window in the units that the user sees."""
        return expr if self.scale == 1.0 else expr / self.scale


def _mean(window: Window) -> Expr:
    return window.scaled(window.keep.sum(window.of())) / window.keep.count(window.value)


def _current(window: Window, expr: Callable[[], Expr]) -> Expr:
    if window.delayed:
        raise ConfigError("bad_feature", "only count, sum, mean and std can look at a window with a delay")
    return expr()


AGGREGATES: dict[str, Callable[[Window], Expr]] = {
    "count": lambda w: w.keep.count(w.value),
    "sum": lambda w: w.scaled(w.keep.sum(w.of())),
    "mean": _mean,
    "std": lambda w: w.scaled(w.keep.std(w.of())),
    "min": lambda w: w.scaled(_current(w, lambda: w.keep.extremum(w.of(), -1))),
    "max": lambda w: w.scaled(_current(w, lambda: w.keep.extremum(w.of(), 1))),
    "distinct": lambda w: _current(w, lambda: w.keep.distinct(w.of())),
}
