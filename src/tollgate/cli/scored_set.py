"""`tollgate score` of a set of files: the decisions of each in a file of the same name, in Parquet."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import msgspec
import polars as pl
import typer
from rich.markup import escape
from rich.progress import Progress

from tollgate import __version__
from tollgate.bundle import Bundle
from tollgate.cli.decisions import COLUMNS, counts_of, decided, report_decided
from tollgate.cli.wiring import (
    ERR,
    HASH_KEY_VARIABLE,
    controls_now,
    hash_key,
    judge_of,
    keeps_state,
    open_bundle,
    open_file,
    plan_of,
    policy_of,
    progress_bar,
)
from tollgate.config import Config
from tollgate.control import ListEntry
from tollgate.errors import EXIT_PARTIAL, ConfigError, InputError
from tollgate.features import FeatureEngine
from tollgate.files import SUFFIXES, rejected_line
from tollgate.folders import Folder, Found, is_local, local_path, open_folder
from tollgate.intake import TransactionReader
from tollgate.judge import Judge
from tollgate.parquet import write_parquet
from tollgate.parts import TransactionSet
from tollgate.resumption import Done, Resumption, written_name
from tollgate.rules.limits import RateLimits

KEEP_EVERY_S = 60.0  # the state is saved so often: at most so much is done again
REJECTED = "_rejected"  # a folder beside the output's: what reads Parquet passes it over


class _Work(NamedTuple):
    """What decides, and where it writes."""

    parts: TransactionSet
    engine: FeatureEngine
    judge: Judge
    output: Folder

    def score(self, part: Found, progress: Progress) -> Done:
        """Decide one file and write its decisions, whole or not at all."""
        task = progress.add_task(f"scoring {escape(part.name)}", total=None)
        counts: Counter[str] = Counter()
        rejected: list[bytes] = []

        def frames() -> Iterator[pl.DataFrame]:
            for chunk in self.parts.read(part):
                frame = decided(chunk.batch, self.engine, self.judge)
                counts.update(counts_of(frame))
                rejected.extend(rejected_line(one) for one in chunk.rejected)
                progress.advance(task, len(chunk.batch) + len(chunk.rejected))
                yield frame

        with self.output.put(written_name(part.name)) as path:
            write_parquet(frames(), COLUMNS, path)
            written = path.stat().st_size
        side = f"{REJECTED}/{part.name}.jsonl"
        if rejected:
            with self.output.put(side) as path:
                path.write_bytes(b"\n".join(rejected) + b"\n")
        else:
            self.output.remove(side)
        progress.remove_task(task)
        return Done(part.name, part.size, part.version, written, dict(counts), len(rejected))


def score_set(data: str, output: str, settings: Config, bundle: str | None) -> None:
    """Decide a set of files in arrival order, going on where an earlier run was cut off."""
    _check_output(data, output)
    chosen = open_bundle(settings, bundle)
    manifest, plan = chosen.manifest, plan_of(chosen)
    reader = TransactionReader(manifest.schema_, manifest.money, hash_key())
    parts = open_file(data, settings, reader)
    assert isinstance(parts, TransactionSet)
    entries, rules = controls_now(settings)
    judge = judge_of(chosen, policy_of(chosen, reader, entries, rules))
    target = open_folder(output)
    key = hash_key() if keeps_state() else None
    resumption = Resumption(target, plan, _fingerprint(chosen, settings, entries, rules), key)
    found = resumption.resume(parts.parts)
    if found.why:
        ERR.print(f"[yellow]all of {escape(data)} is scored again[/yellow]: {escape(found.why)}", soft_wrap=True)
    if key is None:
        ERR.print(f"[dim]set {HASH_KEY_VARIABLE} for a run that is cut off to go on where it was[/dim]")
    parts.seen, judge.policy.limits = found.seen, RateLimits(found.used)
    work, done = _Work(parts, found.engine, judge, target), found.done
    left = parts.parts[len(done) :]
    kept_s = time.monotonic()
    with progress_bar() as progress:
        task = progress.add_task("files", total=len(parts.parts), completed=len(done))
        for part in left:
            done.append(work.score(part, progress))
            progress.advance(task)
            if time.monotonic() - kept_s >= KEEP_EVERY_S or part is left[-1]:
                resumption.keep(done, work.engine, parts.seen, judge.policy.limits.used)
                kept_s = time.monotonic()
    _report(done, len(left), work, output)


def _report(done: Sequence[Done], scored: int, work: _Work, output: str) -> None:
    counts: Counter[str] = Counter()
    for one in done:
        counts.update(one.counts)
    rejected = sum(one.rejected for one in done)
    if not counts:
        raise InputError("no_rows", f"no row of {work.parts.path} could be used", file=work.parts.path)
    if scored < len(done):
        ERR.print(f"{len(done) - scored} of {len(done)} files were there already")
    report_decided(counts, output, work.engine.late)
    if rejected:
        ERR.print(
            f"[yellow]{rejected} rows were rejected; see {escape(work.output.url)}/{REJECTED}[/yellow]", soft_wrap=True
        )
        raise typer.Exit(EXIT_PARTIAL)


def _fingerprint(bundle: Bundle, settings: Config, entries: Sequence[ListEntry], rules: bytes | None) -> str:
    """Return all that decisions on the same rows depend on, but for the rows before them."""
    return msgspec.json.encode([__version__, bundle.id, settings.files, list(entries), rules]).decode()


def _check_output(data: str, output: str) -> None:
    if output.endswith(SUFFIXES) or (is_local(output) and local_path(output).is_file()):
        raise ConfigError("bad_output", f"expected a folder or URL for the decisions on {data}, but got {output}")
    if output.rstrip("/") == data.rstrip("/"):
        raise ConfigError("bad_output", f"expected another folder for the decisions than {data} itself")
