"""The 40 windowed features of the benchmark, as data: each competitor computes them from the same list."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tollgate.duration import parse_duration_us
from tollgate.features import Expr, entity, tx
from tollgate.transaction import Batch

SMALL_MINOR = 500  # what a card tester tries with, in cents
MONEY_SCALE = 100.0


class Item(NamedTuple):
    """One window aggregate.

    Attributes:
        key: The entity column.
        aggregate: `count`, `small` (count of small amounts), `sum`, `mean`, `std`, `max` or `distinct`.
        window: As in `tollgate.features`.
        other: The entity column whose values `distinct` tells apart.
    """

    key: str
    aggregate: str
    window: str
    other: str = ""

    @property
    def window_us(self) -> int:
        """The window, in microseconds."""
        return parse_duration_us(self.window)

    @property
    def feature(self) -> Expr:
        """The same for the engine."""
        known = entity(self.key)
        match self.aggregate:
            case "count":
                return known.count(over=self.window)
            case "small":
                return known.count(over=self.window, where=tx.amount < SMALL_MINOR / MONEY_SCALE)
            case "distinct":
                return known.distinct(getattr(tx, self.other), over=self.window)
        made: Expr = getattr(known, self.aggregate)(tx.amount, over=self.window)
        return made


def _items(key: str, windows: dict[str, str], other: str = "") -> list[Item]:
    return [
        Item(key, name, window, other if name == "distinct" else "")
        for name, text in windows.items()
        for window in text.split()
    ]


ITEMS = [
    *_items(
        "card_id",
        {"count": "1m 10m 1h 1d 7d 30d", "sum": "1h 1d 7d", "mean": "30d", "std": "30d", "max": "7d", "distinct": "7d"},
        "merchant_id",
    ),
    *_items(
        "merchant_id", {"count": "10m 1h 1d", "small": "1h", "sum": "1h 1d", "mean": "7d", "std": "30d", "max": "1d"}
    ),
    *_items(
        "device_id",
        {"count": "1m 10m 1h 1d 7d", "sum": "1d", "mean": "30d", "std": "7d", "max": "30d", "distinct": "1d"},
        "card_id",
    ),
    *_items("ip", {"count": "10m 1h 1d 30d", "sum": "1h 1d", "mean": "7d", "max": "30d"}),
]
_HANDBOOK_NAMES = {"merchant_id": "terminal_id"}
HANDBOOK_ITEMS = [  # the same for cards and terminals: that data knows neither devices nor addresses
    item._replace(key=_HANDBOOK_NAMES.get(item.key, item.key), other=_HANDBOOK_NAMES.get(item.other, item.other))
    for item in ITEMS
    if item.key in ("card_id", "merchant_id")
]


class History(NamedTuple):
    """The transactions that have an entity, sorted by time, as a competitor gets them: int64 (N,) each."""

    time_us: NDArray[np.int64]
    key: NDArray[np.int64]
    minor: NDArray[np.int64]
    other: NDArray[np.int64]


def history(batch: Batch, key: str, items: list[Item]) -> History:
    """Return the events of one kind of entity; a missing one is left out, which spares a competitor the work."""
    there = batch.key(key) != 0
    others = [item.other for item in items if item.other]
    other = batch.key(others[0]) if others else np.zeros(len(batch), dtype=np.uint64)
    columns = (
        batch.time_us,
        batch.key(key).view(np.int64),
        batch.value("amount").astype(np.int64),
        other.view(np.int64),
    )
    return History(*(np.ascontiguousarray(column[there]) for column in columns))
