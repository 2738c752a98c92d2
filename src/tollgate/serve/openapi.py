"""The HTTP interface as OpenAPI 3.1, made from the schema that the server reads."""

from __future__ import annotations

import http
from typing import Any

import msgspec

from tollgate import __version__
from tollgate.config import ServeConfig
from tollgate.decision import Decision
from tollgate.label import Label, Labelled
from tollgate.labelling import MAX_LABELS
from tollgate.money import Money
from tollgate.schema import Schema
from tollgate.serve.fields import Json, example, transaction_schema
from tollgate.serve.logs import LEVELS
from tollgate.serve.refusals import INTERNAL, LABELS, PUBLIC, Status

_REF = "#/components/schemas/{name}"
_KEYED: list[dict[str, list[str]]] = [{"bearer": []}, {"api_key": []}, {}]  # the last: a server without keys is open
_HEALTH = {"/health": "What is counted.", "/health/live": "Whether it runs.", "/health/ready": "Whether it decides."}
_BUNDLE_ID = {"type": "string", "pattern": "^[0-9a-f]{16}$"}


def public_document(schema: Schema, money: Money, limits: ServeConfig) -> bytes:
    """Return the OpenAPI document of the public port, as JSON.

    Args:
        schema: Of the champion's transactions.
        money: Its base currency and rates.
        limits: Of bodies and arrays.
    """
    one = {"$ref": _REF.format(name="Transaction")}
    decision = {"$ref": _REF.format(name="Decision")}
    sent = example(schema, money)
    body = {"oneOf": [one, {"type": "array", "items": one, "maxItems": limits.max_transactions}]}
    answer = {"oneOf": [decision, {"type": "array", "items": decision}]}
    operation = {
        "operationId": "predict",
        "tags": ["decisions"],
        "summary": "Decide one transaction, or an array of them.",
        "description": (
            "Each decision is in the ledger before it is answered. A transaction_id that was decided before gets that "
            "decision again and counts nothing, so a request without an answer may be sent again. Nothing of an array "
            f"is decided where one transaction of it is refused. A body has at most {limits.max_body_bytes} bytes."
        ),
        "security": _KEYED,
        "parameters": [{"$ref": "#/components/parameters/RequestId"}],
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {
                    "schema": body,
                    "examples": {"one": {"value": sent}, "array": {"value": [sent]}},
                }
            },
        },
        "responses": {
            "200": _answer("The decision, or the decisions in the order of the array.", answer, _decided(schema, sent))
        }
        | _refusals(PUBLIC),
    }
    schemas = {"Transaction": transaction_schema(schema, money) | {"examples": [sent]}, **_decision_schemas()}
    return _document("Tollgate", {"/predict": {"post": operation}, **_health_paths()}, schemas)


def internal_document() -> bytes:
    """Return the OpenAPI document of the internal port, as JSON."""
    champion = {"type": "object", "required": ["champion"], "properties": {"champion": {"type": ["string", "null"]}}}
    bundles = {
        "type": "object",
        "required": ["champion", "bundles"],
        "properties": {**champion["properties"], "bundles": {"type": "array", "items": _BUNDLE_ID}},  # type: ignore[dict-item]
    }
    level = _only("level", {"enum": list(LEVELS)})
    text = {"type": "string"}
    paths = {
        "/metrics": {
            "get": {
                "operationId": "metrics",
                "tags": ["operations"],
                "summary": "Everything that is counted and measured, for Prometheus.",
                "responses": {
                    "200": {
                        "description": "OpenMetrics where the request asks for it.",
                        "headers": {"X-Request-Id": {"$ref": "#/components/headers/RequestId"}},
                        "content": {"text/plain": {"schema": text}, "application/openmetrics-text": {"schema": text}},
                    }
                },
            }
        },
        "/openapi.json": {"get": _operation("openapi", "The document of the public port.", {"type": "object"})},
        "/bundles": {"get": _operation("bundles", "The bundles, and which is the champion.", bundles, admin=True)},
        "/champion": {
            "put": _operation(
                "promote", "Make a bundle the champion.", champion, _only("bundle", _BUNDLE_ID), admin=True
            )
        },
        "/champion/rollback": {
            "post": _operation("rollback", "Make the champion before this one the champion.", champion, admin=True)
        },
        "/labels": {"post": _labels()},
        "/log-level": {
            "get": _operation("log_level", "The lowest level that is logged.", level, admin=True),
            "put": _operation("set_log_level", "Log from another level on.", level, level, admin=True),
        },
        **_health_paths(),
    }
    _, schemas = msgspec.json.schema_components([Label, Labelled], ref_template=_REF)
    return _document("Tollgate, internal port", paths, dict(schemas))


def _labels() -> Json:
    """Return the operation that takes labels."""
    one, answer = {"$ref": _REF.format(name="Label")}, {"$ref": _REF.format(name="Labelled")}
    sent = {"transaction_id": "t-1", "is_fraud": True, "source": "chargeback", "available_us": 1_767_225_600_000_000}
    said = {"transaction_id": "t-1", "result": "recorded"}
    body = {"oneOf": [one, {"type": "array", "items": one, "maxItems": MAX_LABELS}]}
    examples = {"one": {"value": sent}, "array": {"value": [sent]}}
    answers = {"oneOf": [answer, {"type": "array", "items": answer}]}
    return {
        "operationId": "label",
        "tags": ["labels"],
        "summary": "Record one label, or an array of them.",
        "description": (
            "Each label is durable before the answer, and moves the features of the next transaction that is at or "
            "after available_us. The same label again changes nothing. Labels of an array stand each for itself: the "
            "answer says in their order what became of them. With keys, one of scope `label`."
        ),
        "security": _KEYED,
        "parameters": [{"$ref": "#/components/parameters/RequestId"}],
        "requestBody": {"required": True, "content": {"application/json": {"schema": body, "examples": examples}}},
        "responses": {"200": _answer("What became of the label, or of each.", answers, said)} | _refusals(LABELS),
    }


def _only(name: str, field: Json) -> Json:
    return {"type": "object", "required": [name], "properties": {name: field}, "additionalProperties": False}


def _document(title: str, paths: Json, schemas: Json) -> bytes:
    document = {
        "openapi": "3.1.0",
        "info": {"title": title, "version": __version__, "license": {"name": "Apache 2.0", "identifier": "Apache-2.0"}},
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {
            "schemas": {**schemas, "Error": _ERROR},
            "headers": {
                "RequestId": {"description": "Names the request in the logs.", "schema": {"type": "string"}},
                "RetryAfter": {"description": "Seconds to wait.", "schema": {"type": "integer", "minimum": 0}},
            },
            "parameters": {
                "RequestId": {
                    "name": "X-Request-Id",
                    "in": "header",
                    "description": "Names the request in the logs and in the answer; a new name without it.",
                    "schema": {"type": "string"},
                }
            },
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "api_key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
            },
        },
    }
    return msgspec.json.encode(document)


_ERROR: Json = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["code", "message"],
            "properties": {
                "code": {"type": "string", "description": "Stable, for machines."},
                "message": {"type": "string", "description": "What was expected, what came, what to do."},
                "row": {"type": "integer", "minimum": 0, "description": "Which of an array."},
                "column": {"type": "string", "description": "Of the schema."},
            },
        }
    },
}


def _decision_schemas() -> Json:
    _, schemas = msgspec.json.schema_components([Decision], ref_template=_REF)
    return dict(schemas)


def _decided(schema: Schema, sent: Json) -> Json:
    identifier = sent[schema.sources("transaction_id")[0]]
    decision: Json = msgspec.to_builtins(
        msgspec.convert(
            {
                "transaction_id": identifier,
                "outcome": "approve",
                "score": 0.0123,
                "confidence": 0.98,
                "mode": "normal",
                "reasons": [],
                "missing": [],
                "bundle": "0123456789abcdef",
            },
            Decision,
        )
    )
    return decision


def _answer(means: str, schema: Json, shown: Any = None) -> Json:
    content: Json = {"schema": schema}
    if shown is not None:
        content["example"] = shown
    return {
        "description": means,
        "headers": {"X-Request-Id": {"$ref": "#/components/headers/RequestId"}},
        "content": {"application/json": content},
    }


def _refusals(statuses: dict[int, Status]) -> Json:
    """Return the responses of all refusals, one for each status, with its codes as examples."""
    responses: Json = {}
    for status, what in statuses.items():
        answer = _answer(f"{http.HTTPStatus(status).phrase}. {what.means}", {"$ref": _REF.format(name="Error")})
        answer["content"]["application/json"]["examples"] = {
            code: {"summary": when, "value": {"error": {"code": code, "message": when}}}
            for code, when in what.codes.items()
        }
        if what.retry:
            answer["headers"]["Retry-After"] = {"$ref": "#/components/headers/RetryAfter"}
        responses[str(status)] = answer
    return responses


def _operation(name: str, summary: str, answer: Json, body: Json | None = None, *, admin: bool = False) -> Json:
    operation: Json = {
        "operationId": name,
        "tags": ["operations"],
        "summary": summary,
        "responses": {"200": _answer(summary, answer)} | _refusals(INTERNAL if admin else {}),
    }
    if admin:
        operation |= {"security": _KEYED, "description": "With keys, one of scope `admin`."}
    if body is not None:
        operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": body}}}
    return operation


def _health_paths() -> Json:
    status = {"type": "object", "required": ["status"], "properties": {"status": {"type": "string"}}}
    paths: Json = {}
    for path, summary in _HEALTH.items():
        operation = _operation(path.strip("/").replace("/", "_"), summary, status)
        operation["tags"] = ["health"]
        if path == "/health/ready":
            operation["responses"]["503"] = _answer("It does not decide now.", status)
        paths[path] = {"get": operation}
    return paths
