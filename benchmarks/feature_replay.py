"""Competitors over columns: Polars rolling, DuckDB RANGE windows, pandas rolling.

All three count the transaction itself, and others of the same microsecond, where the engine leaves out what comes
later; the work is the same. Each gets whole numbers for keys and amounts, sorted by time.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable

import polars as pl

from benchmarks.feature_list import SMALL_MINOR, History, Item

Replay = Callable[[History, list[Item]], None]


def _by_window(items: list[Item]) -> dict[int, list[Item]]:
    return {us: [item for item in items if item.window_us == us] for us in sorted({item.window_us for item in items})}


def polars(events: History, items: list[Item]) -> None:
    """Compute the features of one kind of entity with `DataFrame.rolling`, each window once for all its aggregates."""
    frame = pl.DataFrame(events._asdict()).with_columns(small=pl.col("minor") < SMALL_MINOR)
    make = {
        "count": pl.len(), "small": pl.col("small").sum(), "sum": pl.col("minor").sum(), "mean": pl.col("minor").mean(),
        "std": pl.col("minor").std(), "max": pl.col("minor").max(), "distinct": pl.col("other").n_unique(),
    }  # fmt: skip
    for window_us, same in _by_window(items).items():
        frame.rolling("time_us", period=f"{window_us}i", group_by="key", closed="right").agg(
            **{item.aggregate: make[item.aggregate] for item in same}
        )


def duckdb(events: History, items: list[Item]) -> None:
    """Compute them with SQL, one query a kind of entity, into a table in memory."""
    import duckdb as engine  # noqa: PLC0415  # a peer need not be installed

    make = {
        "count": "count(*)", "small": f"count(*) FILTER (minor < {SMALL_MINOR})", "sum": "sum(minor)",
        "mean": "avg(minor)", "std": "stddev_samp(minor)", "max": "max(minor)", "distinct": "count(DISTINCT other)",
    }  # fmt: skip
    chosen = ", ".join(f"{make[item.aggregate]} OVER w{item.window_us}" for item in items)
    windows = ", ".join(
        f"w{us} AS (PARTITION BY key ORDER BY time_us RANGE BETWEEN {us - 1} PRECEDING AND CURRENT ROW)"
        for us in _by_window(items)
    )
    columns = events._asdict()
    with engine.connect(config={"threads": 1}) as connection:
        connection.register("events", columns)
        connection.execute(f"CREATE TABLE features AS SELECT {chosen} FROM events WINDOW {windows}")


def pandas(events: History, items: list[Item]) -> None:
    """Compute them with `groupby.rolling`; pandas has no rolling distinct count, so those are spared to it."""
    import pandas as pd  # noqa: PLC0415

    frame = pd.DataFrame(events._asdict())
    frame["time"] = pd.to_datetime(frame.pop("time_us"), unit="us")
    frame["small"] = (frame["minor"] < SMALL_MINOR).astype(float)
    for window_us, same in _by_window([item for item in items if item.aggregate != "distinct"]).items():
        rolling = frame.groupby("key").rolling(pd.Timedelta(window_us, unit="us"), on="time", closed="right")
        for item in same:
            name = {"count": "count", "small": "sum"}.get(item.aggregate, item.aggregate)
            getattr(rolling["small" if item.aggregate == "small" else "minor"], name)()


PEERS: dict[str, Replay] = {"polars": polars, "duckdb": duckdb, "pandas": pandas}


def installed(name: str) -> bool:
    """Whether a competitor can be imported."""
    return importlib.util.find_spec(name) is not None
