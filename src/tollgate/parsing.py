"""Compiled reading of many values at once: ISO 8601 times, and amounts of money.

It reads the forms that nearly all values have, and says of every other that it did not: `codec` and `Money` decide
about those. What it reads, it reads to the same bits as they do.
"""

from __future__ import annotations

import math

import numba
import numpy as np
from numpy.typing import NDArray

from tollgate.codec import MAX_TIME_US
from tollgate.hashing import Packed
from tollgate.money import DECIMAL_NOISE, MAX_AMOUNT_MINOR

UNREAD = int(np.iinfo(np.int64).min)  # a time that was not recognised

_SECOND_US = 1_000_000
_DAY_S = 86_400
_DATE_TIME = 19  # characters of YYYY-MM-DDTHH:MM:SS
_FRACTION_DIGITS = 6
_OFFSET = 6  # characters of +HH:MM
_DIGIT_0, _COLON, _DASH, _DOT, _PLUS, _SPACE, _T, _Z = (ord(c) for c in "0:-.+ TZ")

_LONGEST_MONTH = np.array([31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31], dtype=np.int64)
_FEBRUARY = 2


def read_times(packed: Packed, first: int, earliest_us: int, out: NDArray[np.int64]) -> None:
    """Write packed texts, from number `first` on, as microseconds since 1970-01-01 UTC into `out`, int64 (n,).

    Written is UNREAD where the text is not `YYYY-MM-DDTHH:MM:SS[.ffffff]` with `Z` or an offset, or is a time before
    `earliest_us` or after the year 2200.
    """
    # What another module defines is an argument: the cached machine code knows only this module's source.
    _read_times(*packed, first, earliest_us, MAX_TIME_US, out)


def minor_units(amounts: NDArray[np.float64], scale: float, out: NDArray[np.float64]) -> None:
    """Write amounts of a currency with `scale` minor units as those, float64 (n,); NaN where `Money` must decide."""
    _minor_units(amounts, scale, float(MAX_AMOUNT_MINOR), DECIMAL_NOISE, out)


@numba.njit(cache=True, error_model="numpy")
def _minor_units(
    amounts: NDArray[np.float64], scale: float, most: float, noise: float, out: NDArray[np.float64]
) -> None:
    for i in range(amounts.shape[0]):
        amount = amounts[i]
        out[i] = math.nan
        if 0 <= amount * scale <= most:
            minor = np.rint(amount * scale) + 0.0  # not -0
            if abs(amount - minor / scale) <= noise * max(1.0, amount):
                out[i] = minor


@numba.njit(error_model="numpy", inline="always")
def _digits(data: NDArray[np.uint8], at: int, count: int) -> int:
    """Return the number that is written there, or a negative one."""
    number = 0
    for i in range(at, at + count):
        digit = int(data[i]) - _DIGIT_0
        if digit < 0 or digit > 9:
            return -1
        number = number * 10 + digit
    return number


@numba.njit(error_model="numpy", inline="always")
def _days(year: int, month: int, day: int) -> int:
    """Return days since 1970-01-01: the year begins in March, so that the day that varies is its last."""
    shifted = year - (1 if month <= _FEBRUARY else 0)
    of_year = (153 * ((month + 9) % 12) + 2) // 5 + day - 1
    return shifted * 365 + shifted // 4 - shifted // 100 + shifted // 400 + of_year - 719_468


@numba.njit(error_model="numpy")
def _date(data: NDArray[np.uint8], at: int) -> int:
    """Return the days of YYYY-MM-DD, or UNREAD."""
    year, month, day = _digits(data, at, 4), _digits(data, at + 5, 2), _digits(data, at + 8, 2)
    if data[at + 4] != _DASH or data[at + 7] != _DASH or year < 1 or month < 1 or month > 12 or day < 1:
        return UNREAD
    leap = year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
    if day > _LONGEST_MONTH[month - 1] or (month == _FEBRUARY and day == _LONGEST_MONTH[1] and not leap):
        return UNREAD
    return _days(year, month, day)


@numba.njit(error_model="numpy")
def _clock(data: NDArray[np.uint8], at: int) -> int:
    """Return the minutes of HH:MM, or a negative number."""
    hour, minute = _digits(data, at, 2), _digits(data, at + 3, 2)
    if data[at + 2] != _COLON or hour < 0 or hour > 23 or minute < 0 or minute > 59:
        return -1
    return hour * 60 + minute


@numba.njit(error_model="numpy")
def _offset(data: NDArray[np.uint8], at: int, end: int) -> int:
    """Return the minutes of `Z` or ±HH:MM, or UNREAD."""
    if end - at == 1 and data[at] == _Z:
        return 0
    if end - at != _OFFSET or (data[at] != _PLUS and data[at] != _DASH):
        return UNREAD
    minutes = _clock(data, at + 1)
    if minutes < 0:
        return UNREAD
    return -minutes if data[at] == _DASH else minutes


@numba.njit(error_model="numpy")
def _time(data: NDArray[np.uint8], start: int, end: int) -> int:
    """Return the microseconds of one text, or UNREAD."""
    if end - start <= _DATE_TIME or (data[start + 10] != _T and data[start + 10] != _SPACE):
        return UNREAD
    days, minutes, seconds = _date(data, start), _clock(data, start + 11), _digits(data, start + 17, 2)
    if days == UNREAD or minutes < 0 or data[start + 16] != _COLON or seconds < 0 or seconds > 59:
        return UNREAD
    at = start + _DATE_TIME
    micros = 0
    if data[at] == _DOT:
        at += 1
        digits = 0
        while at + digits < end and digits < _FRACTION_DIGITS and _digits(data, at + digits, 1) >= 0:
            digits += 1
        if digits == 0:
            return UNREAD
        micros = _digits(data, at, digits) * 10 ** (_FRACTION_DIGITS - digits)
        at += digits
    offset = _offset(data, at, end)
    if offset == UNREAD:
        return UNREAD
    return (days * _DAY_S + (minutes - offset) * 60 + seconds) * _SECOND_US + micros


@numba.njit(cache=True, error_model="numpy")
def _read_times(
    data: NDArray[np.uint8],
    ends: NDArray[np.int64],
    first: int,
    earliest_us: int,
    latest_us: int,
    out: NDArray[np.int64],
) -> None:
    start = ends[first - 1] + 1 if first else 0
    for i in range(out.shape[0]):
        end = ends[first + i]
        time_us = _time(data, start, end)
        out[i] = time_us if earliest_us <= time_us <= latest_us else UNREAD
        start = end + 1
