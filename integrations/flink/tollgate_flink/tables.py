"""Static tables that records are completed from: read once, and sent along with the job.

A table that every task reads for itself, or that comes as a stream of its own, may not be the same for two tasks, or
before and after a restart, and what is replayed would come out differently.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl

from tollgate.codec import missing, text_of
from tollgate.errors import ConfigError, InputError
from tollgate_flink.settings import FieldRule, TableSettings

MAX_TABLE_ROWS = 200_000  # of each: it is part of the job, and every task holds it


def read_tables(
    tables: Mapping[str, TableSettings], rules: Mapping[str, FieldRule], folder: Path
) -> dict[str, dict[str, dict[str, Any]]]:
    """Return the rows of all tables by their key, as text: of each row the columns that a rule takes.

    Args:
        tables: By name.
        rules: Of the fields.
        folder: Where the files are looked for.

    Raises:
        ConfigError: A file cannot be read, lacks a column, is too long, or a key comes twice.
    """
    return {name: _rows(name, folder / one.file, one.key, _taken(name, rules)) for name, one in tables.items()}


def _taken(table: str, rules: Mapping[str, FieldRule]) -> list[str]:
    return sorted({rule.column for rule in rules.values() if rule.table == table and rule.column is not None})


def _rows(table: str, path: Path, key: str, taken: list[str]) -> dict[str, dict[str, Any]]:
    frame = _read(table, path)
    lacking = [column for column in (key, *taken) if column not in frame.columns]
    if lacking:
        raise ConfigError("bad_table", f"[tables.{table}] {path} has no {', '.join(lacking)}", file=str(path))
    rows: dict[str, dict[str, Any]] = {}
    for row in frame.select(list(dict.fromkeys((key, *taken)))).iter_rows(named=True):
        if missing(row[key]):
            continue
        try:
            text = text_of(row[key])
        except InputError as error:
            raise ConfigError("bad_table", f"[tables.{table}] {path}: {key}: {error.message}", file=str(path)) from None
        if text in rows:
            raise ConfigError(
                "bad_table", f"[tables.{table}] {path}: expected each {key} once, but {text!r} came twice"
            )
        rows[text] = {column: row[column] for column in taken}
    return rows


def _read(table: str, path: Path) -> pl.DataFrame:
    readers = {
        ".csv": lambda: pl.scan_csv(path, infer_schema=False), ".parquet": lambda: pl.scan_parquet(path),
        ".jsonl": lambda: pl.scan_ndjson(path, infer_schema_length=None),
    }  # fmt: skip
    if path.suffix not in readers:
        raise ConfigError("bad_table", f"[tables.{table}] expected {', '.join(readers)}, but got {path.name}")
    try:
        frame = readers[path.suffix]().head(MAX_TABLE_ROWS + 1).collect()
    except (pl.exceptions.PolarsError, OSError) as error:
        raise ConfigError("bad_table", f"[tables.{table}] could not read {path}: {error}", file=str(path)) from None
    if len(frame) > MAX_TABLE_ROWS:
        raise ConfigError(
            "bad_table",
            f"[tables.{table}] expected at most {MAX_TABLE_ROWS} rows in {path}, for it goes along with the job; join "
            "larger ones before this job",
            file=str(path),
        )
    return frame
