"""`tollgate serve`."""

from __future__ import annotations

import logging
import secrets
import sys
import time
from contextlib import ExitStack
from typing import Annotated

import msgspec
import typer

from tollgate.cli.deciding import deciding
from tollgate.cli.reviewing import reviewing
from tollgate.cli.wiring import (
    ERR,
    OUT,
    BundleOption,
    ConfigOption,
    now_us,
    open_config,
)
from tollgate.config import ServeConfig
from tollgate.keys import check_exposure
from tollgate.redaction import redact
from tollgate.serve.asynchronous import asynchronous
from tollgate.serve.internal import InternalApp
from tollgate.serve.limits import Limits
from tollgate.serve.listening import Port, Server, serve_forever
from tollgate.serve.logs import Logs
from tollgate.serve.openapi import public_document
from tollgate.serve.service import Service
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
    tls = tls_context(limits.tls_cert, limits.tls_key)
    with deciding(config, settings, bundle, limits, limits.deadline_s) as one, ExitStack() as stack:
        warning = check_exposure(limits.host, one.succession.keys, allowed=limits.open)
        manifest = one.bundle.manifest
        service = Service(
            one.reader, one.scorer, one.ledger, one.succession, one.snapshots, limits, now_us, time.monotonic
        )
        follower, review = stack.enter_context(reviewing(settings, one, service))
        internal = InternalApp(
            one.registry, one.controls, lambda: one.succession.keys, service.metrics, logs,
            lambda: public_document(manifest.schema_, manifest.money, limits), service.health.respond, now_us,
            service.desk.take, review.respond,
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
        stack.enter_context(follower.running())
        serve_forever(server, _Announcement(one.bundle.id), service.start, service.stop)


class _Announcement:
    """Says where what is served; the public port comes first."""

    def __init__(self, bundle: str) -> None:
        self._lines = iter(
            (
                f"serving bundle {bundle} on {{url}} (POST /predict, GET /health)",
                "for operators: {url} (GET /metrics, GET /openapi.json, cases under /review)",
            )
        )

    def __call__(self, url: str) -> None:
        OUT.print(next(self._lines).format(url=url), soft_wrap=True, highlight=False)


def _overridden(limits: ServeConfig, **options: str | int | None) -> ServeConfig:
    """Return the limits with what the command line says; where it takes a free port, it takes two."""
    if options["port"] == 0 and options["internal_port"] is None:
        options["internal_port"] = 0
    return msgspec.structs.replace(limits, **{name: value for name, value in options.items() if value is not None})
