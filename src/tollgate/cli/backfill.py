"""`tollgate backfill`."""

from __future__ import annotations

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
    snapshots_of,
)
from tollgate.errors import ConfigError
from tollgate.intake import TransactionReader
from tollgate.ledger import Ledger
from tollgate.recovery import Recovery


def backfill(config: ConfigOption = None, bundle: BundleOption = None) -> None:
    """Compute the feature state of a bundle from the ledger, while a server with another one goes on deciding.

    The server that is then started with the bundle takes the state up where this left off.
    """
    settings = open_config(config)
    chosen = open_bundle(settings, bundle)
    plan, key = plan_of(chosen), hash_key()
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
        recovery = Recovery(plan, reader, ledger, snapshots)
        arrivals = recovery.recover(lambda done, total: progress.update(task, completed=done, total=total))
        recovery.save(arrivals)
    OUT.print(
        f"{snapshots.path} holds the state of bundle {chosen.id} after {arrivals.engine.observed} transactions",
        soft_wrap=True,
        highlight=False,
    )
