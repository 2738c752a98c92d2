"""All that the scenarios know of the server beside POST /predict; with `audit`, the only one to know its parts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
from prometheus_client.parser import text_string_to_metric_families

from benchmarks.faults.client import Answer, Client
from benchmarks.serving.material import environment, tollgate_command
from benchmarks.serving.process import finished
from tollgate.bundle import MODEL, Bundle, Registry
from tollgate.config import ServeConfig
from tollgate.errors import EXIT_UNAVAILABLE

DEFAULT_DEADLINE_MS = 50
NO_DEADLINE_MS = 20_000  # where answers are compared, a busy machine must not turn one into a degraded one
MAX_WAITING = ServeConfig().max_waiting
REFUSED_EXIT = EXIT_UNAVAILABLE
ERROR_LINE = "error ("
LEDGER_FAILED, OVERLOADED = "ledger_failed", "overloaded"
DAMAGED_BUNDLE = "damaged_bundle"
REBUILT = "rebuild the state from the ledger"
BREAKER = "tollgate_model_breaker_open"
_COMMAND_LIMIT_S = 60.0


def serve_command(config: Path, port: int, internal_port: int) -> list[str]:
    """Return the command that serves on two ports of the loopback interface."""
    ports = ["--port", str(port), "--internal-port", str(internal_port)]
    return tollgate_command("serve", "--config", str(config), *ports)


def serve_table(**wanted: int | str) -> str:
    """Return settings of [serve], as TOML."""
    return "".join(f"{name} = {msgspec.json.encode(value).decode()}\n" for name, value in wanted.items())


def api_key(config: Path, name: str, rate_per_s: int) -> dict[str, str]:
    """Return the header of a new API key in a ledger.

    Raises:
        NotRunError: It could not be made.
    """
    options = ["--name", name, "--scope", "score", "--rate", str(rate_per_s), "--by", "operator"]
    command = tollgate_command("keys", "create", *options, "--config", str(config))
    key = finished(command, "'tollgate keys create'", _COMMAND_LIMIT_S, environment()).strip()
    return {"Authorization": f"Bearer {key}"}


class Health(msgspec.Struct, frozen=True):
    """What GET /health says of counts."""

    ledger_transactions: int
    ledger_index_bytes: int
    features: dict[str, Any] = {}

    @property
    def kept_bytes(self) -> int:
        """Memory of what is kept of the transactions that were decided: histories, and ids."""
        return int(self.features.get("state_bytes", 0)) + self.ledger_index_bytes

    @property
    def observed(self) -> int:
        """Transactions in the feature state."""
        return int(self.features.get("transactions", -1))


def health(client: Client) -> Health:
    """Return the counts of a server."""
    return msgspec.json.decode(client.get("/health").body, type=Health)


def metric(internal: Client, name: str) -> float | None:
    """Return the value of a metric without labels, or None where there is none."""
    text = internal.get("/metrics").body.decode()
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name == name:
                return float(sample.value)
    return None


def promote(internal: Client, bundle_id: str) -> Answer:
    """Ask a running server to make a bundle its champion."""
    return internal.send("PUT", "/champion", msgspec.json.encode({"bundle": bundle_id}))


def document(internal: Client) -> dict[str, Any]:
    """Return the OpenAPI document of the public port."""
    found: dict[str, Any] = msgspec.json.decode(internal.get("/openapi.json").body)
    return found


def champion(registry: Path) -> Bundle:
    """Return the bundle that decides."""
    return Registry(registry).load()


def store_another(registry: Path, model: bytes | None = None) -> Bundle:
    """Store the champion once more, with another model if one is given, as a bundle that nobody has promoted yet."""
    bundle = champion(registry)
    made = msgspec.structs.replace(bundle.manifest, created_us=bundle.manifest.created_us + 1)
    found = Registry(registry).store(made, {MODEL: bundle.read(MODEL) if model is None else model})
    return Registry(registry).load(found)


def point_at(registry: Path, bundle_id: str) -> None:
    """Make a bundle the champion behind the server's back, whether it can be loaded or not."""
    (registry / "champion.json").write_bytes(msgspec.json.encode({"history": [bundle_id]}))
