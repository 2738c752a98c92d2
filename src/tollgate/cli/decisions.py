"""Decisions on transactions of files, as columns."""

from __future__ import annotations

from collections import Counter

import msgspec
import numpy as np
import polars as pl

from tollgate.cli.wiring import OUT
from tollgate.decision import Mode, Outcome
from tollgate.features import FeatureEngine
from tollgate.judge import MODEL, Judge, Judgement
from tollgate.steps import run
from tollgate.transaction import Batch

COLUMNS = {
    "transaction_id": pl.String, "outcome": pl.String, "score": pl.Float64, "confidence": pl.Float64,
    "mode": pl.String, "reasons": pl.String, "missing": pl.String, "bundle": pl.String,
}  # fmt: skip

OUTCOMES = [outcome.value for outcome in Outcome]
_MODES = [Mode.DEGRADED.value, Mode.NORMAL.value]  # by whether there is a score
_NO_REASONS = "[]"


def decided(batch: Batch, engine: FeatureEngine, judge: Judge) -> pl.DataFrame:
    """Decide the next transactions, each with the history that the engine has, and return the decisions."""
    judgement = run(judge.judge(batch, engine.observe(batch), batch.time_us))
    return decision_frame(batch, judgement, judge.bundle)


def counts_of(decisions: pl.DataFrame) -> dict[str, int]:
    """Return how many decisions there are of each outcome."""
    return dict(decisions["outcome"].value_counts().iter_rows())


def report_decided(counts: Counter[str], output: str, late: int) -> None:
    """Say what was written where, and how often a transaction came late."""
    OUT.print(
        f"wrote {counts.total()} decisions to {output}: " + ", ".join(f"{n} {o}" for o, n in counts.most_common())
    )
    if late:
        OUT.print(
            f"{late} times a transaction came after a newer one of the same entity; if the file is not in the "
            "order in which the payments arrived, set sort = true in [files]"
        )


def decision_frame(batch: Batch, judgement: Judgement, bundle: str) -> pl.DataFrame:
    """Return decisions as columns: a file of a million rows must not become a million objects."""
    count = len(batch)
    scored = ~np.isnan(judgement.scores)
    reasons = pl.Series([_NO_REASONS]).new_from_index(0, count)
    if judgement.reasons:
        rows = sorted(judgement.reasons)
        texts = [msgspec.json.encode(judgement.reasons[row]).decode() for row in rows]
        reasons = reasons.scatter(rows, texts)
    lacking = [",".join(names) for names in batch.missing()]
    missing = pl.Series(lacking)
    if not scored.all():
        missing = pl.Series(
            [text if fine else f"{text},{MODEL}".lstrip(",") for text, fine in zip(lacking, scored, strict=True)]
        )
    return pl.DataFrame(
        {
            "transaction_id": batch.ids,
            "outcome": pl.Series(OUTCOMES)[judgement.outcomes.astype(np.int64)],
            "score": pl.Series(judgement.scores).fill_nan(None),
            "confidence": pl.Series(judgement.confidences).fill_nan(None),
            "mode": pl.Series(_MODES)[scored.astype(np.int64)],
            "reasons": reasons,
            "missing": missing,
            "bundle": pl.Series([bundle]).new_from_index(0, count),
        },
        schema=COLUMNS,
    )
