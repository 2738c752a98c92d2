"""`tollgate score`: a file in, its decisions out."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated

import msgspec
import numpy as np
import polars as pl
import typer

from tollgate.cli.wiring import (
    OUT,
    BundleOption,
    ConfigOption,
    hash_key,
    judge_of,
    open_bundle,
    open_config,
    open_file,
    plan_of,
    policy_now,
    progress_bar,
    report_rejected,
)
from tollgate.decision import Mode, Outcome
from tollgate.errors import EXIT_PARTIAL, ConfigError, InputError
from tollgate.features import FeatureEngine
from tollgate.files import Rejected
from tollgate.intake import TransactionReader
from tollgate.judge import MODEL, Judgement
from tollgate.steps import run
from tollgate.transaction import Batch

_COLUMNS = {
    "transaction_id": pl.String, "outcome": pl.String, "score": pl.Float64, "confidence": pl.Float64,
    "mode": pl.String, "reasons": pl.String, "missing": pl.String, "bundle": pl.String,
}  # fmt: skip


OUTCOMES = [outcome.value for outcome in Outcome]
_MODES = [Mode.DEGRADED.value, Mode.NORMAL.value]  # by whether there is a score
_NO_REASONS = "[]"


def score(
    data: Annotated[Path, typer.Argument(help="Transactions in order of time: .parquet, .csv or .jsonl.")],
    output: Annotated[Path, typer.Argument(help="Where the decisions go: .parquet, .csv or .jsonl.")],
    config: ConfigOption = None,
    bundle: BundleOption = None,
) -> None:
    """Decide a file of transactions, each with the history before it in the file, by lists and rules as they are now.

    Nothing is written to the ledger.
    """
    if output.suffix not in (".parquet", ".csv", ".jsonl"):
        raise ConfigError("unknown_format", f"expected an output ending in .parquet, .csv or .jsonl, got {output.name}")
    settings = open_config(config)
    chosen = open_bundle(settings, bundle)
    manifest = chosen.manifest
    reader = TransactionReader(manifest.schema_, manifest.money, hash_key())
    file = open_file(data, settings, reader)
    engine = FeatureEngine(plan_of(chosen))
    judge = judge_of(chosen, policy_now(settings, chosen, reader))
    frames: list[pl.DataFrame] = []
    rejected: list[Rejected] = []
    counts: Counter[str] = Counter()
    with progress_bar() as progress:
        task = progress.add_task(f"scoring {data.name}", total=file.rows)
        for chunk in file.chunks():
            judgement = run(judge.judge(chunk.batch, engine.observe(chunk.batch), chunk.batch.time_us))
            frames.append(decision_frame(chunk.batch, judgement, judge.bundle))
            counts.update(
                dict(zip(OUTCOMES, np.bincount(judgement.outcomes, minlength=len(OUTCOMES)).tolist(), strict=True))
            )
            rejected += chunk.rejected
            progress.advance(task, len(chunk.batch) + len(chunk.rejected))
    some = report_rejected(rejected, output)
    if not counts:
        raise InputError("no_rows", f"no row of {data} could be used", file=str(data))
    _write(pl.concat(frames), output)
    OUT.print(
        f"wrote {counts.total()} decisions to {output}: " + ", ".join(f"{n} {o}" for o, n in counts.most_common())
    )
    if engine.late:
        OUT.print(
            f"{engine.late} times a transaction came after a newer one of the same entity; if the file is not in the "
            "order in which the payments arrived, set sort = true in [files]"
        )
    if some:
        raise typer.Exit(EXIT_PARTIAL)


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
        schema=_COLUMNS,
    )


def _write(frame: pl.DataFrame, output: Path) -> None:
    """Write whole or not at all."""
    output.parent.mkdir(parents=True, exist_ok=True)
    part = output.with_name(output.name + ".part")
    match output.suffix:
        case ".parquet":
            frame.write_parquet(part)
        case ".csv":
            frame.write_csv(part)
        case _:
            frame.write_ndjson(part)
    part.replace(output)
