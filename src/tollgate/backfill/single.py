"""A backfill by one engine in this process: the one that all others must equal."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import polars as pl

from tollgate.backfill.job import DESCRIPTION, REPEATED, Job, Outcome, known_us
from tollgate.features import Arrivals, FeatureEngine
from tollgate.files import Rejected
from tollgate.folders import Found, open_folder
from tollgate.parts import TransactionSet


def run_single(job: Job, progress: Callable[[int], None] = lambda _rows: None) -> Outcome:
    """Compute the features of all files in arrival order, and write them.

    Args:
        job: What to read and write.
        progress: Told how many rows were read since the last call.

    Raises:
        InputError: The set cannot be read, or the output cannot be written.
        CapacityError: The feature state does not fit this machine.
    """
    parts = TransactionSet(open_folder(job.data), job.reader(), job.labels, sort=job.sort)
    arrivals = Arrivals(FeatureEngine(job.plan))
    job.target().remove(DESCRIPTION)
    job.write_rejected(REPEATED, ())  # they stand in the side files of their parts here
    refused = 0

    def frames(part: Found, rejected: list[Rejected]) -> Iterator[pl.DataFrame]:
        for chunk in parts.read(part):
            features = arrivals.observe(chunk.batch, known_us(chunk))
            rejected += chunk.rejected
            progress(len(chunk.batch) + len(chunk.rejected))
            yield job.frame(chunk.batch.ids, chunk.batch.time_us, chunk.is_fraud, chunk.available_us, features)

    for part in parts.parts:
        rejected: list[Rejected] = []
        job.write(part.name, frames(part, rejected))
        job.write_rejected(part.name, rejected)
        refused += len(rejected)
    outcome = Outcome(arrivals.engine.observed, refused, arrivals.engine.late)
    job.describe(outcome)
    return outcome
