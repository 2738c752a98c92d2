"""`tollgate train` and `tollgate evaluate`. Needs the extra `train`."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path

import msgspec
import typer
from rich.table import Table

from tollgate.bundle import REPORT, Bundle
from tollgate.cli.actor import actor_of
from tollgate.cli.fitting import Fitting, Options, assess, prepare, run_training, say_split
from tollgate.cli.signing import Signer, training_signer
from tollgate.cli.wiring import (
    ERR,
    OUT,
    features_of,
    hash_key,
    open_bundle,
    open_config,
    open_labelled,
    open_registry,
    plan_of,
    report_rejected,
    runtime_of,
    score_of,
)
from tollgate.config import Config
from tollgate.dataset import Window
from tollgate.duration import SECOND_US, parse_duration_us
from tollgate.errors import EXIT_PARTIAL, BundleError, ConfigError
from tollgate.evaluate import Evaluation, mean_over
from tollgate.intake import TransactionReader
from tollgate.ledger import Ledger
from tollgate.pool import Pool
from tollgate.report import MEASURES
from tollgate.train import TreeSearch, title_of
from tollgate.train.candidate import LIGHTGBM
from tollgate.train.workers import joined


def table_of(evaluations: Sequence[Evaluation]) -> Table:
    """Return the measures, a row each and a column a model; of several folds the means."""
    title = (
        f"{sum(len(one.test) for one in evaluations):,} test payments, "
        f"{sum(one.test.frauds for one in evaluations):,} frauds, {sum(one.days for one in evaluations)} days"
    )
    if left_out := sum(one.left_out for one in evaluations):
        title += f"; {left_out:,} of cards known as compromised left out"
    if len(evaluations) > 1:
        title += f"; mean of {len(evaluations)} folds"
    table = Table(title=title, title_justify="left")
    table.add_column("")
    for name in evaluations[0].measures:
        table.add_column(name, justify="right")
    for measure, heading, *_ in MEASURES:
        shown = heading.replace("the budget", f"{evaluations[0].alerts_per_day} a day")
        table.add_row(shown, *(_text(mean_over(evaluations, name, measure)) for name in evaluations[0].measures))
    return table


def _text(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.4f}"


def train(
    data: str | None,
    config_path: Path | None,
    promote: bool,
    start: str | None,
    tune_for: str | None,
    model: str | None,
) -> None:
    """Train on a labelled file or on the ledger, measure beside LightGBM and store a bundle."""
    config = open_config(config_path)
    if model is not None:
        config = msgspec.structs.replace(config, train=msgspec.structs.replace(config.train, model=model))
    if start is not None and (tune_for is not None or model is not None):
        raise ConfigError(
            "bad_start", "--from trains the network of a bundle on, as it is; leave out --tune and --model, or --from"
        )
    begun = None if start is None else open_bundle(config, None if start == "champion" else start)
    if begun is not None:
        _check_schema(begun, config)
        config = msgspec.structs.replace(config, train=begun.manifest.train)
    with joined(os.environ) as workers:
        OUT.quiet = ERR.quiet = not workers.leads
        signer = _signer(config, promote) if workers.leads else None  # only the first process stores
        tune_s = 0.0 if tune_for is None else parse_duration_us(tune_for) / SECOND_US
        options = Options(begun, tune_s, workers=workers)
        if data is None:
            plan, reader = features_of(config), TransactionReader(config.table, config.money, hash_key())
            with Ledger(config.ledger.url, write=False) as ledger:
                run = run_training(Pool(ledger, plan, reader, config.label), plan, config, options)
        else:
            file, _ = open_labelled(data, config)
            run = run_training(file, features_of(config), config, options)
    if run is None:
        return
    OUT.print(table_of(run.evaluations))
    _offer(config, run.bundle_id, promote, signer)
    if data is not None and report_rejected(run.prepared.rejected, data):
        raise typer.Exit(EXIT_PARTIAL)


def _signer(config: Config, promote: bool) -> Signer | None:
    """Return what signs the bundle; refuse to train for a champion that nothing would load."""
    promotes = promote or open_registry(config).champion() is None
    return training_signer(config, actor_of(None), promotes=promotes)


def _offer(config: Config, bundle_id: str, promote: bool, signer: Signer | None) -> None:
    """Say where a bundle is, sign it, and make it the champion if that was asked for, or if there is none."""
    registry = open_registry(config)
    OUT.print(
        f"stored bundle {bundle_id}; its report: {registry.place}/{bundle_id}/{REPORT}", soft_wrap=True, highlight=False
    )
    if signer is not None:
        signer.sign(bundle_id)
    elif config.trusted_keys:
        OUT.print(f"it is not signed; before it is promoted, run 'tollgate bundles sign {bundle_id}'", highlight=False)
    champion = registry.champion()
    if promote or champion is None:
        registry.promote(bundle_id)
        OUT.print(f"{bundle_id} is the champion: 'tollgate serve' decides with it", highlight=False)
    elif champion != bundle_id:
        OUT.print(f"{champion} stays the champion; train with --promote to replace it", highlight=False)


def evaluate(data: str, config_path: Path | None, bundle_id: str | None) -> None:
    """Measure a bundle on the test period of a labelled file, beside LightGBM trained on the training period."""
    config = open_config(config_path)
    bundle = open_bundle(config, bundle_id)
    _check_schema(bundle, config)
    file, _ = open_labelled(data, config)
    plan = plan_of(bundle)
    prepared = prepare(file, plan, config)
    parts = prepared.parts
    say_split(parts)
    scores = {title_of(bundle.manifest.train.model): score_of(bundle, runtime_of(bundle))(parts.test.features)[0]}
    config = msgspec.structs.replace(
        config,
        train=bundle.manifest.train,
        evaluate=msgspec.structs.replace(config.evaluate, beside=(LIGHTGBM,)),
    )
    scores |= Fitting(plan, config, Options(), TreeSearch()).beside(parts)
    OUT.print(table_of([assess(parts, scores, config, bundle.manifest.policy, prepared.texts)]))
    training = bundle.manifest.training
    if training.end_us > parts.testing.start_us:
        ERR.print(
            f"[yellow]bundle {bundle.id} was trained on {Window(training.start_us, training.end_us)}, which is not all "
            "before this test[/yellow]: the figures flatter it",
            soft_wrap=True,
        )
    if report_rejected(prepared.rejected, data):
        raise typer.Exit(EXIT_PARTIAL)


def _check_schema(bundle: Bundle, config: Config) -> None:
    if not bundle.manifest.is_for(config.table, config.money):
        raise BundleError(
            "other_schema",
            f"bundle {bundle.id} was trained with another schema or currency than the configuration has; train again, "
            "or use the configuration that it was trained with",
        )
