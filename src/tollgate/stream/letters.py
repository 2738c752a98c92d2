"""What is produced besides decisions: alerts, for people and case systems, and dead letters, for whoever mends them."""

from __future__ import annotations

from base64 import b64encode
from typing import Literal

import msgspec

from tollgate.errors import TollgateError
from tollgate.redaction import hide_card_numbers
from tollgate.stream.record import Record

MAX_KEPT_BYTES = 2**16  # of a value: written as JSON it is at most six times as long, and a broker takes a MiB


class DeadLetter(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A record that could not be used, why, and where it is.

    Attributes:
        code: Stable name of what is wrong, as the HTTP interface has it.
        message: What was expected, what came, what to do.
        column: Of the schema, where one is to blame.
        topic: Where the record came from.
        partition: Of the topic.
        offset: In the partition.
        timestamp_ms: Of the record, milliseconds since 1970-01-01 UTC; 0 where it has none.
        key: Of the record, as text.
        value: What it held; null for a record without a value.
        encoding: Of the value: as it is, or base64 of what is no UTF-8.
        cut: Whether the value is only the beginning of what came.
        hidden: Whether card numbers were taken out of key or value.
    """

    code: str
    message: str
    column: str | None
    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    key: str | None
    value: str | None
    encoding: Literal["utf-8", "base64"]
    cut: bool
    hidden: bool


def dead_letter(record: Record, error: TollgateError, *, hide: bool) -> bytes:
    """Return the dead letter of a record, as JSON.

    Args:
        record: What came.
        error: Why it cannot be used.
        hide: Take out what looks like a raw card number.
    """
    raw = record.value[:MAX_KEPT_BYTES] if record.value is not None else None
    cut = raw is not None and len(raw) < len(record.value or b"")
    key = None if record.key is None else record.key[:MAX_KEPT_BYTES].decode("utf-8", "replace")
    value, encoding = _text(raw, cut=cut)
    shown_key, shown = key, value
    if hide:
        shown_key, shown = _hidden(key), _hidden(value)
        if encoding == "base64" and raw is not None:
            text = raw.decode("latin-1")
            shown = value if hide_card_numbers(text) == text else ""
    return msgspec.json.encode(
        DeadLetter(
            code=error.code,
            message=hide_card_numbers(error.message) if hide else error.message,
            column=error.where.get("column"),
            topic=record.topic,
            partition=record.partition,
            offset=record.offset,
            timestamp_ms=record.timestamp_ms,
            key=shown_key,
            value=shown,
            encoding=encoding,
            cut=cut,
            hidden=(shown_key, shown) != (key, value),
        )
    )


def alert(transaction: bytes, decision: bytes) -> bytes:
    """Return the alert of a transaction that is held or blocked: both JSON, as the ledger has them."""
    return b'{"transaction":' + transaction + b',"decision":' + decision + b"}"


def _text(raw: bytes | None, *, cut: bool) -> tuple[str | None, Literal["utf-8", "base64"]]:
    if raw is None:
        return None, "utf-8"
    try:
        return raw.decode(), "utf-8"
    except UnicodeDecodeError as error:
        if cut and error.start > len(raw) - 4:  # the cut went through a character
            return raw[: error.start].decode(), "utf-8"
        return b64encode(raw).decode("ascii"), "base64"


def _hidden(text: str | None) -> str | None:
    return None if text is None else hide_card_numbers(text)
