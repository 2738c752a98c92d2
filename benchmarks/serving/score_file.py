"""`tollgate score` on one core: decisions a second from a file to a file."""

from __future__ import annotations

import time
from pathlib import Path
from typing import NamedTuple

import polars as pl

from benchmarks.serving.material import Material, environment, tollgate_command
from benchmarks.serving.process import Cores, finished, pinned

_LIMIT_S = 600


class Scored(NamedTuple):
    """A file that was scored.

    Attributes:
        rows: Its payments.
        seconds: Of the whole command, the start of the interpreter included.
        start_s: Of the same for one payment.
    """

    rows: int
    seconds: float
    start_s: float

    @property
    def per_s(self) -> float:
        """Decisions a second once it has started."""
        return (self.rows - 1) / (self.seconds - self.start_s)


def score_file(material: Material, rows: int, cores: Cores) -> Scored:
    """Score the payments of the material, again and again as new ones, up to a number of rows.

    Raises:
        NotRunError: The command failed.
    """
    folder = material.folder / "runs" / "score"
    config = material.configure(folder, "mlp")
    frame = pl.read_parquet(material.payments)
    one, many = folder / "one.parquet", folder / "many.parquet"
    frame.head(1).write_parquet(one)
    _repeated(frame, rows).write_parquet(many)
    start_s = _timed(one, config, cores)
    return Scored(rows, _timed(many, config, cores), start_s)


def _repeated(frame: pl.DataFrame, rows: int) -> pl.DataFrame:
    """Return `rows` payments: those of `frame` and then again with other ids, each time after those before."""
    times = frame["effective_time"]
    span = times[-1] - times[0]
    copies = [
        frame.with_columns(
            pl.col("effective_time") + span * turn,
            (pl.lit(f"{turn}-") + pl.col("transaction_id")).alias("transaction_id"),
        )
        for turn in range(-(-rows // len(frame)))
    ]
    return pl.concat(copies).head(rows)


def _timed(data: Path, config: Path, cores: Cores) -> float:
    output = data.with_suffix(".scored.parquet")
    command = pinned(cores.server, tollgate_command("score", str(data), str(output), "--config", str(config)))
    start = time.perf_counter()
    finished(command, "'tollgate score'", _LIMIT_S, {**environment(), "POLARS_MAX_THREADS": "1"})
    return time.perf_counter() - start
