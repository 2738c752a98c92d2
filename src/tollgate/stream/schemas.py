"""The records of every topic as JSON Schema (2020-12), for whoever writes or reads them."""

from __future__ import annotations

from typing import Any

import msgspec

from tollgate.config import TopicsConfig
from tollgate.decision import Decision
from tollgate.label import Label
from tollgate.money import Money
from tollgate.schema import Schema
from tollgate.serve.fields import Json, example, transaction_schema
from tollgate.stream.letters import DeadLetter

_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_DEFS = "#/$defs/{name}"


def stream_schemas(schema: Schema, money: Money, topics: TopicsConfig) -> dict[str, Json]:
    """Return for each topic, by its name, the schema of its records' values.

    Args:
        schema: Of the champion's transactions.
        money: Its base currency and rates.
        topics: Their names.
    """
    transaction = transaction_schema(schema, money)
    decision, definitions = _of(Decision)
    alert = {
        "type": "object",
        "required": ["transaction", "decision"],
        "properties": {"transaction": transaction, "decision": decision},
        "additionalProperties": False,
        "$defs": definitions,
    }
    found = {
        topics.transactions: ("Transaction", transaction | {"examples": [example(schema, money)]}),
        topics.decisions: ("Decision", decision | {"$defs": definitions}),
        topics.alerts: ("Alert", alert),
        topics.dead_letters: ("DeadLetter", _whole(DeadLetter)),
    }
    if topics.labels is not None:
        found[topics.labels] = ("Label", _whole(Label))
    return {topic: {"$schema": _DIALECT, "title": title, **one} for topic, (title, one) in found.items()}


def _of(kind: type[Any]) -> tuple[Json, dict[str, Any]]:
    (schema,), definitions = msgspec.json.schema_components([kind], ref_template=_DEFS)
    return dict(schema), dict(definitions)


def _whole(kind: type[Any]) -> Json:
    schema, definitions = _of(kind)
    return schema | {"$defs": definitions}
