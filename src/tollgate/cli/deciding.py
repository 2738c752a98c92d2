"""Everything behind a front door that decides: the champion at work on the ledger, and who follows the champion."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import NamedTuple

from tollgate.admission import Admission, CardNumbers
from tollgate.bundle import Bundle, Registry
from tollgate.cli.wiring import (
    HASH_KEY_VARIABLE,
    hash_key,
    judge_of,
    keeps_state,
    now_us,
    open_bundle,
    open_ledger,
    open_registry,
    plan_of,
    policy_of,
    recovery_of,
)
from tollgate.config import Config, ServeConfig
from tollgate.errors import ConfigError
from tollgate.intake import TransactionReader
from tollgate.ledger import Ledger
from tollgate.ledger.controls import Controls
from tollgate.policy import Policy
from tollgate.schema import TRANSACTION_ID, Schema
from tollgate.scorer import Scorer
from tollgate.serve.snapshots import Snapshots
from tollgate.serve.succession import Makers, Standing, Succession
from tollgate.trial import Trial


class Decider(NamedTuple):
    """The parts that a front door needs; `snapshots` saves the state while it runs, where that is of use."""

    bundle: Bundle
    registry: Registry
    controls: Controls
    reader: TransactionReader
    ledger: Ledger
    succession: Succession
    scorer: Scorer
    snapshots: Snapshots | None


@contextmanager
def deciding(
    config: Path | None, settings: Config, bundle: str | None, limits: ServeConfig, deadline_s: float
) -> Iterator[Decider]:
    """Open what decides, and close it when the block is left.

    Args:
        config: Where the configuration came from.
        settings: The configuration.
        bundle: Content id of the bundle that decides throughout; None follows the champion.
        limits: `[serve]`, with what the command line says.
        deadline_s: From the arrival of a transaction on; past it, it is decided without the model.
    """
    registry = open_registry(settings)
    chosen = open_bundle(settings, bundle)
    key = hash_key()
    manifest = chosen.manifest
    reader = TransactionReader(manifest.schema_, manifest.money, key)
    with ExitStack() as stack:
        controls = stack.enter_context(closing(Controls(settings.ledger.url)))
        standing = Standing.read(controls)
        ledger = stack.enter_context(closing(open_ledger(settings)))
        makers = _makers(settings, reader, key)
        succession = Succession(
            registry, controls, ledger, makers, chosen, standing, pinned=bundle is not None, challenger=limits.shadow
        )
        stack.callback(succession.stop)
        scorer = Scorer(
            makers.recovery(chosen, ledger),
            makers.judge(chosen, standing),
            ledger,
            Admission(reader, now_us, limits.max_ahead_us, card_numbers(limits, manifest.schema_, key)),
            now_us,
            deadline_s,
        )
        snapshots = None if settings.state.engine != "embedded" else _snapshots(config, limits, succession, ledger)
        yield Decider(chosen, registry, controls, reader, ledger, succession, scorer, snapshots)


def card_numbers(limits: ServeConfig, schema: Schema, key: bytes) -> CardNumbers | None:
    """Return what `[serve] pan` says of raw card numbers; None where they are let through.

    Raises:
        ConfigError: It names a column that is not there, or needs a key that there is none of.
    """
    if limits.pan == "allow":
        return None
    columns = limits.pan_columns if limits.pan_columns is not None else (TRANSACTION_ID, *schema.entities)
    unknown = [name for name in columns if name not in schema.columns]
    if unknown:
        raise ConfigError("bad_config", f"[serve] pan_columns: the schema has no column {', '.join(unknown)}")
    if limits.pan == "hash" and not keeps_state():
        raise ConfigError(
            "no_hash_key", f'[serve] pan = "hash" needs a key that stays the same: set {HASH_KEY_VARIABLE}'
        )
    return CardNumbers(columns, key if limits.pan == "hash" else None)


def _makers(settings: Config, reader: TransactionReader, key: bytes) -> Makers:
    def policy(bundle: Bundle, standing: Standing) -> Policy:
        return policy_of(bundle, reader, standing.entries, standing.rules)

    card = settings.evaluate.card
    return Makers(
        judge=lambda bundle, standing: judge_of(bundle, policy(bundle, standing)),
        policy=policy,
        plan=plan_of,
        recovery=lambda bundle, ledger: recovery_of(settings, plan_of(bundle), reader, ledger, key),
        follow=lambda: open_ledger(settings, write=False),
        trial=lambda judge, share: Trial(judge, share, card if card in reader.schema.entities else None, reader.key),
    )


def _snapshots(config: Path | None, limits: ServeConfig, succession: Succession, ledger: Ledger) -> Snapshots | None:
    if not keeps_state():
        return None
    options = [] if config is None else ["--config", str(config)]

    def command() -> Sequence[str]:
        return (sys.executable, "-m", "tollgate", "backfill", *options, "--bundle", succession.bundle)

    return Snapshots(command, limits.snapshot_every_s, lambda: ledger.transactions)
