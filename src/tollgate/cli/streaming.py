"""`tollgate stream`."""

from __future__ import annotations

import logging
import os
import re
import secrets
import sys
import threading
import time
from pathlib import Path

import msgspec
import typer

from tollgate.cli.deciding import deciding
from tollgate.cli.wiring import OUT, now_us, open_bundle, open_config
from tollgate.config import Config, StreamConfig
from tollgate.errors import ConfigError
from tollgate.redaction import redact
from tollgate.serve.asynchronous import asynchronous
from tollgate.serve.internal import InternalApp
from tollgate.serve.listening import Port, Server, serve_forever
from tollgate.serve.logs import Logs
from tollgate.serve.openapi import internal_document
from tollgate.stream.outbox import Outbox
from tollgate.stream.schemas import stream_schemas
from tollgate.stream.service import StreamService
from tollgate.stream.sorting import Sorting
from tollgate.stream.subscription import Subscription
from tollgate.stream.worker import Parts

_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")


def stream(config: Path | None, bundle: str | None, internal_port: int | None, schemas: bool) -> None:
    """Decide what comes until told to stop, or print the schemas; the options are those of the command."""
    settings = open_config(config)
    if schemas:
        _print_schemas(settings, bundle)
        return
    limits = settings.serve
    kafka = _filled(settings.stream)
    logs = Logs(sys.stderr, redact, limits.log_level)
    logging.captureWarnings(capture=True)
    stopping = threading.Event()
    subscription, outbox = Subscription(kafka), Outbox(kafka, stopping.is_set, time.monotonic)
    with deciding(config, settings, bundle, limits, kafka.deadline_s) as one:
        parts = Parts(
            one.reader, one.scorer, one.ledger, subscription, outbox, Sorting(one.reader, kafka), kafka.topics,
            limits.pan != "allow",
        )  # fmt: skip
        service = StreamService(
            parts, one.succession, one.snapshots, stopping, kafka.deadline_s, now_us, time.monotonic
        )
        internal = InternalApp(
            one.registry, one.controls, lambda: one.succession.keys, service.metrics, logs, internal_document,
            service.health.respond, now_us, service.desk.take,
        )  # fmt: skip
        port = limits.internal_port if internal_port is None else internal_port
        server = Server(
            (Port(asynchronous(internal.respond), limits.internal_host, port),), id_prefix=f"{secrets.token_hex(4)}-"
        )

        def announce(url: str) -> None:
            OUT.print(f"streaming {kafka.topics.transactions} from {kafka.bootstrap}", soft_wrap=True, highlight=False)
            OUT.print(f"for operators: {url} (GET /metrics, GET /health)", soft_wrap=True, highlight=False)

        serve_forever(server, announce, service.start, service.stop)
        if service.worker.failure is not None:
            raise service.worker.failure


def _print_schemas(settings: Config, bundle: str | None) -> None:
    manifest = open_bundle(settings, bundle).manifest
    found = stream_schemas(manifest.schema_, manifest.money, settings.stream.topics)
    typer.echo(msgspec.json.format(msgspec.json.encode(found), indent=2))


def _filled(settings: StreamConfig) -> StreamConfig:
    """Return the settings with `${NAME}` in the client's texts replaced from the environment: no secret in a file.

    Raises:
        ConfigError: A name is not set there.
    """

    def fill(found: re.Match[str]) -> str:
        name = found[1]
        if name not in os.environ:
            raise ConfigError("bad_config", f"[stream]: expected {name} in the environment, but it is not set")
        return os.environ[name]

    return msgspec.structs.replace(
        settings,
        **{
            table: {
                key: _VARIABLE.sub(fill, value) if isinstance(value, str) else value
                for key, value in getattr(settings, table).items()
            }
            for table in ("client", "consumer", "producer")
        },
    )
