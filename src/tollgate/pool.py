"""The training pool: what the ledger's transactions turned out to be, with the features that each was decided on.

A label counts once it is mature: once its source does not take it back any more. A transaction without a label counts
as good when it is old enough, unless it was blocked: nobody will ever complain of a payment that was not made.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from tollgate.codec import missing, text_of
from tollgate.collection import Collection
from tollgate.config import LabelConfig
from tollgate.dataset import Dataset
from tollgate.decision import Outcome, outcome_of
from tollgate.errors import InputError
from tollgate.features import FeaturePlan
from tollgate.hashing import category_codes
from tollgate.intake import TransactionReader
from tollgate.label import LabelSource
from tollgate.ledger import Ledger, Replayed, Verdicts
from tollgate.recovery import Recovery
from tollgate.schema import Kind
from tollgate.transaction import Batch

NOBODY = -1  # the source of no label
MOST_TEXTS = 1000  # of a category column that keep their text

Bools = NDArray[np.bool_]
Times = NDArray[np.int64]


_READ_BODY = msgspec.json.Decoder(dict[str, object]).decode


class _Matured(NamedTuple):
    """Of N transactions: which are fraud, since when that counts, who says so, which count, and which will do so."""

    is_fraud: Bools
    available_us: Times
    sources: NDArray[np.int64]
    rows: Bools
    waits: Bools


class Pool:
    """The ledger as something to learn from.

    Attributes:
        left_out: How many transactions were left out: `unlabelled`, `immature` or `blocked`; known after `dataset`.
        late: How often a transaction came after a newer one of its entity; likewise.
        texts: Of category codes, the most frequent ones; likewise.
        sources: Whose label each row of the dataset has, int64 (N,): a place in `tuple(LabelSource)`, or `NOBODY`;
            likewise.
        waiting_us: Effective times of those left out because it is not known yet what they are, int64 (M,); likewise.
    """

    def __init__(self, ledger: Ledger, plan: FeaturePlan, reader: TransactionReader, config: LabelConfig) -> None:
        """Say what to learn from.

        Args:
            ledger: What was recorded.
            plan: The features.
            reader: Reads recorded transactions back.
            config: When a label is mature.
        """
        self._ledger = ledger
        self._plan = plan
        self._reader = reader
        self._maturity_us = np.array([config.maturity.of_us(source) for source in LabelSource], dtype=np.int64)
        self._good_after_us = config.good_after_us
        self.left_out: Counter[str] = Counter()
        self.late = 0
        self.texts: dict[float, str] = {}
        self.sources: NDArray[np.int64] = np.empty(0, dtype=np.int64)
        self.waiting_us: Times = np.empty(0, dtype=np.int64)

    @property
    def rows(self) -> int:
        """How many transactions there are, labelled or not."""
        return self._ledger.transactions

    def dataset(
        self,
        card: str,
        now_us: int,
        progress: Callable[[int], None] = lambda _rows: None,
        max_bytes: int = sys.maxsize,
    ) -> Dataset:
        """Return the transactions with a mature label, in order of arrival; `available_us` is when it had matured.

        Args:
            card: The entity that stands for the card in the measures.
            now_us: Labels that are known or mature later are not there, microseconds since 1970-01-01 UTC.
            progress: Told how many transactions were read since the last call.
            max_bytes: Of features in memory; more go to a file.

        Raises:
            InputError: None has a mature label, or the schema has no entity `card`.
            LedgerError: The ledger could not be read.
        """
        collection = Collection(self._plan, card, max_bytes)
        verdicts = self._ledger.verdicts(now_us)
        texts = _Texts(self._reader)
        self.left_out.clear()
        sources: list[NDArray[np.int64]] = []
        waiting_us: list[Times] = []
        position = 0

        def take(part: Sequence[Replayed], batch: Batch, features: NDArray[np.float64]) -> None:
            nonlocal position
            found = self._matured(part, batch, position + 1, verdicts, now_us)
            collection.add(batch, features, found.rows, found.is_fraud, found.available_us)
            sources.append(found.sources[found.rows])
            waiting_us.append(batch.time_us[found.waits])
            texts.count(part)
            position += len(part)
            progress(len(part))

        self.late = Recovery(self._plan, self._reader, self._ledger).replay(take).engine.late
        self.texts = texts.most_frequent()
        self.sources = np.concatenate((self.sources[:0], *sources))
        self.waiting_us = np.concatenate((self.waiting_us[:0], *waiting_us))
        dataset = collection.dataset()
        if dataset is None:
            why = ", ".join(f"{count} {name}" for name, count in self.left_out.items()) or "no transactions"
            raise InputError(
                "no_rows", f"expected transactions with mature labels in {self._ledger.url}, but there are {why}"
            )
        return dataset

    def _matured(self, part: Sequence[Replayed], batch: Batch, first: int, verdicts: Verdicts, now_us: int) -> _Matured:
        """Return what N transactions from number `first` on turned out to be."""
        n = len(part)
        sources = np.full(n, NOBODY, dtype=np.int64)
        is_fraud = np.zeros(n, dtype=np.bool_)
        available_us = batch.time_us + (0 if self._good_after_us is None else self._good_after_us)
        labelled = np.zeros(n, dtype=np.bool_)
        chosen = slice(*np.searchsorted(verdicts.number, (first, first + n)).tolist())
        at = verdicts.number[chosen] - first
        known_us, source = verdicts.available_us[chosen], verdicts.source[chosen]
        labelled[at] = True
        sources[at] = source
        is_fraud[at] = verdicts.is_fraud[chosen]
        available_us[at] = np.maximum(known_us, batch.time_us[at]) + self._maturity_us[source]
        for row, identifier in enumerate(batch.ids if verdicts.old else ()):
            if identifier in verdicts.old:
                is_fraud[row], known, strength = verdicts.old[identifier]
                labelled[row], sources[row] = True, strength
                available_us[row] = max(known, int(batch.time_us[row])) + self._maturity_us[strength]
        blocked = np.array([_is_blocked(one) for one in part], dtype=np.bool_) & ~labelled
        unlabelled = ~labelled & ~blocked if self._good_after_us is None else np.zeros(n, dtype=np.bool_)
        immature = (available_us > now_us) & ~blocked & ~unlabelled
        for name, rows in (("blocked", blocked), ("unlabelled", unlabelled), ("immature", immature)):
            if rows.any():
                self.left_out[name] += int(np.count_nonzero(rows))
        waits = unlabelled | immature
        return _Matured(is_fraud, available_us, sources, ~(blocked | waits), waits)


def _is_blocked(one: Replayed) -> bool:
    return one.answer is not None and outcome_of(one.answer) is Outcome.BLOCK


class _Texts:
    """Counts the texts of category columns."""

    def __init__(self, reader: TransactionReader) -> None:
        schema = reader.schema
        categories = (name for name, column in schema.columns.items() if column.kind is Kind.CATEGORY)
        self._counts: dict[str, Counter[object]] = {schema.sources(name)[0]: Counter() for name in categories}

    def count(self, part: Sequence[Replayed]) -> None:
        """Count those of some transactions."""
        bodies = [_READ_BODY(one.body) for one in part] if self._counts else []
        for source, counts in self._counts.items():
            counts.update([body.get(source) for body in bodies])

    def most_frequent(self) -> dict[float, str]:
        """Return the texts by their codes, of each column the most frequent."""
        texts: dict[float, str] = {}
        for counts in self._counts.values():
            values = [text_of(value) for value, _ in counts.most_common(MOST_TEXTS) if not missing(value)]
            texts |= dict(zip(category_codes(values).tolist(), values, strict=True))
        return texts
