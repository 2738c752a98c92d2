"""What comes in, before it is decided: converted, checked at the edge, and sorted out from what cannot be used."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import msgspec

from tollgate.codec import text_of
from tollgate.duration import SECOND_US
from tollgate.errors import InputError
from tollgate.intake import TransactionReader, check_unique
from tollgate.label import Label
from tollgate.pan import guard, hashed, refusal_of, suspicious
from tollgate.rows import Row
from tollgate.schema import TRANSACTION_ID
from tollgate.transaction import Batch


class Submission(msgspec.Struct, frozen=True, gc=False):
    """Transactions that came together and are answered together.

    Attributes:
        rows: As `TransactionReader.decode` gives them.
        many: Whether they came as an array; errors then name the row.
        arrived_s: When they had come whole, in seconds of the monotonic clock.
    """

    rows: Sequence[Row]
    many: bool
    arrived_s: float


class Admitted(NamedTuple):
    """Submissions as one batch.

    Attributes:
        batch: The N transactions of all submissions, in order; rows of a refused one mean nothing.
        bodies: The N bodies as the ledger keeps them.
        starts: Where the rows of each submission begin, and N at the end.
        refused: By submission: why it cannot be decided.
    """

    batch: Batch
    bodies: Sequence[bytes]
    starts: list[int]
    refused: dict[int, InputError]


@dataclass(frozen=True, slots=True)
class CardNumbers:
    """What happens to texts that look like raw card numbers.

    Attributes:
        columns: Entity and id columns that are looked at.
        key: Secret under which they are hashed; None refuses them.
    """

    columns: tuple[str, ...]
    key: bytes | None = None

    def as_recorded(self, label: Label) -> Label:
        """Return a label with the id under which its transaction is recorded: a raw card number is hashed there."""
        if self.key is None or TRANSACTION_ID not in self.columns or not guard([label.transaction_id]):
            return label
        return msgspec.structs.replace(label, transaction_id=hashed(label.transaction_id, self.key))


class Admission:
    """Makes batches of submissions."""

    def __init__(
        self,
        reader: TransactionReader,
        clock_us: Callable[[], int],
        max_ahead_us: int,
        card_numbers: CardNumbers | None = None,
    ) -> None:
        """Say what is admitted.

        Args:
            reader: Of the schema.
            clock_us: Observed time, microseconds since 1970-01-01 UTC.
            max_ahead_us: A transaction further ahead of it is refused.
            card_numbers: The guard; None lets everything through.
        """
        self._reader = reader
        self._clock_us = clock_us
        self._max_ahead_us = max_ahead_us
        self._card_numbers = card_numbers
        self._guarded = (
            []
            if card_numbers is None
            else [
                (name, reader.attribute(source))
                for name in card_numbers.columns
                for source in reader.schema.sources(name)
            ]
        )

    def admit(self, submissions: Sequence[Submission]) -> Admitted:
        """Return the batch of some submissions."""
        if len(submissions) == 1:
            rows = submissions[0].rows
            starts = [0, len(rows)]
        else:
            rows, starts = [], [0]
            for one in submissions:
                rows += one.rows
                starts.append(len(rows))
        bodies = self._reader.bodies(rows)
        errors: dict[int, InputError] = {}
        if self._guarded:
            errors, changed = self._guard(rows, bodies)
            bodies = self._reader.bodies(rows) if changed else bodies
        converted = self._reader.convert(rows)
        batch = converted.batch
        errors = converted.errors | errors if errors else converted.errors
        self._check_times(batch, errors)
        refused = (
            {} if not errors and len(rows) == len(submissions) else self._refused(submissions, starts, batch, errors)
        )
        return Admitted(batch, bodies, starts, refused)

    def as_recorded(self, label: Label) -> Label:
        """Return a label with the id under which its transaction is recorded."""
        return label if self._card_numbers is None else self._card_numbers.as_recorded(label)

    def _guard(self, rows: Sequence[Row], bodies: Sequence[bytes]) -> tuple[dict[int, InputError], bool]:
        """Return the errors that refuse raw card numbers, or hash them in the rows; and whether rows have changed."""
        changed = False
        errors: dict[int, InputError] = {}
        assert self._card_numbers is not None
        key = self._card_numbers.key
        for place in suspicious(bodies):
            row = rows[place]
            values = [(name, field, getattr(row, field)) for name, field in self._guarded]
            texts = [_as_text(value) for _, _, value in values]
            for found in guard(texts):
                name, field, _ = values[found]
                if key is None:
                    errors.setdefault(place, refusal_of(name, texts[found]))
                else:
                    setattr(row, field, hashed(texts[found], key))
                    changed = True
        return errors, changed

    def _check_times(self, batch: Batch, errors: dict[int, InputError]) -> None:
        latest_us = self._clock_us() + self._max_ahead_us
        ahead = batch.time_us > latest_us
        if ahead.any():
            for row in ahead.nonzero()[0].tolist():
                errors.setdefault(
                    row,
                    InputError(
                        "time_ahead",
                        f"expected a time at most {self._max_ahead_us // SECOND_US} s ahead of this server's clock: a "
                        "wrong clock would empty the windows of every entity that it touches",
                        column="effective_time",
                    ),
                )

    def _refused(
        self, submissions: Sequence[Submission], starts: list[int], batch: Batch, errors: dict[int, InputError]
    ) -> dict[int, InputError]:
        """Return for each submission its first error, with the row named where there are several."""
        refused: dict[int, InputError] = {}
        for s, one in enumerate(submissions):
            start, stop = starts[s], starts[s + 1]
            row = next((row for row in range(start, stop) if row in errors), None) if errors else None
            if row is not None:
                error = errors[row]
                refused[s] = type(error)(
                    error.code, error.message, **error.where, row=row - start if one.many else None
                )
            elif stop - start > 1:
                try:
                    check_unique(batch.ids[start:stop])
                except InputError as error:
                    refused[s] = error
        return refused


def _as_text(value: Any) -> str:
    """Return a value as an id is read, or nothing where it cannot be: the conversion says so."""
    try:
        return "" if value is None else text_of(value)
    except InputError:
        return ""
