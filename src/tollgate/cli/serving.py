"""`tollgate serve`."""

from __future__ import annotations

import logging
from contextlib import closing
from typing import Annotated

import msgspec
import typer

from tollgate.cli.wiring import (
    OUT,
    BundleOption,
    ConfigOption,
    hash_key,
    judge_of,
    now_us,
    open_bundle,
    open_config,
    plan_of,
    policy_now,
    snapshots_of,
)
from tollgate.intake import TransactionReader
from tollgate.ledger import Ledger
from tollgate.recovery import Recovery
from tollgate.scorer import Scorer
from tollgate.serve import PredictApp
from tollgate.serve import serve as run_server


def serve(
    config: ConfigOption = None,
    bundle: BundleOption = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on; [serve] host by default.")] = None,
    port: Annotated[int | None, typer.Option(help="Port; [serve] port by default, 0 takes a free one.")] = None,
) -> None:
    """Answer POST /predict with decisions, each in the ledger before it is answered."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("alembic").setLevel(logging.WARNING)
    settings = open_config(config)
    chosen = open_bundle(settings, bundle)
    key = hash_key()
    plan, judge = plan_of(chosen), judge_of(chosen, policy_now(settings, chosen, key))
    reader = TransactionReader(chosen.manifest.schema_, chosen.manifest.money, key)
    limits = msgspec.structs.replace(
        settings.serve,
        host=host if host is not None else settings.serve.host,
        port=port if port is not None else settings.serve.port,
    )
    with closing(Ledger(settings.ledger.url, settings.ledger.durability)) as ledger:
        scorer = Scorer(Recovery(plan, reader, ledger, snapshots_of(settings, plan, key)), judge, ledger, now_us)
        app = PredictApp(reader, scorer, ledger, limits, now_us)

        def say(url: str) -> None:
            OUT.print(
                f"serving bundle {chosen.id} on {url} (POST /predict, GET /health)", soft_wrap=True, highlight=False
            )

        run_server(app, limits.host, limits.port, say)
