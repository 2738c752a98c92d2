"""Durations as people write them (`90s`, `10m`, `1h`, `7d`), in whole microseconds."""

from __future__ import annotations

import re

from tollgate.errors import ConfigError

SECOND_US = 1_000_000
MINUTE_US = 60 * SECOND_US
HOUR_US = 60 * MINUTE_US
DAY_US = 24 * HOUR_US

_UNITS_US = {"s": SECOND_US, "m": MINUTE_US, "h": HOUR_US, "d": DAY_US, "w": 7 * DAY_US}
_PATTERN = re.compile(r"([0-9]+)([smhdw])")


def parse_duration_us(text: str) -> int:
    """Return the microseconds in `text`, such as `"10m"`.

    Raises:
        ConfigError: `text` is not a whole number and one of the units s, m, h, d, w.
    """
    match = _PATTERN.fullmatch(text)
    if match is None:
        raise ConfigError(
            "bad_duration",
            f"expected a duration such as '30s', '10m', '1h' or '7d', but got {text!r}",
        )
    return int(match[1]) * _UNITS_US[match[2]]


def format_duration(duration_us: int) -> str:
    """Return the shortest text that `parse_duration_us` reads back as `duration_us`."""
    if duration_us == 7 * DAY_US:
        return "7d"  # what risk teams write; '1w' is read too
    for unit in ("d", "h", "m", "s"):
        if duration_us % _UNITS_US[unit] == 0:
            return f"{duration_us // _UNITS_US[unit]}{unit}"
    raise ConfigError("bad_duration", f"{duration_us} microseconds is not a whole number of seconds")
