"""`tollgate train` and `tollgate evaluate`. Needs the extra `train`."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import typer
from numpy.typing import NDArray
from rich.markup import escape
from rich.table import Table

from tollgate import __version__
from tollgate.baseline import fit_baseline
from tollgate.bundle import MODEL, REPORT, WEIGHTS, Bundle, Manifest, Registry, Training
from tollgate.cli.wiring import (
    ERR,
    OUT,
    features_of,
    judge_of,
    now_us,
    open_bundle,
    open_config,
    open_labelled,
    plan_of,
    progress_bar,
    report_rejected,
)
from tollgate.config import Config
from tollgate.dataset import Split, Window, split
from tollgate.errors import EXIT_PARTIAL, BundleError
from tollgate.evaluate import Evaluation
from tollgate.evaluate import evaluate as measure
from tollgate.features import FeatureEngine, FeaturePlan
from tollgate.files import Rejected, TransactionFile
from tollgate.model.export import export_onnx
from tollgate.model.profile import profile_features
from tollgate.model.weights import write_weights
from tollgate.replay import replay
from tollgate.report import MEASURES, History, render_report
from tollgate.train import Epoch, Trained, fit, score

_SAMPLE_ROWS = 1000  # on which the export is compared with the network
_MODEL_NAME = "Tollgate"
_BASELINE_NAME = "LightGBM"


@dataclass(frozen=True, slots=True)
class Prepared:
    """A file, replayed and split."""

    parts: Split
    rejected: list[Rejected]
    texts: dict[float, str]


@dataclass(frozen=True, slots=True)
class Run:
    """What a training gave: the bundle's id, the data, how it went, and what it is worth."""

    bundle_id: str
    prepared: Prepared
    history: History
    evaluation: Evaluation


def prepare(file: TransactionFile, plan: FeaturePlan, config: Config) -> Prepared:
    """Compute the features of a labelled file in order of arrival, and split it by time."""
    engine = FeatureEngine(plan)
    with progress_bar() as progress:
        task = progress.add_task(f"computing {len(plan.names)} features", total=file.rows)
        dataset, rejected = replay(
            file, engine, config.evaluate.card, progress=lambda rows: progress.advance(task, rows)
        )
    if engine.late:
        ERR.print(
            f"[yellow]{engine.late} times a transaction came after a newer one of its entity[/yellow]; if the file "
            "is not in order of arrival, set sort = true in \\[files]",
            soft_wrap=True,
        )
    return Prepared(split(dataset, config.split, config.label.delay_us), rejected, file.category_texts())


def fit_with_progress(parts: Split, config: Config) -> Trained:
    """Fit the network, showing each epoch."""
    with progress_bar() as progress:
        task = progress.add_task("training", total=config.train.max_epochs)

        def show(epoch: Epoch) -> None:
            progress.update(task, advance=1, description=f"training, validation AP {epoch.validation_ap:.3f}")

        return fit(parts.train, parts.validation, config.train, show)


def run_training(file: TransactionFile, plan: FeaturePlan, config: Config) -> Run:
    """Prepare, fit, compare and store."""
    prepared = prepare(file, plan, config)
    parts = prepared.parts
    say_split(parts)
    trained = fit_with_progress(parts, config)
    for warning in trained.warnings:
        ERR.print(f"[yellow]warning[/yellow]: {escape(warning)}", soft_wrap=True)
    evaluation = compare(parts, trained.calibration.apply(score(trained.network, parts.test.features)), config)
    history = History(
        training=parts.training,
        rows=len(parts.train),
        frauds=parts.train.frauds,
        validation_rows=len(parts.validation),
        epochs=trained.epochs,
        best=trained.best,
        warnings=trained.warnings,
        features=profile_features(parts.train.features, plan.names, plan.categorical),
    )
    report = render_report(evaluation, history, title="Training report", currency=config.money.currency)
    files = {
        MODEL: export_onnx(trained.network, parts.validation.features[:_SAMPLE_ROWS]),
        WEIGHTS: write_weights(trained.network),
        REPORT: report.encode(),
    }
    manifest = _manifest(plan, config, prepared, trained, history, evaluation)
    return Run(Registry(Path(config.bundles)).store(manifest, files), prepared, history, evaluation)


def _manifest(
    plan: FeaturePlan, config: Config, prepared: Prepared, trained: Trained, history: History, evaluation: Evaluation
) -> Manifest:
    return Manifest(
        created_us=now_us(),
        tollgate=__version__,
        schema_=plan.schema,
        money=config.money,
        plan={"features": plan.to_data()},
        calibration=trained.calibration,
        policy=config.policy,
        metrics=evaluation.measures[_MODEL_NAME].as_metrics(),
        training=Training(
            start_us=history.training.start_us,
            end_us=history.training.end_us,
            rows=history.rows,
            frauds=history.frauds,
            fingerprint=prepared.parts.train.fingerprint(),
        ),
        profiles=tuple(history.features),
        categories=prepared.texts,
        warnings=trained.warnings,
    )


def compare(parts: Split, scores: NDArray[np.float64], config: Config) -> Evaluation:
    """Measure a model's test scores beside LightGBM's, fitted on the same rows."""
    with ERR.status("fitting LightGBM on the same rows, to compare"):
        baseline = fit_baseline(parts.train, parts.validation, config.train.seed, config.train.threads)
        beside = baseline.scores(parts.test.features)
    both = {_MODEL_NAME: scores, _BASELINE_NAME: beside}
    return measure(parts.test, both, config.evaluate, config.policy, parts.test_known)


def say_split(parts: Split) -> None:
    """Show what trains, what validates and what tests."""
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


def table_of(evaluation: Evaluation) -> Table:
    """Return the measures, a row each and a column a model."""
    title = f"{len(evaluation.test):,} test payments, {evaluation.test.frauds:,} frauds, {evaluation.days} days"
    if evaluation.left_out:
        title += f"; {evaluation.left_out:,} of cards known as compromised left out"
    table = Table(title=title, title_justify="left")
    table.add_column("")
    for name in evaluation.measures:
        table.add_column(name, justify="right")
    for field, heading, _, _ in MEASURES:
        shown = heading.replace("the budget", f"{evaluation.alerts_per_day} a day")
        table.add_row(shown, *(_text(getattr(one, field)) for one in evaluation.measures.values()))
    return table


def _text(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.4f}"


def train(data: Path, config_path: Path | None, promote: bool) -> None:
    """Train on a labelled file, measure beside LightGBM and store a bundle."""
    config = open_config(config_path)
    file, _ = open_labelled(data, config)
    run = run_training(file, features_of(config), config)
    bundle_id = run.bundle_id
    OUT.print(table_of(run.evaluation))
    registry = Registry(Path(config.bundles))
    folder = Path(config.bundles) / bundle_id
    OUT.print(f"stored bundle {bundle_id}; its report: {folder / REPORT}", soft_wrap=True, highlight=False)
    champion = registry.champion()
    if promote or champion is None:
        registry.promote(bundle_id)
        OUT.print(f"{bundle_id} is the champion: 'tollgate serve' decides with it", highlight=False)
    elif champion != bundle_id:
        OUT.print(f"{champion} stays the champion; train with --promote to replace it", highlight=False)
    if report_rejected(run.prepared.rejected, data):
        raise typer.Exit(EXIT_PARTIAL)


def evaluate(data: Path, config_path: Path | None, bundle_id: str | None) -> None:
    """Measure a bundle on the test period of a labelled file, beside LightGBM trained on the training period."""
    config = open_config(config_path)
    bundle = open_bundle(config, bundle_id)
    file, _ = open_labelled(data, config)
    _check_schema(bundle, config)
    prepared = prepare(file, plan_of(bundle), config)
    say_split(prepared.parts)
    scores, _ = judge_of(bundle).score(prepared.parts.test.features)
    evaluation = compare(prepared.parts, scores, config)
    OUT.print(table_of(evaluation))
    training = bundle.manifest.training
    if training.end_us > prepared.parts.testing.start_us:
        ERR.print(
            f"[yellow]bundle {bundle.id} was trained on {Window(training.start_us, training.end_us)}, which is not all "
            "before this test[/yellow]: the figures flatter it",
            soft_wrap=True,
        )
    if report_rejected(prepared.rejected, data):
        raise typer.Exit(EXIT_PARTIAL)


def _check_schema(bundle: Bundle, config: Config) -> None:
    if bundle.manifest.schema_ != config.table or bundle.manifest.money != config.money:
        raise BundleError(
            "other_schema",
            f"bundle {bundle.id} was trained with another schema or currency than the configuration has; train again, "
            "or use the configuration that it was trained with",
        )
