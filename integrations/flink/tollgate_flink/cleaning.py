"""Records in, records out: each as a transaction that Tollgate will accept, or as a dead letter that says why not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from tollgate.admission import Admission, CardNumbers, Submission
from tollgate.codec import text_or_empty
from tollgate.errors import ConfigError, InputError, MalformedError, TooLargeError
from tollgate.intake import TransactionReader
from tollgate.redaction import hide_card_numbers
from tollgate.rows import Row
from tollgate.schema import Kind, Schema
from tollgate.stream.letters import dead_letter
from tollgate.stream.record import Outgoing, Record
from tollgate_flink.mapping import FieldMapping

_NOBODY_WAITS_S = 0.0  # `arrived_s` of a submission: there is no deadline here


class Cleaning:
    """Makes Tollgate's records out of foreign ones, a batch at a time.

    What the stream worker and the HTTP interface check, their own code checks here, so that nothing that this lets
    through becomes a dead letter there, but for what only the ledger can know.
    """

    def __init__(
        self,
        mapping: FieldMapping,
        reader: TransactionReader,
        admission: Admission,
        key: str,
        topics: tuple[str, str],
        max_record_bytes: int,
        *,
        hide: bool,
    ) -> None:
        """Say how.

        Args:
            mapping: From a record to fields.
            reader: Of the champion's schema.
            admission: What is let through.
            key: The entity column by which transactions are keyed.
            topics: Of transactions, and of dead letters.
            max_record_bytes: A longer record is a dead letter.
            hide: Whether dead letters are without what looks like a raw card number.

        Raises:
            ConfigError: The schema has no such entity.
        """
        self._mapping = mapping
        self._reader = reader
        self._admission = admission
        self._key = reader.attribute(key_source(reader.schema, key))
        self._good, self._bad = topics
        self._max_bytes = max_record_bytes
        self._hide = hide
        self._decode = msgspec.json.Decoder(dict[str, Any]).decode
        self._encode = msgspec.json.Encoder().encode

    def clean(self, records: Sequence[Record]) -> list[Outgoing]:
        """Return for each record, in order, what is produced in its place."""
        rows: list[Row] = []
        places: list[int] = []
        errors: dict[int, InputError] = {}
        for place, record in enumerate(records):
            try:
                rows.append(self._row(record))
                places.append(place)
            except InputError as error:
                errors[place] = error
        submissions = [Submission([row], many=False, arrived_s=_NOBODY_WAITS_S) for row in rows]
        admitted = self._admission.admit(submissions)
        errors |= {places[refused]: error for refused, error in admitted.refused.items()}
        good = {
            place: Outgoing(self._good, self._card(row), body)
            for place, row, body in zip(places, rows, admitted.bodies, strict=True)
            if place not in errors
        }
        return [
            good[place] if place in good else self._letter(record, errors[place])
            for place, record in enumerate(records)
        ]

    def _row(self, record: Record) -> Row:
        if record.value is None:
            raise MalformedError("no_value", "expected a JSON object, but the record has no value")
        if len(record.value) > self._max_bytes:
            raise TooLargeError(
                "record_too_large",
                f"expected at most {self._max_bytes} bytes, but got {len(record.value)}; send less, or raise [kafka] "
                "max_record_bytes",
            )
        try:
            found = self._decode(record.value)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise MalformedError("invalid_json", f"expected a JSON object: {error}") from None
        return self._reader.decode(self._encode(self._mapping.fields(found)))[1][0]

    def _card(self, row: Row) -> bytes | None:
        text = text_or_empty(getattr(row, self._key))
        return text.encode() or None

    def _letter(self, record: Record, error: InputError) -> Outgoing:
        key = record.key
        if self._hide and key is not None:
            text = key.decode("utf-8", "replace")
            shown = hide_card_numbers(text)
            key = key if shown == text else shown.encode()
        return Outgoing(self._bad, key, dead_letter(record, error, hide=self._hide))


def key_source(schema: Schema, key: str) -> str:
    """Return the field of the entity by which transactions are keyed.

    Raises:
        ConfigError: There is no such entity.
    """
    column = schema.columns.get(key)
    if column is None or column.kind is not Kind.ENTITY:
        raise ConfigError("bad_config", f"key: expected an entity out of {', '.join(schema.entities)}, but got {key!r}")
    return schema.sources(key)[0]


def admission_of(
    reader: TransactionReader, columns: tuple[str, ...] | None, clock_us: Callable[[], int], max_ahead_us: int
) -> Admission:
    """Return what lets transactions through.

    Args:
        reader: Of the champion's schema.
        columns: In which raw card numbers are refused; None lets them through.
        clock_us: Observed time, microseconds since 1970-01-01 UTC.
        max_ahead_us: A transaction further ahead of it is refused.
    """
    return Admission(reader, clock_us, max_ahead_us, None if columns is None else CardNumbers(columns))
