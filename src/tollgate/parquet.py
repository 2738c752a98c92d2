"""Parquet written frame by frame: a file may be larger than the memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import polars as pl
from polars.io.plugins import register_io_source


def write_parquet(frames: Iterable[pl.DataFrame], schema: Mapping[str, Any], path: Path) -> None:
    """Write frames of one schema to `path`, in order. What is raised while they are made is raised here."""

    def give(
        _columns: list[str] | None, _predicate: pl.Expr | None, _rows: int | None, _size: int | None
    ) -> Iterator[pl.DataFrame]:
        yield from frames

    register_io_source(give, schema=pl.Schema(schema)).sink_parquet(path, maintain_order=True)
