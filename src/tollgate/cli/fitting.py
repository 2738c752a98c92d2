"""From a labelled file to a bundle: features, models fold by fold, their measures, and what is stored."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import msgspec
import numpy as np
from numpy.typing import NDArray
from rich.markup import escape

from tollgate import __version__
from tollgate.breakdown import texts_of
from tollgate.bundle import REPORT, WEIGHTS, Bundle, Manifest, Training
from tollgate.cli.wiring import (
    ERR,
    OUT,
    bundles_here,
    now_us,
    open_registry,
    progress_bar,
)
from tollgate.config import Config, PolicyConfig, TrainConfig
from tollgate.dataset import Dataset, Split, split
from tollgate.errors import BundleError
from tollgate.evaluate import Evaluation, differences
from tollgate.evaluate import evaluate as measure
from tollgate.features import FeatureEngine, FeaturePlan
from tollgate.files import Rejected, Transactions
from tollgate.metrics import average_precision
from tollgate.model.network import Network
from tollgate.model.profile import profile_features, profile_scores
from tollgate.model.weights import read_weights
from tollgate.pool import Pool
from tollgate.replay import replay
from tollgate.report import History, render_report
from tollgate.thresholds import Chosen, choose_thresholds
from tollgate.train import Candidate, Circumstances, Epoch, TreeSearch, columns_of, fit_candidate, title_of
from tollgate.train.candidate import LIGHTGBM
from tollgate.train.tuning import tune
from tollgate.train.workers import ALONE, Workers
from tollgate.tune import Tried

_SAMPLE_ROWS = 1000  # on which the export is compared with the model
_CHECKPOINTS = ".training"  # beside the bundles

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line says of a training.

    Attributes:
        start: A bundle to train on from, instead of from nothing.
        tune_s: For how long parameters are searched, for the model and for LightGBM each, in seconds.
        trees_s: For how long those of LightGBM are searched; by default as long, or as the configuration says.
        workers: The processes that train together.
    """

    start: Bundle | None = None
    tune_s: float = 0.0
    trees_s: float | None = None
    workers: Workers = ALONE


@dataclass(frozen=True, slots=True)
class Prepared:
    """A file, replayed and split.

    Attributes:
        folds: The parts of each fold, oldest first.
        rejected: Rows that could not be used.
        texts: Of category codes.
    """

    folds: tuple[Split, ...]
    rejected: list[Rejected]
    texts: dict[float, str]

    @property
    def parts(self) -> Split:
        """The newest fold."""
        return self.folds[-1]


@dataclass(frozen=True, slots=True)
class Run:
    """What a training gave.

    Attributes:
        bundle_id: Of the model of the newest fold.
        prepared: The data.
        history: How the newest fold's model came about.
        evaluations: What the models are worth in each fold, oldest first.
        seconds: How long each model trained, over all folds, by name.
    """

    bundle_id: str
    prepared: Prepared
    history: History
    evaluations: tuple[Evaluation, ...]
    seconds: Mapping[str, float]

    @property
    def evaluation(self) -> Evaluation:
        """What the models are worth in the newest fold."""
        return self.evaluations[-1]


def prepare(source: Transactions | Pool, plan: FeaturePlan, config: Config) -> Prepared:
    """Compute the features of labelled transactions in order of arrival, and split them by time."""
    engine = FeatureEngine(plan)
    card, most = config.evaluate.card, config.train.memory_bytes
    rejected: list[Rejected] = []
    with progress_bar() as progress:
        task = progress.add_task(f"computing {len(plan.names)} features", total=source.rows)

        def read(rows: int) -> None:
            progress.advance(task, rows)

        if isinstance(source, Pool):
            dataset = source.dataset(card, now_us(), read, most)
            late, texts = source.late, source.texts
            say_left_out(source)
        else:
            dataset, rejected = replay(source, engine, card, progress=read, max_bytes=most)
            late, texts = engine.late, source.category_texts()
    if late:
        ERR.print(
            f"[yellow]{late} times a transaction came after a newer one of its entity[/yellow]; if the file "
            "is not in order of arrival, set sort = true in \\[files]",
            soft_wrap=True,
        )
    folds = split(dataset, config.split, config.label.delay_us, config.evaluate.known_us)
    return Prepared(tuple(folds), rejected, texts)


def say_left_out(pool: Pool) -> None:
    """Show how many transactions of the ledger are not learned from, and why."""
    if pool.left_out:
        why = ", ".join(f"{count:,} {name}" for name, count in pool.left_out.items())
        OUT.print(f"{pool.left_out.total():,} of {pool.rows:,} payments were left out: {why}", highlight=False)


def run_training(
    source: Transactions | Pool, plan: FeaturePlan, config: Config, options: Options | None = None
) -> Run | None:
    """Prepare, fit each fold, compare and store; None in a process that only helps another one train."""
    return fit_prepared(prepare(source, plan, config), plan, config, options or Options())


def fit_prepared(prepared: Prepared, plan: FeaturePlan, config: Config, options: Options) -> Run | None:
    """Fit each fold, compare and store; None in a process that only helps another one train."""
    trees_s = max(options.tune_s, config.evaluate.lightgbm_search_s) if options.trees_s is None else options.trees_s
    work = Fitting(plan, config, options, TreeSearch(trees_s))
    fitted = config.train
    evaluations = []
    for number, parts in enumerate(prepared.folds, 1):
        if options.workers.leads:
            say_split(parts, f"fold {number} of {len(prepared.folds)}" if len(prepared.folds) > 1 else "")
        own = work.read_by(fitted.model, parts)
        if options.tune_s and number == 1:
            fitted = search(own, fitted, options.tune_s)
        candidate = work.fit(own, fitted)
        if not options.workers.leads:
            continue
        chosen = thresholds_of(candidate, own.validation, config.policy)
        scores = {candidate.name: candidate.scores(own.test.features), **work.beside(parts)}
        evaluations.append(assess(parts, scores, config, chosen.policy, prepared.texts))
    if not options.workers.leads:
        return None
    bundle_id, history = _store(work, fitted, prepared, candidate, chosen, evaluations)
    return Run(bundle_id, prepared, history, tuple(evaluations), work.seconds)


@dataclass(slots=True)
class Fitting:
    """Fits models, and remembers how long each took and what was found for trees."""

    plan: FeaturePlan
    config: Config
    options: Options
    trees: TreeSearch
    seconds: dict[str, float] = field(default_factory=dict)

    def read_by(self, model: str, parts: Split) -> Split:
        """Return the rows with the features that a model reads; trees read what the main model does."""
        return parts.select(columns_of(self.config.train.model if model == LIGHTGBM else model, self.plan.back))

    def beside(self, parts: Split) -> dict[str, Floats]:
        """Return the test scores of the other models that the configuration names, fitted on the same rows."""
        scores = {}
        for model in self.config.evaluate.beside:
            if model == self.config.train.model:
                continue
            own = self.read_by(model, parts)
            candidate = self.fit(own, msgspec.structs.replace(self.config.train, model=model), alone=True)
            scores[candidate.name] = candidate.scores(own.test.features)
        return scores

    def fit(self, parts: Split, fitted: TrainConfig, *, alone: bool = False) -> Candidate:
        """Fit a model, showing how it goes, and print what it has to say."""
        started = time.monotonic()
        workers = ALONE if alone else self.options.workers
        start = None if alone or self.options.start is None else _start(self.options.start, parts)
        title = title_of(fitted.model)
        with progress_bar(shown=workers.leads) as progress:
            task = progress.add_task(f"training {title}", total=None)

            def epoch(one: Epoch) -> None:
                refit = math.isnan(one.validation_ap)
                how = "again, with the newest rows" if refit else f"validation AP {one.validation_ap:.3f}"
                progress.update(task, advance=1, description=f"training {title}, {how}")

            def trial(one: Tried) -> None:
                best = "none yet" if one.best is None else f"{one.best:.3f}"
                progress.update(task, advance=1, description=f"searching {title}, best validation AP {best}")

            given = Circumstances(
                on_epoch=epoch,
                start=start,
                checkpoint=bundles_here(self.config) / _CHECKPOINTS / fitted.model.replace(":", "-"),
                workers=workers,
            )
            candidate = fit_candidate(parts, fitted, given, replace(self.trees, on_trial=trial))
        with contextlib.suppress(OSError):  # another training may keep its state there
            (bundles_here(self.config) / _CHECKPOINTS).rmdir()
        if candidate.parameters is not None:
            # What the oldest fold found serves the others: each would see newer rows, but a search is long.
            self.trees = TreeSearch(parameters=candidate.parameters)
        took = time.monotonic() - started
        self.seconds[candidate.name] = self.seconds.get(candidate.name, 0.0) + took
        if workers.leads:
            ap = average_precision(parts.validation.is_fraud, candidate.checked)
            OUT.print(f"{candidate.name:<10} trained in {took:.0f} s; validation AP {ap:.3f}", highlight=False)
            for warning in candidate.warnings:
                ERR.print(f"[yellow]warning[/yellow]: {candidate.name}: {escape(warning)}", soft_wrap=True)
        return candidate


def thresholds_of(candidate: Candidate, validation: Dataset, policy: PolicyConfig) -> Chosen:
    """Return the thresholds that the policy asks for, on rows that the model had not seen."""
    chosen = choose_thresholds(validation.is_fraud, candidate.checked, validation.amount, validation.time_us, policy)
    for warning in chosen.warnings:
        ERR.print(f"[yellow]warning[/yellow]: {escape(warning)}", soft_wrap=True)
    return chosen


def assess(
    parts: Split, scores: Mapping[str, Floats], config: Config, policy: PolicyConfig, texts: Mapping[float, str]
) -> Evaluation:
    """Measure models on the test rows, also by category and for new cards."""
    return measure(
        parts.test,
        scores,
        config.evaluate,
        policy,
        parts.test_known,
        new_card=parts.test_new,
        categories=categories_of(parts.test, texts),
    )


def categories_of(test: Dataset, texts: Mapping[float, str]) -> dict[str, NDArray[np.object_]]:
    """Return the texts of each categorical feature of N rows, object (N,), by its name."""
    return {
        name: texts_of(test.features[:, place], texts)
        for place, name in enumerate(test.names)
        if test.categorical[place] and test.back[place] == 0
    }


def search(parts: Split, config: TrainConfig, tune_s: float) -> TrainConfig:
    """Search the parameters of a network for some time, showing each trial; trees are searched as they are fitted."""
    if config.model == LIGHTGBM:
        return config
    with progress_bar() as progress:
        task = progress.add_task("searching", total=round(tune_s))

        def show(tried: Tried) -> None:
            best = "none yet" if tried.best is None else f"{tried.best:.3f}"
            progress.update(
                task,
                completed=round(tune_s - tried.left_s),
                description=f"searching, {tried.number} trials, best validation AP {best}",
            )

        found = tune(parts, config, tune_s, show)
    OUT.print(
        f"searched: hidden {list(found.hidden)}, dropout {found.dropout:.2f}, learning rate {found.learning_rate:.1e}, "
        f"weight decay {found.weight_decay:.1e}, batches of {found.batch_size}",
        highlight=False,
        soft_wrap=True,
    )
    return found


def _start(bundle: Bundle, parts: Split) -> Network:
    """Return the network of a bundle, to train on."""
    manifest = bundle.manifest
    if WEIGHTS not in manifest.files:
        raise BundleError("no_weights", f"bundle {bundle.id} holds trees, which cannot be trained on; train anew")
    if manifest.names != parts.train.names:
        raise BundleError(
            "other_features",
            f"expected the features of bundle {bundle.id} ({len(manifest.names)}), but the configuration has others "
            f"({len(parts.train.names)}); train anew, or with the features of the bundle",
        )
    return read_weights(bundle.read(WEIGHTS), manifest.train, parts.train.back)


def _store(
    work: Fitting,
    fitted: TrainConfig,
    prepared: Prepared,
    candidate: Candidate,
    chosen: Chosen,
    evaluations: Sequence[Evaluation],
) -> tuple[str, History]:
    """Store the newest fold's model as a bundle; return its id and history."""
    config, own = work.config, work.read_by(fitted.model, prepared.parts)
    plan = work.plan.select(columns_of(fitted.model, work.plan.back))  # what the model reads, and no more
    history = History(
        training=own.training,
        rows=len(own.train),
        frauds=own.train.frauds,
        validation_rows=len(own.validation),
        epochs=candidate.epochs,
        best=candidate.best,
        warnings=(*candidate.warnings, *chosen.warnings),
        features=profile_features(own.train.features, plan.names, plan.categorical),
    )
    newest = evaluations[-1]
    report = render_report(
        newest,
        history,
        title="Training report",
        currency=config.money.currency,
        folds=evaluations if len(evaluations) > 1 else (),
        over_folds=differences(evaluations, config.evaluate) if len(evaluations) > 1 else None,
    )
    manifest = Manifest(
        created_us=now_us(),
        tollgate=__version__,
        schema_=plan.schema,
        money=config.money,
        plan={"features": plan.to_data()},
        train=fitted,
        calibration=candidate.calibration,
        policy=chosen.policy,
        metrics=newest.measures[newest.model].as_metrics(),
        training=Training(
            start_us=own.training.start_us,
            end_us=own.training.end_us,
            rows=history.rows,
            frauds=history.frauds,
            fingerprint=own.train.fingerprint(),
        ),
        profiles=tuple(history.features),
        scores=profile_scores(candidate.checked),
        categories=prepared.texts,
        warnings=tuple(history.warnings),
    )
    files = {**candidate.files(own.validation.features[:_SAMPLE_ROWS]), REPORT: report.encode()}
    return open_registry(config).store(manifest, files), history


def say_split(parts: Split, title: str = "") -> None:
    """Show what trains, what validates and what tests."""
    if title:
        OUT.print(title, style="bold", highlight=False)
    for name, part, period in (
        ("train", parts.train, str(parts.training)),
        ("validation", parts.validation, "the newest of it"),
        ("test", parts.test, str(parts.testing)),
    ):
        OUT.print(
            f"{name:<10} {len(part):>9,} payments, {part.frauds:>6,} frauds  {period}", highlight=False, soft_wrap=True
        )
    if parts.immature:
        OUT.print(f"{parts.immature:,} training payments were left out: their label was not known when the test began")
