"""How one value of each kind is read, and what is wrong with one that cannot be.

These are the only definitions of validity: rows of JSON and columns of files use a vectorised check and come here for
every value that it does not recognise.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from tollgate.errors import ConfigError, InputError
from tollgate.schema import Column, Kind

MAX_TEXT = 256  # characters of an id or a category
TOO_LONG = math.nextafter(10.0**MAX_TEXT, 0)  # a number is an id by its digits; a float, as JSON Schema writes it
MIN_TIME_US = -2_208_988_800_000_000  # the year 1900: a date of birth may be old
MAX_TIME_US = 7_258_118_400_000_000  # the year 2200: later is a mistaken unit
UNIT_US = {"s": 1e6, "ms": 1e3, "us": 1.0}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FLAGS = {"true": 1.0, "false": 0.0, "1": 1.0, "0": 0.0}

Decode = Callable[[Any], Any]


def missing(value: object) -> bool:
    """Whether `value` stands for no value: null, an empty text or NaN."""
    return value is None or value == "" or (isinstance(value, float) and math.isnan(value))


def text_of(value: object) -> str:
    """Return an id or a category as text, the same from JSON, CSV and Parquet: 7, 7.0 and "7" are one card.

    Raises:
        InputError: It is no text and no number, or too long.
    """
    if isinstance(value, str):
        if len(value) > MAX_TEXT:
            raise InputError("too_long", f"expected at most {MAX_TEXT} characters, but got {len(value)}")
        return value
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InputError("wrong_type", f"expected a text or a number, but got {value!r}")
    if isinstance(value, float) and not math.isfinite(value):
        raise InputError("bad_number", f"expected a finite number, but got {value!r}")
    if abs(value) >= TOO_LONG:
        raise InputError("too_long", f"expected a number of at most {MAX_TEXT} digits")
    return str(int(value)) if value == int(value) else repr(value)


def text_or_empty(value: object) -> str:
    """Return an entity's id or a category as text, empty where it is missing; `text_of` says what is wrong with one."""
    return "" if missing(value) else text_of(value)


def number_of(value: object) -> float:
    """Return a finite number, or NaN where the value is missing.

    Raises:
        InputError: It is no number, or infinite.
    """
    if missing(value):
        return math.nan
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise InputError("wrong_type", f"expected a number, but got {value!r}")
    try:
        number = float(value)
    except (ValueError, OverflowError):
        raise InputError("wrong_type", f"expected a number, but got {value!r}") from None
    if not math.isfinite(number):
        raise InputError("bad_number", f"expected a finite number, but got {value!r}")
    return number


def flag_of(value: object) -> float:
    """Return 1.0 or 0.0, or NaN where the value is missing.

    Raises:
        InputError: It is none of true, false, 1 and 0.
    """
    if missing(value):
        return math.nan
    flag = _FLAGS.get(str(value).lower().removesuffix(".0"))
    if flag is None:
        raise InputError("wrong_type", f"expected true or false, but got {value!r}")
    return flag


def time_reader(column: Column, earliest_us: int = MIN_TIME_US) -> Callable[[Any], int]:
    """Return the function that reads a timestamp of `column` as microseconds since 1970-01-01 UTC.

    Args:
        column: Its zone and unit.
        earliest_us: An earlier time is refused, as one after the year 2200 is.

    Raises:
        ConfigError: The column's zone is not known.
    """
    try:
        zone = ZoneInfo(column.zone) if column.zone else None
    except (KeyError, ValueError):
        raise ConfigError("bad_schema", f"expected an IANA time zone, but got {column.zone!r}") from None
    unit = column.unit

    def read(value: Any) -> int:
        if unit is not None:
            scaled = number_of(value) * UNIT_US[unit]
            time_us = round(scaled) if math.isfinite(scaled) else MAX_TIME_US + 1
        else:
            moment = _moment(value)
            if moment.tzinfo is None:
                if zone is None:
                    raise InputError(
                        "no_zone",
                        f"expected a time with an offset, such as 2026-01-31T12:00:00Z, but got {value!s}; send the "
                        "offset, or set the column's zone in tollgate.toml",
                    )
                moment = moment.replace(tzinfo=zone)
            since = moment - _EPOCH
            time_us = (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds
        if not earliest_us <= time_us <= MAX_TIME_US:
            first = (_EPOCH + timedelta(microseconds=earliest_us)).year
            raise InputError(
                "bad_timestamp", f"expected a time from {first} to 2200, but got {value!s}; is the unit right?"
            )
        return time_us

    return read


def _moment(value: object) -> datetime:
    if isinstance(value, datetime):
        return value
    if isinstance(value, date):
        return datetime(value.year, value.month, value.day)  # noqa: DTZ001  # the caller gives it its zone
    try:
        return datetime.fromisoformat(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        raise InputError(
            "bad_timestamp", f"expected an ISO 8601 time such as 2026-01-31T12:00:00Z, but got {value!r}"
        ) from None


def degrees_reader(limit: float) -> Decode:
    """Return the function that reads a latitude or longitude between -limit and limit degrees."""

    def read(value: Any) -> float:
        degrees = number_of(value)
        if abs(degrees) > limit:
            raise InputError("bad_location", f"expected degrees from -{limit:.0f} to {limit:.0f}, but got {value!r}")
        return degrees

    return read


def value_readers(name: str, column: Column) -> dict[str, tuple[str, Decode]]:
    """Return, for each value of a column, its name and the field and function to read it with.

    A category is read as its text, everything else as a float. Money is not among them: it needs the currency and the
    time beside it.
    """
    match column.kind:
        case Kind.NUMBER:
            return {name: (column.source or name, number_of)}
        case Kind.FLAG:
            return {name: (column.source or name, flag_of)}
        case Kind.CATEGORY:
            return {name: (column.source or name, text_or_empty)}
        case Kind.LOCATION:
            return {
                f"{name}_lat": (column.lat, degrees_reader(90.0)),
                f"{name}_lon": (column.lon, degrees_reader(180.0)),
            }
        case Kind.TIMESTAMP:
            read = time_reader(column)
            return {
                name: (
                    column.source or name,
                    lambda value: math.nan if missing(value) else float(read(value)),
                )
            }
    return {}
