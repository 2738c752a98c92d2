"""Polled records, sorted: transactions to be decided, labels to be recorded, and what cannot be used."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from tollgate.admission import Submission
from tollgate.config import StreamConfig
from tollgate.errors import InputError, MalformedError, TollgateError, TooLargeError
from tollgate.intake import TransactionReader
from tollgate.label import Label
from tollgate.labelling import read_label
from tollgate.rows import Row, is_array
from tollgate.stream.record import Record


class Sorted(NamedTuple):
    """What was polled.

    Attributes:
        transactions: The records of transactions that can be read, in order.
        rows: Theirs, one each.
        label_records: The records of labels that can be read, in order.
        labels: What they say, one each.
        refused: Records that cannot be read, and why.
    """

    transactions: list[Record]
    rows: list[Row]
    label_records: list[Record]
    labels: list[Label]
    refused: list[tuple[Record, TollgateError]]

    def submissions(self, arrived_s: float) -> list[Submission]:
        """Return the transactions, each to be decided or refused on its own."""
        return [Submission([row], False, arrived_s) for row in self.rows]


class Sorting:
    """Reads records by the topic that they come from."""

    def __init__(self, reader: TransactionReader, settings: StreamConfig) -> None:
        """Say how transactions are read, and which topic has what."""
        self._reader = reader
        self._labels = settings.topics.labels
        self._max_bytes = settings.max_record_bytes

    def sort(self, records: Sequence[Record]) -> Sorted:
        """Read records; one that cannot be read stops nothing."""
        result = Sorted([], [], [], [], [])
        transactions, rows, labels, most = result.transactions, result.rows, self._labels, self._max_bytes
        for record in records:
            body = record.value
            try:
                if body is None or len(body) > most:
                    raise self._refusal(body)
                if record.topic == labels:
                    result.labels.append(read_label(body))
                    result.label_records.append(record)
                else:
                    rows.append(self._read_transaction(body))
                    transactions.append(record)
            except InputError as error:
                result.refused.append((record, error))
        return result

    def _refusal(self, body: bytes | None) -> InputError:
        if body is None:
            return MalformedError("no_value", "expected JSON, but the record has no value; send what it stands for")
        return TooLargeError(
            "record_too_large",
            f"expected at most {self._max_bytes} bytes, but got {len(body)}; send less, or raise [stream] "
            "max_record_bytes",
        )

    def _read_transaction(self, body: bytes) -> Row:
        if is_array(body):
            self._reader.decode(body)
            raise InputError(
                "not_one", "expected one transaction in a record, but got an array; send each in a record of its own"
            )
        return self._reader.decode_one(body)
