"""The ledger on SQLite: written before a decision is answered, read to recover."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, Self

import msgspec
import numpy as np
from sqlalchemy import Connection, func, insert, select

from tollgate.decision import Decision
from tollgate.errors import LedgerError
from tollgate.label import Label, LabelResult
from tollgate.ledger import archived
from tollgate.ledger.checkpoint import Checkpoints
from tollgate.ledger.connection import Appender, Durability, check_writable, migrate, open_engine, reading, writing
from tollgate.ledger.group import Counts, Group, Packed, Shadow, pack
from tollgate.ledger.identities import Hashes, HashIds, Identities, Numbers, hash_ids
from tollgate.ledger.labels import Frauds, Recording, Verdicts, frauds, old_frauds, record, verdicts
from tollgate.ledger.lock import lock
from tollgate.ledger.settings import ArchiveMark, archive_mark, hash_key
from tollgate.ledger.stretches import bodies, gap, opened, stretches
from tollgate.ledger.tables import GROUPS, LABELS

KNOWN_TRANSACTION = "known_transaction"  # the code of the error for an id that is recorded
IMPORT_GROUP = 1024  # transactions; one of them is found by reading its whole group
_SCANNED_GROUPS = 4096  # whose hashes are read at a time

_DECISION = msgspec.json.Decoder(Decision)


class History(NamedTuple):
    """A transaction that was not decided here: its id, its times, and its body as JSON with sorted keys."""

    transaction_id: str
    effective_us: int
    observed_us: int
    body: bytes


class Replayed(NamedTuple):
    """A recorded transaction: its id, its body, and its decision, JSON; imported history has no decision."""

    transaction_id: str
    body: bytes
    answer: bytes | None


class Recorded(NamedTuple):
    """What the ledger holds of a transaction: body and answer, JSON; one of imported history has no answer."""

    body: bytes
    answer: bytes | None


class Ledger:
    """The durable record. One process writes it at a time.

    Not thread-safe but for `replay`, `bodies`, `frauds` and `labels`.
    """

    def __init__(
        self,
        url: str,
        durability: Durability = "fsync",
        *,
        write: bool = True,
        hash_ids: HashIds = hash_ids,
        random_bytes: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        """Open the ledger, creating or migrating it where needed.

        Args:
            url: An SQLAlchemy URL: `sqlite:///path/to/tollgate.db`.
            durability: `fsync` survives a power cut, `os` only the death of the process.
            write: Take the writer's lock; without it the ledger is only read.
            hash_ids: Hashes ids under a key; always the same for one ledger.
            random_bytes: Draws that key for a new ledger.

        Raises:
            LedgerError: It cannot be opened, or another process writes it.
        """
        self.url = url
        self.engine = open_engine(url, durability)
        self._hash_ids = hash_ids
        self._key = b""
        self._mark = ArchiveMark()
        self._last = self._indexed = 0
        self._identities: Identities | None = None
        self._stale = False
        self._appender: Appender | None = None
        self._checkpoints: Checkpoints | None = None
        self._lock = lock(self.engine, ".lock", "writes") if write else None
        try:
            if write:
                check_writable(self.engine)
                migrate(self.engine)
                with writing(self.engine, "open") as connection:
                    hash_key(connection, random_bytes)
                self._appender = Appender(self.engine, GROUPS)
                self._checkpoints = Checkpoints(self.engine)
            self.refresh()
            if write:
                self._index()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the connections and give up the writer's lock."""
        if self._checkpoints is not None:
            self._checkpoints.close()
        if self._appender is not None:
            self._appender.close()
        self.engine.dispose()
        if self._lock is not None:
            self._lock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def refresh(self) -> int:
        """Take in what other processes did since, for a reader that follows a writer; return how many came.

        Raises:
            LedgerError: It could not be read.
        """
        before = self._last
        with reading(self.engine, "open") as connection:
            self._key = hash_key(connection, None)
            newest = connection.execute(_NEWEST).one_or_none()
            self._mark = archive_mark(connection)  # read last: what is marked is deleted after
        self._last = max(self._mark.last, 0 if newest is None else newest.first + newest.count - 1)
        if self._identities is not None:
            self._index()
        self._stale = False
        return self._last - before

    @property
    def transactions(self) -> int:
        """How many transactions it holds, the archived ones too: the arrival number of the newest."""
        return self._last

    @property
    def index_bytes(self) -> int:
        """How much memory the index of ids takes at most; 0 where there is none yet."""
        return 0 if self._identities is None else self._identities.bytes

    @property
    def labels(self) -> int:
        """How many labels it holds."""
        with reading(self.engine) as connection:
            return int(connection.scalar(select(func.count()).select_from(LABELS)) or 0)

    @property
    def newest_label(self) -> int:
        """Sequence number of the newest label; 0 for none."""
        with reading(self.engine) as connection:
            return int(connection.scalar(select(func.max(LABELS.c.seq))) or 0)

    @property
    def horizon_us(self) -> int | None:
        """The newest archived effective time: whether an id that is not newer came before is not known any more."""
        return self._mark.horizon_us

    def outcomes(self) -> Counts:
        """Return how many decisions there are, the archived ones too."""
        with reading(self.engine) as connection:
            mark = None
            while mark != (mark := archive_mark(connection)):  # an archiving may come in between
                sums = connection.execute(_SUMS.where(GROUPS.c.first > mark.last)).one()
        return Counts(*(before + int(more or 0) for before, more in zip(mark.counts, sums, strict=True)))

    def hashes(self, ids: Sequence[str]) -> Hashes:
        """Return the hashes of N ids, uint64 (N,), for callers that need them more than once."""
        return self._hash_ids(ids, self._key)

    def find(self, ids: Sequence[str], hashes: Hashes | None = None) -> dict[str, Recorded]:
        """Return what is recorded of those of `ids` that are known and not archived.

        Args:
            ids: The ids.
            hashes: Theirs, if they are there already.

        Raises:
            LedgerError: It could not be read.
        """
        return self._find(ids, self.hashes(ids) if hashes is None else hashes)

    def _find(self, ids: Sequence[str], hashes: Hashes) -> dict[str, Recorded]:
        if self._stale:
            self.refresh()
        numbers = self._index().find(hashes)
        if not numbers.any():
            return {}
        return {
            identifier: Recorded(packed.body(row), packed.answer(row))
            for identifier, _, packed, row in self._verified(ids, hashes, numbers)
        }

    def append(self, group: Group, hashes: Hashes | None = None) -> None:
        """Record transactions and their decisions, all or none, durably, in this order.

        Args:
            group: The transactions.
            hashes: Of their ids, from a caller that has just looked for them and found none, and knows that none
                comes twice: it is not looked again.

        Raises:
            LedgerError: Nothing was recorded.
        """
        if self._appender is None or self._checkpoints is None:
            raise LedgerError("ledger_read_only", f"the ledger {self.url} was opened to be read only")
        if hashes is None:
            hashes = self._new(group.ids)
        else:
            self._index().check_room(len(hashes))
        row = _row(group, self._last + 1, hashes)
        try:
            self._appender.append(*row)
        except LedgerError:
            self._stale = True  # a failure to say that it is durable need not mean that it is not there
            raise
        self._number(hashes)
        self._checkpoints.wrote(len(row[-1]))

    def import_history(self, history: Sequence[History], labels: Sequence[Label], by: str) -> None:
        """Record past transactions that were not decided here, and labels, all or none.

        Args:
            history: In order of arrival.
            labels: Of these, or of transactions of before; those of others are left out.
            by: Who records them.

        Raises:
            LedgerError: Nothing was recorded.
        """
        ids = [one.transaction_id for one in history]
        hashes = self._new(ids)
        names = GROUPS.columns.keys()
        rows = []
        for start in range(0, len(history), IMPORT_GROUP):
            part = slice(start, start + IMPORT_GROUP)
            rows.append(dict(zip(names, _row(_past(history[part]), self._last + 1 + start, hashes[part]), strict=True)))
        numbers = dict(zip(ids, range(self._last + 1, self._last + 1 + len(ids)), strict=True))
        numbers |= self.numbers([one.transaction_id for one in labels if one.transaction_id not in numbers])
        at_us = max((one.observed_us for one in history), default=0)
        try:
            with writing(self.engine) as connection:
                if rows:
                    connection.execute(insert(GROUPS), rows)
                record(connection, labels, numbers, Recording(by, at_us, self._last))
        except LedgerError:
            self._stale = True
            raise
        self._number(hashes)

    def add_labels(self, labels: Sequence[Label], by: str, at_us: int) -> list[LabelResult]:
        """Record labels after the transactions that are there, in one durable transaction; say what became of each.

        Args:
            labels: In the order in which they came. The same label again changes nothing.
            by: Who records them.
            at_us: When, in microseconds since 1970-01-01 UTC.

        Raises:
            LedgerError: Nothing was recorded, unless it was the last step that failed to say so.
        """
        if self._appender is None:
            raise LedgerError("ledger_read_only", f"the ledger {self.url} was opened to be read only")
        numbers = self.numbers([one.transaction_id for one in labels])
        with writing(self.engine) as connection:
            return record(connection, labels, numbers, Recording(by, at_us, self._last))

    def frauds(self, after: int, last: int) -> Frauds:
        """Return the transactions that first became known as fraud by a label after sequence number `after`.

        Args:
            after: Sequence number of the newest label that is known; 0 for none.
            last: Arrival number of the newest transaction that is known; what belongs after a later one is left out.

        Raises:
            LedgerError: They could not be read.
        """
        with reading(self.engine) as connection:
            return frauds(connection, after, last)

    def old_frauds(self) -> dict[str, int]:
        """Return when transactions became known as fraud by labels of before labels had numbers, by their ids."""
        with reading(self.engine) as connection:
            return old_frauds(connection)

    def verdicts(self, known_by_us: int) -> Verdicts:
        """Return what transactions turned out to be, by the labels that were known by a time (microseconds, UTC).

        Of several labels the one counts that became known last, and of one moment that of the strongest source.
        """
        with reading(self.engine) as connection:
            return verdicts(connection, known_by_us)

    def bodies(self, numbers: Sequence[int]) -> list[bytes]:
        """Return the bodies of transactions by their arrival numbers, the archived ones too.

        Raises:
            LedgerError: They could not be read, or some are missing.
        """
        found = bodies(self.engine, numbers)
        return [found[number] for number in numbers]

    def numbers(self, ids: Sequence[str]) -> dict[str, int]:
        """Return the arrival numbers of those of some ids that are known; to find archived ones takes long.

        Raises:
            LedgerError: They could not be read.
        """
        if self._stale:
            self.refresh()
        hashes = self.hashes(ids)
        found = {
            identifier: number for identifier, number, _, _ in self._verified(ids, hashes, self._index().find(hashes))
        }
        missing = [one for one in ids if one not in found]
        if missing and self._mark.last:
            found |= archived.numbers(Path(self._mark.folder), missing, self._mark.last)
        return found

    def replay(self, after: int = 0) -> Iterator[list[Replayed]]:
        """Yield all transactions after arrival number `after`, in arrival order, in chunks: archive first, then table.

        Raises:
            LedgerError: They could not be read, or some are missing.
        """
        for part in stretches(self.engine, after):
            yield [
                Replayed(*one)
                for stretch in part
                for one in zip(stretch.ids, stretch.bodies, stretch.answers, strict=True)
            ]

    def decided(self) -> Iterator[tuple[str, Decision, bytes]]:
        """Yield id, decision and feature bytes of every decided transaction, in arrival order."""
        for part in stretches(self.engine, 0):
            for one in part:
                for identifier, answer, features in zip(one.ids, one.answers, one.features, strict=True):
                    if answer is not None:
                        yield identifier, _DECISION.decode(answer), features or b""

    def shadow_scores(self) -> Iterator[tuple[list[str], Shadow]]:
        """Yield ids and a challenger's scores of every group that has some and is not archived, in arrival order."""
        with reading(self.engine) as connection:
            query = _PAYLOADS.order_by(GROUPS.c.first)
            for first, _, payload in connection.execution_options(yield_per=_SCANNED_GROUPS).execute(query):
                packed = opened(self.engine, first, payload)
                if packed.shadow is not None:
                    yield [packed.id(row) for row in range(len(packed))], packed.shadow

    def _index(self) -> Identities:
        """Return the index, with all that was known at the last refresh."""
        if self._identities is None:
            self._indexed = self._mark.last
            self._identities = Identities(self._last - self._indexed)
        if self._indexed < self._last:
            self._identities.check_room(self._last - self._indexed)
            query = _HASHES.where(GROUPS.c.first > self._indexed, GROUPS.c.first <= self._last)
            with reading(self.engine) as connection:
                rows = connection.execution_options(yield_per=_SCANNED_GROUPS).execute(query)
                for part in rows.partitions():
                    first = part[0].first
                    if first != self._indexed + 1:
                        self._skip_archived(connection, first - 1)
                    hashes = np.frombuffer(b"".join([row.id_hashes for row in part]), dtype="<u8")
                    if len(hashes) != part[-1].first + part[-1].count - first:
                        raise gap(self.engine, first)
                    self._identities.add(hashes, first)
                    self._indexed += len(hashes)
                if self._indexed < self._last:
                    self._skip_archived(connection, self._last)
        return self._identities

    def _skip_archived(self, connection: Connection, last: int) -> None:
        """Go on after transaction `last`: all before must have been archived since the last refresh."""
        self._mark = archive_mark(connection)
        if self._mark.last < last:
            raise gap(self.engine, self._indexed)
        self._indexed = last

    def _verified(self, ids: Sequence[str], hashes: Hashes, numbers: Numbers) -> Iterator[tuple[str, int, Packed, int]]:
        """Yield those of N ids whose candidate, or one after it, has that id: its number, group, and row in it."""
        identities = self._index()
        waiting = [(int(numbers[row]), row, int(hashes[row])) for row in np.flatnonzero(numbers).tolist()]
        with reading(self.engine) as connection:
            while waiting:
                others = []
                first, packed = 0, None
                for number, row, hashed in sorted(waiting):  # so that each group is opened once
                    if packed is None or number >= first + len(packed):
                        first, packed = self._group_with(connection, number)
                    if packed is not None and packed.id(number - first) == ids[row]:
                        yield ids[row], number, packed, number - first
                        continue
                    after, candidate = identities.next(hashed)
                    if candidate:
                        others.append((candidate, row, after))
                waiting = others

    def _group_with(self, connection: Connection, number: int) -> tuple[int, Packed | None]:
        """Return the group that transaction `number` is in and its first number; none where it was archived since."""
        query = _PAYLOADS.where(GROUPS.c.first <= number).order_by(GROUPS.c.first.desc()).limit(1)
        row = connection.execute(query).one_or_none()
        if row is None or number >= row.first + row.count:
            self._mark = archive_mark(connection)
            return 0, None
        return row.first, opened(self.engine, row.first, row.payload)

    def _new(self, ids: Sequence[str]) -> Hashes:
        """Return the hashes of ids that are to be recorded.

        Raises:
            LedgerError: One is known, comes twice, or there is no room.
        """
        hashes = self._hash_ids(ids, self._key)
        known = self._find(ids, hashes)
        if known or len(set(ids)) != len(ids):
            which = next(one for i, one in enumerate(ids) if one in known or one in ids[:i])
            raise LedgerError(KNOWN_TRANSACTION, f"expected new transactions, but {which!r} was recorded before")
        self._index().check_room(len(ids))
        return hashes

    def _number(self, hashes: Hashes) -> None:
        """Take what is durable now into the index."""
        self._index().add(hashes, self._last + 1)
        self._last += len(hashes)
        self._indexed = self._last


_NEWEST = select(GROUPS.c.first, GROUPS.c.count).order_by(GROUPS.c.first.desc()).limit(1)
_SUMS = select(*(func.sum(GROUPS.c[name]) for name in Counts._fields))
_HASHES = select(GROUPS.c.first, GROUPS.c.count, GROUPS.c.id_hashes).order_by(GROUPS.c.first)
_PAYLOADS = select(GROUPS.c.first, GROUPS.c.count, GROUPS.c.payload)


def _row(group: Group, first: int, hashes: Hashes) -> tuple[*tuple[object, ...], bytes]:
    """Return a group as a row of the table, its columns in their order."""
    times = group.effective_us
    return (
        first, len(group), group.observed_us, int(times.min()), int(times.max()), group.bundle, *group.counts,
        hashes.astype("<u8", copy=False).tobytes(), pack(group),
    )  # fmt: skip


def _past(history: Sequence[History]) -> Group:
    effective_us = np.array([one.effective_us for one in history], dtype=np.int64)
    observed_us = max(one.observed_us for one in history)
    ids, bodies = [one.transaction_id for one in history], [one.body for one in history]
    return Group(ids, effective_us, bodies, [], None, observed_us, None)
