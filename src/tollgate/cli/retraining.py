"""`tollgate retrain`: a challenger from the ledger alone, and only a better one decides. Needs the extra `train`."""

from __future__ import annotations

import fcntl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import numpy as np
import typer
from rich.table import Table
from rich.text import Text

from tollgate import feed, gate
from tollgate.bundle import REPORT, Bundle
from tollgate.cli.actor import actor_of
from tollgate.cli.fitting import Options, Prepared, categories_of, fit_prepared, say_left_out
from tollgate.cli.keys import in_words
from tollgate.cli.promotion import promote_bundle
from tollgate.cli.signing import training_signer
from tollgate.cli.wiring import (
    ERR,
    OUT,
    bundles_here,
    features_of,
    hash_key,
    now_us,
    open_bundle,
    open_config,
    open_registry,
    plan_of,
    progress_bar,
    runtime_of,
    score_of,
)
from tollgate.config import Config, FeedConfig
from tollgate.dataset import Dataset, Split, Window, split_at
from tollgate.duration import SECOND_US, parse_duration_us
from tollgate.errors import EXIT_ATTENTION, BundleError, TollgateError
from tollgate.evaluate import divisions
from tollgate.features import FeaturePlan
from tollgate.features.snapshot import plan_digest
from tollgate.gate import Check, Contest
from tollgate.intake import TransactionReader
from tollgate.judge import Floats
from tollgate.label import LabelSource
from tollgate.ledger import Ledger
from tollgate.model.runtime import OnnxRuntime
from tollgate.pool import NOBODY, Pool
from tollgate.retrain import REFUSED, WOULD_PROMOTE, Retraining, periods, retraining

REPORTS = "retrainings"  # beside the bundles
_LOCK = ".retraining"
_TIMED_RUNS = 200  # of each model, in turns
_MICRO = 1e6


def retrain(
    config_path: Path | None, dry_run: bool, incremental: bool, every: str | None, by: str | None, as_json: bool
) -> None:
    """Challenge the champion, once or again and again."""
    settings = open_config(config_path)
    work = Work(settings, actor_of(by), dry_run=dry_run, incremental=incremental)
    before, OUT.quiet = OUT.quiet, as_json
    try:
        _retrain(work, settings, every, as_json=as_json)
    finally:
        OUT.quiet = before


def _retrain(work: Work, settings: Config, every: str | None, *, as_json: bool) -> None:
    if every is None:
        with one_at_a_time(bundles_here(settings)):
            found = work.once()
        _tell(found, settings, as_json=as_json)
        if found.outcome == REFUSED:
            raise typer.Exit(EXIT_ATTENTION)
        return
    every_s = parse_duration_us(every) / SECOND_US
    while True:
        due_s = time.monotonic() + every_s
        try:
            with one_at_a_time(bundles_here(settings)):
                _tell(work.once(), settings, as_json=as_json)
        except TollgateError as error:  # the next time it may go well
            ERR.print(f"error ({error.code}): {error.message}", style="red", markup=False, soft_wrap=True)
        time.sleep(max(due_s - time.monotonic(), 0.0))


@contextmanager
def one_at_a_time(folder: Path) -> Iterator[None]:
    """Keep other retrainings of the same registry out.

    Raises:
        BundleError: One is under way.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        held = (folder / _LOCK).open("w")
    except OSError as error:
        raise BundleError("cannot_store", f"could not write into {folder}: {error}", file=str(folder)) from error
    with held:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise BundleError(
                "retraining_under_way", f"another process retrains for {folder}; wait for it to end", file=str(folder)
            ) from None
        yield


class Work:
    """Challenges the champion of one configuration."""

    def __init__(self, config: Config, actor: str, *, dry_run: bool, incremental: bool) -> None:
        """Say how.

        Args:
            config: What is trained and what is allowed.
            actor: Who promotes, for the audit trail.
            dry_run: Say what would be done, and leave the champion.
            incremental: Train on from the champion's weights.

        Raises:
            ConfigError: Nothing would load what it promotes: its signature would not be trusted.
        """
        self._config = config
        self._actor = actor
        self._dry_run = dry_run
        self._incremental = incremental
        self._registry = open_registry(config)
        # What is only tried is for a person to approve, with a signature of theirs.
        self._signer = None if dry_run else training_signer(config, actor, promotes=True)

    def once(self, clock_us: Callable[[], int] = now_us) -> Retraining:
        """Examine the labels, train, compare, and promote what is better.

        Raises:
            TollgateError: It could not be done; the champion goes on.
        """
        config = self._config
        champion = open_bundle(config, None)
        as_of_us = clock_us()
        plan = plan_of(champion) if self._incremental else features_of(config)
        checks: tuple[Check, ...] = (_same_schema(champion, config),)
        if not gate.passed(checks):
            return self._ended(retraining(as_of_us, champion.id, None, checks))
        with Ledger(config.ledger.url, write=False) as ledger:
            pool, dataset = self._learned(ledger, plan, as_of_us)
            theirs = dataset
            if plan_digest(plan_of(champion)) != plan_digest(plan):
                _, others = self._learned(ledger, plan_of(champion), as_of_us)
                theirs = others.take(np.isin(others.ids, dataset.ids))  # more may have come meanwhile
        learned = champion.manifest.training
        when = periods(dataset.time_us, pool.waiting_us, learned, config.retrain)
        tested = when.contest.holds(dataset.time_us)
        frauds = int(np.count_nonzero(dataset.is_fraud & tested))
        new = Window(learned.end_us, when.contest.end_us)
        recent = new.holds(dataset.time_us)
        runtime = runtime_of(champion)
        scores = np.full(len(dataset), np.nan)  # of what the champion knows already nobody asks
        scores[recent] = score_of(champion, runtime)(theirs.features[recent])[0]
        checks += _examined(pool, dataset, scores, new, config.retrain.feed)
        checks += (gate.enough_frauds(frauds, config.retrain.gate),)
        if not gate.passed(checks):
            return self._ended(retraining(as_of_us, champion.id, None, checks, when.contest))
        parts = split_at(dataset, when.training, when.contest, config.split, config.evaluate.known_us)
        challenger = self._train(parts, plan, champion, pool.texts)
        rows = theirs.take(tested)
        contest = _contest(challenger, parts, runtime, rows, scores[tested], config)
        checks += gate.examine(contest, config.retrain.gate, config.evaluate)
        return self._ended(
            retraining(
                as_of_us, champion.id, challenger.id, checks, when.contest, len(parts.test), frauds,
                only_tried=self._dry_run,
            )
        )  # fmt: skip

    def _learned(self, ledger: Ledger, plan: FeaturePlan, as_of_us: int) -> tuple[Pool, Dataset]:
        config = self._config
        pool = Pool(ledger, plan, TransactionReader(plan.schema, config.money, hash_key()), config.label)
        with progress_bar() as progress:
            task = progress.add_task(f"computing {len(plan.names)} features", total=pool.rows)
            dataset = pool.dataset(
                config.evaluate.card, as_of_us, lambda rows: progress.advance(task, rows), config.train.memory_bytes
            )
        say_left_out(pool)
        return pool, dataset

    def _train(self, parts: Split, plan: FeaturePlan, champion: Bundle, texts: dict[float, str]) -> Bundle:
        config = self._config
        if self._incremental:
            config = msgspec.structs.replace(config, train=champion.manifest.train)
        beside = msgspec.structs.replace(config.evaluate, beside=())  # what it is compared with is the champion
        run = fit_prepared(
            Prepared((parts,), [], texts), plan,
            msgspec.structs.replace(config, evaluate=beside),
            Options(start=champion if self._incremental else None),
        )  # fmt: skip
        assert run is not None
        if self._signer is not None:
            self._signer.sign(run.bundle_id)
        return open_registry(config, signed=False).load(run.bundle_id)  # one that is only tried has no signature

    def _ended(self, found: Retraining) -> Retraining:
        """Promote what may be promoted, and keep the report."""
        if found.outcome not in (REFUSED, WOULD_PROMOTE):
            assert found.challenger is not None
            promote_bundle(
                self._config, self._registry, found.challenger, self._actor, before=found.champion, by="retrain"
            )
        folder = bundles_here(self._config) / REPORTS
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{in_words(found.as_of_us).replace(' ', 'T').replace(':', '')}.json"
        path.write_bytes(msgspec.json.format(msgspec.json.encode(found), indent=1))
        return found


def _same_schema(champion: Bundle, config: Config) -> Check:
    """Return the check that running servers would take what is trained."""
    same = champion.manifest.is_for(config.table, config.money)
    return Check(
        name="same_schema", passed=same, found=None, limit=0.0,
        why="schema and money are those of the champion" if same else
        f"the configuration has another schema or other money than the champion {champion.id}: running servers would "
        "refuse the challenger; use 'tollgate train', then start the servers again",
    )  # fmt: skip


def _examined(pool: Pool, dataset: Dataset, scores: Floats, new: Window, config: FeedConfig) -> tuple[Check, ...]:
    """Return the checks of the labels of what came after the transactions that the champion learned from."""
    said = (pool.sources != NOBODY) & (dataset.time_us < new.end_us)
    sources = np.array([source.value for source in LabelSource], dtype=object)[pool.sources[said]]
    given = feed.Feed(sources, dataset.is_fraud[said], dataset.time_us[said], scores[said])
    return feed.examine(given, scores[new.holds(dataset.time_us)], new.start_us, config)


def _contest(
    challenger: Bundle, parts: Split, champion: OnnxRuntime, theirs: Dataset, scores: Floats, config: Config
) -> Contest:
    """Return both bundles on the same rows: as they are stored, so that what is measured is what would decide.

    Args:
        challenger: One.
        parts: Its rows; the test is the contest.
        champion: The other one's model.
        theirs: The same rows with the champion's features.
        scores: The champion's, float64 (N,).
        config: What divides the rows into slices.
    """
    runtime = runtime_of(challenger)
    times = np.empty((2, _TIMED_RUNS))
    rows = (parts.test.features[:1], theirs.features[:1])
    for run in range(_TIMED_RUNS):
        for place, model in enumerate((runtime, champion)):
            begun_s = time.perf_counter()
            model.logits(rows[place])
            times[place, run] = time.perf_counter() - begun_s
    challenger_us, champion_us = np.median(times, axis=1) * _MICRO
    return Contest(
        rows=parts.test,
        challenger=score_of(challenger, runtime)(parts.test.features)[0],
        champion=scores,
        slices=divisions(
            parts.test, config.evaluate, parts.test_new, categories_of(parts.test, challenger.manifest.categories)
        ),
        challenger_us=float(challenger_us),
        champion_us=float(champion_us),
    )


def _tell(found: Retraining, config: Config, *, as_json: bool) -> None:
    if as_json:
        typer.echo(msgspec.json.encode(found))
        return
    when = (
        "" if found.contest is None else f" on {Window(*found.contest)}, {found.rows:,} payments, {found.frauds} frauds"
    )
    table = Table(title=f"challenger {found.challenger or 'none'} against {found.champion}{when}", title_justify="left")
    for heading in ("", "check", "what was found"):
        table.add_column(heading, overflow="fold")
    for check in found.checks:
        table.add_row("ok" if check.passed else Text("no", style="bold red"), check.name, Text(check.why))
    OUT.print(table)
    if found.challenger is not None:
        OUT.print(f"its report: {bundles_here(config) / found.challenger / REPORT}", soft_wrap=True, highlight=False)
    if found.outcome == REFUSED:
        OUT.print(f"refused: {', '.join(found.reasons)}; {found.champion} goes on deciding", soft_wrap=True)
    elif found.outcome == WOULD_PROMOTE:
        OUT.print(f"{found.challenger} would be promoted; it was only tried", soft_wrap=True, highlight=False)
    else:
        OUT.print(f"{found.challenger} decides from now on; before it: {found.champion}", highlight=False)
