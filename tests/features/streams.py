"""Random streams of transactions: ties, late events, missing values, few entities so that histories overlap."""

import math

import numpy as np
from hypothesis import strategies as st

from tollgate.hashing import category_code
from tollgate.schema import Column, Kind, Schema
from tollgate.transaction import Batch

SCHEMA = Schema(
    {
        "transaction_id": Column(Kind.ID),
        "effective_time": Column(Kind.TIMESTAMP),
        "amount": Column(Kind.MONEY, currency="EUR"),
        "card_id": Column(Kind.ENTITY),
        "device_id": Column(Kind.ENTITY),
        "weight": Column(Kind.NUMBER),
        "channel": Column(Kind.CATEGORY),
        "present": Column(Kind.FLAG),
        "location": Column(Kind.LOCATION),
    }
)
START_US = 1_767_225_600_000_000  # 2026-01-01

_STEPS_US = st.sampled_from([0, 0, 1, 999_999, 1_000_000, 30_000_000, 60_000_000, 3_600_000_000, 86_400_000_000])
_LATENESS_US = st.sampled_from([0, 0, 0, 1, 45_000_000, 7_200_000_000])

ROWS = st.lists(
    st.fixed_dictionaries({
        "step": _STEPS_US,
        "late": _LATENESS_US,
        "card_id": st.sampled_from([0, 1, 2, 3]),
        "device_id": st.sampled_from([0, 7, 8]),
        "amount": st.one_of(st.just(math.nan), st.integers(0, 10**9).map(float)),
        "weight": st.one_of(st.just(math.nan), st.floats(-1e6, 1e6, width=32)),
        "channel": st.sampled_from([math.nan, category_code("pos"), category_code("ecom")]),
        "present": st.sampled_from([0.0, 1.0, math.nan]),
        "location_lat": st.sampled_from([math.nan, 0.0, 52.5, -33.9]),
        "location_lon": st.sampled_from([math.nan, 0.0, 13.4, 151.2]),
        "label_after": st.sampled_from([None, None, 0, 60_000_000, 86_400_000_000]),
    }),
    min_size=1,
    max_size=60,
)  # fmt: skip


def timed(rows):
    """Give the drawn rows their effective times."""
    clock = START_US
    out = []
    for row in rows:
        clock += row["step"]
        out.append({**row, "effective_time": clock - row["late"]})
    return out


def batch_of(rows) -> Batch:
    """Return timed rows as a batch of SCHEMA."""
    return Batch(
        SCHEMA,
        [f"t{i}" for i in range(len(rows))],
        np.array([row["effective_time"] for row in rows], dtype=np.int64),
        np.array([[row[name] for row in rows] for name in SCHEMA.entities], dtype=np.uint64),
        np.array([[float(row[name]) for row in rows] for name in SCHEMA.values]),
    )
