"""Features of a history in files, by one engine or by Spark on many machines: the same bits."""

from tollgate.backfill.job import Job, Outcome
from tollgate.backfill.single import run_single

__all__ = ["Job", "Outcome", "run_single"]
