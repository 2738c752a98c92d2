"""Labelled history in order of arrival, from a file or from the ledger, and what of it may be known when."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tollgate.decision import Outcome, outcome_of
from tollgate.features import NOT_FRAUD
from tollgate.files import Rejected, Transactions
from tollgate.intake import TransactionReader
from tollgate.ledger import Ledger
from tollgate.ledger.labels import labels_of, verdict_of
from tollgate.ledger.stretches import stretches
from tollgate.transaction import Batch

NEVER_US = np.iinfo(np.int64).max  # when a label comes that cannot come

Times = NDArray[np.int64]


class Past(NamedTuple):
    """The next N transactions.

    Attributes:
        is_fraud: What is known of them today, bool (N,).
        available_us: When that was known, int64 (N,), microseconds since 1970-01-01 UTC; `NEVER_US` for what nobody
            can know.
        fraud_us: When each first became known as fraud, int64 (N,); `NOT_FRAUD` for the others.
        rejected: Rows of a file that could not be used.
    """

    batch: Batch
    is_fraud: NDArray[np.bool_]
    available_us: Times
    fraud_us: Times
    rejected: tuple[Rejected, ...] = ()


def past_of_file(file: Transactions) -> Iterator[Past]:
    """Yield what is in a file that was opened with its labels."""
    for chunk in file.chunks():
        assert chunk.is_fraud is not None
        assert chunk.available_us is not None
        known = np.where(chunk.is_fraud, chunk.available_us, NOT_FRAUD)
        yield Past(chunk.batch, chunk.is_fraud, chunk.available_us, known, chunk.rejected)


def past_of_ledger(ledger: Ledger, reader: TransactionReader, delay_us: int) -> Iterator[Past]:
    """Yield what is in a ledger, archived files first.

    A payment without a label counts as good from one delay after it on; one that was blocked without a label did not
    happen, and nobody can know what it was.

    Args:
        ledger: Any; its writer may be another process.
        reader: Of the schema of the recorded transactions.
        delay_us: How long after a transaction its label has come.

    Raises:
        LedgerError: It could not be read.
        InputError: A recorded transaction is not of the schema.
    """
    for part in stretches(ledger.engine, 0):
        for one in part:
            batch = reader.from_bodies(one.bodies)
            said = labels_of(ledger.engine, one.ids, NEVER_US)
            is_fraud = np.zeros(len(batch), dtype=np.bool_)
            available_us = batch.time_us + delay_us
            fraud_us = np.full(len(batch), NOT_FRAUD)
            for row, (identifier, answer) in enumerate(zip(one.ids, one.answers, strict=True)):
                labels = said.get(identifier)
                if labels:
                    newest = verdict_of(labels)
                    is_fraud[row], available_us[row] = newest.is_fraud, newest.available_us
                    fraud_us[row] = min((label.available_us for label in labels if label.is_fraud), default=NOT_FRAUD)
                elif answer is not None and outcome_of(answer) is Outcome.BLOCK:
                    available_us[row] = NEVER_US
            yield Past(batch, is_fraud, available_us, fraud_us)
