"""When the clocks of a time zone change, as a table that the kernel can search."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from tollgate.errors import ConfigError

_FIRST_YEAR, _LAST_YEAR = 1970, 2100  # later, the last known rule goes on
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def zone_table(names: Sequence[str]) -> NDArray[np.int64]:
    """Return int64 (Z, 3), sorted: zone, UTC time of a change in microseconds, offset from then on.

    Raises:
        ConfigError: A name is no IANA time zone.
    """
    rows = [(number, *change) for number, name in enumerate(names) for change in _changes(name)]
    return np.asarray(rows, dtype=np.int64).reshape(-1, 3)


def _changes(name: str) -> list[tuple[int, int]]:
    try:
        zone = ZoneInfo(name)
    except (KeyError, ValueError):
        raise ConfigError(
            "bad_feature", f"expected an IANA time zone such as 'Europe/Berlin', but got {name!r}"
        ) from None
    start = datetime(_FIRST_YEAR, 1, 1, tzinfo=UTC)
    changes = [(0, _offset_us(start, zone))]
    day, end = start, datetime(_LAST_YEAR, 1, 1, tzinfo=UTC)
    while day < end:
        later = day + timedelta(days=1)
        if _offset_us(later, zone) != changes[-1][1]:
            moment = _find(day, later, zone)
            changes.append(((moment - _EPOCH) // _MICROSECOND, _offset_us(moment, zone)))
        day = later
    return changes


def _find(low: datetime, high: datetime, zone: ZoneInfo) -> datetime:
    """Return the first whole minute between two times at which the offset is that of the later one."""
    target = _offset_us(high, zone)
    while high - low > timedelta(minutes=1):
        middle = low + timedelta(minutes=(high - low) // timedelta(minutes=2))
        low, high = (low, middle) if _offset_us(middle, zone) == target else (middle, high)
    return high


def _offset_us(moment: datetime, zone: ZoneInfo) -> int:
    offset = moment.astimezone(zone).utcoffset()
    assert offset is not None
    return offset // _MICROSECOND
