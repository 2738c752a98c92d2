"""`tollgate serve`."""

from __future__ import annotations

import logging
import secrets
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from tollgate.admission import Admission, CardNumbers
from tollgate.bundle import Bundle, Registry
from tollgate.cli.wiring import (
    ERR,
    HASH_KEY_VARIABLE,
    OUT,
    BundleOption,
    ConfigOption,
    hash_key,
    judge_of,
    keeps_state,
    now_us,
    open_bundle,
    open_config,
    plan_of,
    policy_of,
    snapshots_of,
)
from tollgate.config import Config, ServeConfig
from tollgate.errors import ConfigError
from tollgate.intake import TransactionReader
from tollgate.keys import check_exposure
from tollgate.ledger import Ledger
from tollgate.ledger.controls import Controls
from tollgate.policy import Policy
from tollgate.recovery import Recovery
from tollgate.redaction import redact
from tollgate.schema import TRANSACTION_ID, Schema
from tollgate.scorer import Scorer
from tollgate.serve.asynchronous import asynchronous
from tollgate.serve.internal import InternalApp
from tollgate.serve.limits import Limits
from tollgate.serve.listening import Port, Server, serve_forever
from tollgate.serve.logs import Logs
from tollgate.serve.openapi import public_document
from tollgate.serve.service import Service
from tollgate.serve.snapshots import Snapshots
from tollgate.serve.succession import Makers, Standing, Succession
from tollgate.serve.tls import tls_context

SWITCH_S = 0.0005  # how long one thread computes while another waits: Python's default of 5 ms is a tail latency


def serve(
    config: ConfigOption = None,
    bundle: BundleOption = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on; [serve] host by default.")] = None,
    port: Annotated[int | None, typer.Option(help="Port; [serve] port by default, 0 takes a free one.")] = None,
    internal_port: Annotated[
        int | None, typer.Option(help="Port for operators; [serve] internal_port by default, 0 takes a free one.")
    ] = None,
    shadow: Annotated[
        str | None, typer.Option(help="Content id of a bundle that scores beside the champion and is only recorded.")
    ] = None,
) -> None:
    """Answer POST /predict with decisions, each in the ledger before it is answered.

    The champion, lists, rules and keys are followed while it runs. With --bundle, that bundle decides until it ends.
    """
    settings = open_config(config)
    limits = _overridden(settings.serve, host=host, port=port, internal_port=internal_port, shadow=shadow)
    logs = Logs(sys.stderr, redact, limits.log_level)
    logging.captureWarnings(capture=True)
    registry = Registry(Path(settings.bundles))
    chosen = open_bundle(settings, bundle)
    tls = tls_context(limits.tls_cert, limits.tls_key)
    key = hash_key()
    manifest = chosen.manifest
    reader = TransactionReader(manifest.schema_, manifest.money, key)
    with ExitStack() as stack:
        controls = stack.enter_context(closing(Controls(settings.ledger.url)))
        standing = Standing.read(controls)
        warning = check_exposure(limits.host, standing.keys, allowed=limits.open)
        ledger = stack.enter_context(closing(Ledger(settings.ledger.url, settings.ledger.durability)))
        makers = _makers(settings, reader, key)
        succession = Succession(
            registry, controls, ledger, makers, chosen, standing, pinned=bundle is not None, challenger=limits.shadow
        )
        stack.callback(succession.stop)
        scorer = Scorer(
            makers.recovery(chosen, ledger),
            makers.judge(chosen, standing),
            ledger,
            Admission(reader, now_us, limits.max_ahead_us, _card_numbers(limits, manifest.schema_, key)),
            now_us,
            limits.deadline_s,
        )
        snapshots = _snapshots(config, limits, succession, ledger)
        service = Service(reader, scorer, ledger, succession, snapshots, limits, now_us, time.monotonic)
        internal = InternalApp(
            registry, controls, lambda: succession.keys, service.metrics, logs,
            lambda: public_document(manifest.schema_, manifest.money, limits), service.health.respond, now_us,
        )  # fmt: skip
        if warning:
            ERR.print(f"[yellow]{warning}[/yellow]", soft_wrap=True, highlight=False)
        wire_limits = Limits(max_body_bytes=limits.max_body_bytes, max_connections=limits.max_connections)
        server = Server(
            (
                Port(service.app, limits.host, limits.port, tls, wire_limits, service.metrics.answered),
                Port(asynchronous(internal.respond), limits.internal_host, limits.internal_port),
            ),
            id_prefix=f"{secrets.token_hex(4)}-",
        )
        sys.setswitchinterval(SWITCH_S)
        serve_forever(server, _Announcement(chosen.id), service.start, service.stop)


class _Announcement:
    """Says where what is served; the public port comes first."""

    def __init__(self, bundle: str) -> None:
        self._lines = iter(
            (
                f"serving bundle {bundle} on {{url}} (POST /predict, GET /health)",
                "for operators: {url} (GET /metrics, GET /openapi.json)",
            )
        )

    def __call__(self, url: str) -> None:
        OUT.print(next(self._lines).format(url=url), soft_wrap=True, highlight=False)


def _overridden(limits: ServeConfig, **options: str | int | None) -> ServeConfig:
    """Return the limits with what the command line says; where it takes a free port, it takes two."""
    if options["port"] == 0 and options["internal_port"] is None:
        options["internal_port"] = 0
    return msgspec.structs.replace(limits, **{name: value for name, value in options.items() if value is not None})


def _card_numbers(limits: ServeConfig, schema: Schema, key: bytes) -> CardNumbers | None:
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
        return policy_of(bundle, standing.entries, standing.rules, key)

    def recovery(bundle: Bundle, ledger: Ledger) -> Recovery:
        plan = plan_of(bundle)
        return Recovery(plan, reader, ledger, snapshots_of(settings, plan, key))

    return Makers(
        judge=lambda bundle, standing: judge_of(bundle, policy(bundle, standing)),
        policy=policy,
        plan=plan_of,
        recovery=recovery,
        follow=lambda: Ledger(settings.ledger.url, write=False),
    )


def _snapshots(config: Path | None, limits: ServeConfig, succession: Succession, ledger: Ledger) -> Snapshots | None:
    if not keeps_state():
        return None
    options = [] if config is None else ["--config", str(config)]

    def command() -> Sequence[str]:
        return (sys.executable, "-m", "tollgate", "backfill", *options, "--bundle", succession.bundle)

    return Snapshots(command, limits.snapshot_every_s, lambda: ledger.transactions)
