"""`tollgate backfill`."""

from __future__ import annotations

from typing import Annotated

import msgspec
import typer

from tollgate.cli.wiring import (
    HASH_KEY_VARIABLE,
    OUT,
    BundleOption,
    ConfigOption,
    hash_key,
    open_bundle,
    open_config,
    plan_of,
    progress_bar,
    remote_of,
    snapshots_of,
)
from tollgate.config import Config
from tollgate.errors import ConfigError
from tollgate.intake import TransactionReader
from tollgate.ledger import Ledger
from tollgate.recovery import Recovery

_TIMEOUT_MS = 5000


def backfill(
    config: ConfigOption = None,
    bundle: BundleOption = None,
    anew: Annotated[
        bool, typer.Option("--anew", help="Remove a shared state first, for all servers that share it.")
    ] = False,
) -> None:
    """Compute the feature state of a bundle from the ledger, while a server with another one goes on deciding.

    The server that is then started with the bundle takes the state up where this left off. A shared state gets what the
    ledger has and it has not.
    """
    settings = open_config(config)
    chosen = open_bundle(settings, bundle)
    plan, key = plan_of(chosen), hash_key()
    remote = remote_of(_patient(settings), key)
    snapshots = snapshots_of(settings, plan, key)
    if snapshots is None:
        raise ConfigError(
            "no_hash_key",
            f"expected the secret that the server hashes entities under in {HASH_KEY_VARIABLE}: a kept state is "
            "of use only under the same key",
        )
    reader = TransactionReader(chosen.manifest.schema_, chosen.manifest.money, key)
    with Ledger(settings.ledger.url, write=False) as ledger, progress_bar() as progress:
        task = progress.add_task("backfilling", total=ledger.transactions)
        recovery = Recovery(plan, reader, ledger, snapshots, remote)
        arrivals = recovery.recover(lambda done, total: progress.update(task, completed=done, total=total), anew=anew)
        recovery.save(arrivals)
        arrivals.engine.close()
    where = snapshots.path if remote is None else ", ".join(settings.state.redis.urls)
    OUT.print(
        f"{where} holds the state of bundle {chosen.id} after {arrivals.engine.observed} transactions",
        soft_wrap=True,
        highlight=False,
    )


def _patient(settings: Config) -> Config:
    """Return the settings with more time for each answer: here no payment waits for one."""
    replace = msgspec.structs.replace
    redis = settings.state.redis
    redis = replace(redis, timeout_ms=max(redis.timeout_ms, _TIMEOUT_MS))
    return replace(settings, state=replace(settings.state, redis=redis))
