"""The row operators of the feature language: what each is called, and what it computes.

To add one: give it a line in `ROW_OPERATORS` and a branch in `run_rows`; the language, the plan and the
oracle tests find it by its name. Every operator maps float64 registers to a float64 register, and a missing
input (NaN) to a missing output unless it says otherwise.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numba
import numpy as np

from tollgate.duration import DAY_US, HOUR_US
from tollgate.features.layout import OP_A, OP_B, OP_C, OP_CODE, OP_D, OP_OUT

EPOCH_WEEKDAY = 3  # 1970-01-01 was a Thursday; Monday is 0


class RowOperator(NamedTuple):
    """One operator: its code in a compiled program, how many arguments it takes, and what it means."""

    code: int
    arity: int
    meaning: str


EARTH_RADIUS_KM = 6371.0088  # mean radius (IUGG)

(
    ADD, SUB, MUL, DIV, NEG, ABS, LT, LE, GT, GE, EQ, NE, AND, OR, NOT, LOG1P, MINIMUM, MAXIMUM,
    IS_MISSING, FILL, HOUR_OF_DAY, DAY_OF_WEEK, SIN, COS, LOCAL_TIME, HAVERSINE,
) = range(26)  # fmt: skip

ROW_OPERATORS = {
    "add": RowOperator(ADD, 2, "a + b"),
    "sub": RowOperator(SUB, 2, "a - b"),
    "mul": RowOperator(MUL, 2, "a * b"),
    "div": RowOperator(DIV, 2, "a / b; missing where b is 0"),
    "neg": RowOperator(NEG, 1, "-a"),
    "abs": RowOperator(ABS, 1, "|a|"),
    "lt": RowOperator(LT, 2, "1 where a < b, else 0"),
    "le": RowOperator(LE, 2, "1 where a <= b, else 0"),
    "gt": RowOperator(GT, 2, "1 where a > b, else 0"),
    "ge": RowOperator(GE, 2, "1 where a >= b, else 0"),
    "eq": RowOperator(EQ, 2, "1 where a is b, else 0"),
    "ne": RowOperator(NE, 2, "1 where a is not b, else 0"),
    "and": RowOperator(AND, 2, "1 where both are not 0, else 0"),
    "or": RowOperator(OR, 2, "1 where one is not 0, else 0"),
    "not": RowOperator(NOT, 1, "1 where a is 0, else 0"),
    "log1p": RowOperator(LOG1P, 1, "ln(1 + a); missing where a <= -1"),
    "minimum": RowOperator(MINIMUM, 2, "the smaller of a and b"),
    "maximum": RowOperator(MAXIMUM, 2, "the larger of a and b"),
    "is_missing": RowOperator(IS_MISSING, 1, "1 where a is missing, else 0; never missing itself"),
    "fill": RowOperator(FILL, 2, "a, or b where a is missing"),
    "hour_of_day": RowOperator(HOUR_OF_DAY, 1, "hours since midnight of a time in microseconds"),
    "day_of_week": RowOperator(DAY_OF_WEEK, 1, "0 for Monday to 6 for Sunday of a time in microseconds"),
    "sin": RowOperator(SIN, 1, "sine of a in radians"),
    "cos": RowOperator(COS, 1, "cosine of a in radians"),
    "local_time": RowOperator(LOCAL_TIME, 1, "what a clock in a time zone shows at a UTC time, both in microseconds"),
    "haversine": RowOperator(HAVERSINE, 4, "great-circle distance in km from (a, b) to (c, d), degrees of lat and lon"),
}


@numba.njit(error_model="numpy")
def run_rows(ops, zones, regs, n):
    """Run a program of row operators over n rows, one operator at a time so that each loop is a vector loop.

    Args:
        ops: int64 (K, OP_COLUMNS): code, destination register and argument registers; the second argument of
            `local_time` is the zone.
        zones: int64 (Z, 3): zone, UTC time of a change in microseconds, offset from then on; sorted.
        regs: float64 (R, >= n), read and written.
        n: How many rows.
    """
    for k in range(ops.shape[0]):
        code, o, x, y = ops[k, OP_CODE], ops[k, OP_OUT], ops[k, OP_A], ops[k, OP_B]
        if code == ADD:
            for i in range(n):
                regs[o, i] = regs[x, i] + regs[y, i]
        elif code == SUB:
            for i in range(n):
                regs[o, i] = regs[x, i] - regs[y, i]
        elif code == MUL:
            for i in range(n):
                regs[o, i] = regs[x, i] * regs[y, i]
        elif code == DIV:
            for i in range(n):
                regs[o, i] = regs[x, i] / regs[y, i] if regs[y, i] != 0.0 else math.nan
        elif code == NEG:
            for i in range(n):
                regs[o, i] = -regs[x, i]
        elif code == ABS:
            for i in range(n):
                regs[o, i] = abs(regs[x, i])
        elif code == LOG1P:
            for i in range(n):
                regs[o, i] = math.log1p(regs[x, i]) if regs[x, i] > -1.0 else math.nan
        elif code == IS_MISSING:
            for i in range(n):
                regs[o, i] = 1.0 if math.isnan(regs[x, i]) else 0.0
        elif code == FILL:
            for i in range(n):
                regs[o, i] = regs[y, i] if math.isnan(regs[x, i]) else regs[x, i]
        elif code == HOUR_OF_DAY:
            for i in range(n):
                regs[o, i] = (regs[x, i] - np.floor(regs[x, i] / DAY_US) * DAY_US) / HOUR_US
        elif code == DAY_OF_WEEK:
            for i in range(n):
                day = np.floor(regs[x, i] / DAY_US) + EPOCH_WEEKDAY
                regs[o, i] = day - np.floor(day / 7.0) * 7.0
        elif code == SIN:
            for i in range(n):
                regs[o, i] = math.sin(regs[x, i])
        elif code == COS:
            for i in range(n):
                regs[o, i] = math.cos(regs[x, i])
        elif code == LOCAL_TIME:
            for i in range(n):
                regs[o, i] = regs[x, i] + _offset(zones, y, regs[x, i])
        elif code == HAVERSINE:
            for i in range(n):
                regs[o, i] = _haversine(regs[x, i], regs[y, i], regs[ops[k, OP_C], i], regs[ops[k, OP_D], i])
        else:
            for i in range(n):
                regs[o, i] = _compare(code, regs[x, i], regs[y, i])


@numba.njit(error_model="numpy")
def _offset(zones, zone, time_us):
    """Return the offset of a zone from UTC at a UTC time, in microseconds."""
    low, high = np.searchsorted(zones[:, 0], zone), np.searchsorted(zones[:, 0], zone + 1)
    while high - low > 1:
        middle = (low + high) // 2
        if zones[middle, 1] <= time_us:
            low = middle
        else:
            high = middle
    return zones[low, 2]


@numba.njit(error_model="numpy")
def _haversine(lat_1, lon_1, lat_2, lon_2):
    phi_1, phi_2 = math.radians(lat_1), math.radians(lat_2)
    half_phi, half_lambda = (phi_2 - phi_1) / 2.0, math.radians(lon_2 - lon_1) / 2.0
    a = math.sin(half_phi) ** 2 + math.cos(phi_1) * math.cos(phi_2) * math.sin(half_lambda) ** 2
    return 2.0 * EARTH_RADIUS_KM * math.asin(math.sqrt(1.0 if a > 1.0 else a))


@numba.njit(error_model="numpy")
def _compare(code, a, b):
    if math.isnan(a) or math.isnan(b):
        return math.nan
    if code == MINIMUM:
        return min(a, b)
    if code == MAXIMUM:
        return max(a, b)
    if code == LT:
        holds = a < b
    elif code == LE:
        holds = a <= b
    elif code == GT:
        holds = a > b
    elif code == GE:
        holds = a >= b
    elif code == EQ:
        holds = a == b
    elif code == NE:
        holds = a != b
    elif code == AND:
        holds = a != 0.0 and b != 0.0
    elif code == OR:
        holds = a != 0.0 or b != 0.0
    else:  # NOT, whose second argument is its first
        holds = a == 0.0
    return 1.0 if holds else 0.0
