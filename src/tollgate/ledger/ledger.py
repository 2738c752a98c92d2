"""The ledger: written before a decision is answered, read to recover."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Self

import msgspec
import numpy as np
from sqlalchemy import Connection, func, select

from tollgate.decision import Decision
from tollgate.errors import LedgerError
from tollgate.label import Label, LabelResult
from tollgate.ledger import archived
from tollgate.ledger.connection import dialect, migrate, open_engine, reading, shown_url, streamed, writing
from tollgate.ledger.durability import Durability
from tollgate.ledger.group import Counts, Group, Packed, Shadow
from tollgate.ledger.identities import Hashes, HashIds, Identities, Numbers, hash_ids
from tollgate.ledger.labels import Frauds, Recording, Verdicts, frauds, old_frauds, record, verdicts
from tollgate.ledger.records import History, Recorded, Replayed, past
from tollgate.ledger.remainder import without
from tollgate.ledger.remembered import Remembered
from tollgate.ledger.settings import ArchiveMark, archive_mark, hash_key
from tollgate.ledger.stretches import bodies, extent, opened, stretches
from tollgate.ledger.tables import GROUPS, LABELS
from tollgate.ledger.writer import GroupRow, Writer, open_writer, row_of

KNOWN_TRANSACTION = "known_transaction"  # the code of the error for an id that is recorded
LEDGER_MOVED = "ledger_moved"  # the code of the error for a ledger that another process has written meanwhile
IMPORT_GROUP = 1024  # transactions; one of them is found by reading its whole group
_READ_AHEAD = 16  # groups in memory at once
_ATTEMPTS = 5  # to record a group that is refused for an id which is then not found

_DECISION = msgspec.json.Decoder(Decision)


class Ledger:
    """The durable record. One process writes it at a time.

    Not thread-safe but for `replay`, `bodies`, `frauds` and `labels`.

    Attributes:
        asks: Whether to look for ids is to ask the database, and takes a while.
    """

    asks = False

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
            url: An SQLAlchemy URL: `sqlite:///path/to/tollgate.db`, `postgresql+psycopg://user@host/database`.
            durability: `fsync` survives a power cut, `os` only the death of the process.
            write: Take the writer's lock; without it the ledger is only read.
            hash_ids: Hashes ids under a key; always the same for one ledger.
            random_bytes: Draws that key for a new ledger.

        Raises:
            LedgerError: It cannot be opened, or another process writes it.
        """
        self.engine = open_engine(url, durability)
        self.url = shown_url(self.engine)
        self._hash_ids = hash_ids
        self._key = b""
        self._mark = ArchiveMark()
        self._last = 0
        self._remembered: Remembered | None = None
        self._stale = False
        self._doubtful: tuple[int, int, bytes] | None = None
        self._writer: Writer | None = None
        try:
            if write:
                self._writer = self._open_writer()
                migrate(self.engine)
                with writing(self.engine, "open") as connection:
                    hash_key(connection, random_bytes)
            self.refresh()
            if write:
                self._begin()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the connections and give up the right to write."""
        if self._writer is not None:
            self._writer.close()
        self.engine.dispose()

    def _open_writer(self) -> Writer:
        return open_writer(self.engine)

    def _begin(self) -> None:
        """Do what must be done before the first append, so that none waits for it."""
        assert self._writer is not None
        self._writer.make_room(self._last)
        self._index()

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
            self._mark, self._last = extent(connection)
        if self._remembered is not None:
            self._index()
        self._stale = False
        return self._last - before

    @property
    def transactions(self) -> int:
        """How many transactions it holds, the archived ones too: the arrival number of the newest."""
        return self._last

    @property
    def newest_own(self) -> int:
        """The arrival number of the newest transaction that this process recorded, or found."""
        return self._last

    @property
    def index_bytes(self) -> int:
        """How much memory the index of ids takes at most; 0 where there is none."""
        return 0 if self._remembered is None else self._remembered.identities.bytes

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
            self._catch_up()
        numbers = self._candidates(ids, hashes)
        if not numbers.any():
            return {}
        return {
            identifier: Recorded(packed.body(row), packed.answer(row))
            for identifier, _, packed, row in self._verified(ids, hashes, numbers)
        }

    def _candidates(self, _ids: Sequence[str], hashes: Hashes) -> Numbers:
        """Return the arrival numbers of what may have those ids, int64 (N,); `NOT_THERE` where nothing has."""
        return self._index().find(hashes)

    def append(self, group: Group, hashes: Hashes | None = None) -> None:
        """Record transactions and their decisions, all or none, durably, in this order.

        Args:
            group: The transactions.
            hashes: Of their ids, from a caller that has just looked for them and found none, and knows that none
                comes twice: it is not looked again.

        Raises:
            LedgerError: Nothing was recorded.
        """
        writer = self._writing()
        if self._stale:
            self._catch_up()
        if hashes is None:
            hashes = self._new(group.ids)
        else:
            self._check_room(len(hashes))
        row = row_of(group, self._last + 1, hashes)
        writer.make_room(self._last + len(group))
        try:
            writer.append(row)
        except LedgerError:
            self._failed(len(group), row)
            raise
        self._number(hashes)

    def record(self, group: Group, hashes: Hashes | None = None) -> dict[str, Recorded]:
        """Record those transactions of a group that are not known, and return what is recorded of the others.

        Args:
            group: The transactions; none of them comes twice.
            hashes: Of their ids, from a caller that has looked for them and found none.

        Raises:
            LedgerError: Nothing was recorded, or it is not known whether it was: then this must be called again,
                without hashes, before anything else is recorded.
        """
        known = {} if hashes is not None else self.find(group.ids)
        attempts = _ATTEMPTS
        while attempts:
            rest = without(group, known) if known else group
            if rest is None:
                return known
            try:
                self.append(rest, hashes if rest is group else self.hashes(rest.ids))
            except LedgerError as error:
                if error.code != KNOWN_TRANSACTION:
                    raise
                found = self.find(rest.ids)
                known |= found
                attempts = attempts if found else attempts - 1  # others may be first with one id after the other
            else:
                return known
        raise LedgerError(
            "ledger_failed", f"the ledger {self.url} has ids that it has no transactions for; see its log"
        )

    def _writing(self) -> Writer:
        if self._writer is None:
            raise LedgerError("ledger_read_only", f"the ledger {self.url} was opened to be read only")
        return self._writer

    def _failed(self, count: int, first: GroupRow) -> None:
        """Take note of what may be there: a failure to say that it is durable need not mean that it is not."""
        self._stale, self._doubtful = True, (self._last, count, first[-1])

    def _catch_up(self) -> None:
        """After a failure, look at what is there: all of what was on its way or nothing, else others have written."""
        before, count, payload = self._doubtful or (self._last, 0, b"")
        if self._writer is not None:
            self._writer.hold()
        self.refresh()
        self._stale = True  # until it is known what came
        moved = self._writer is not None and self._last != before
        if moved and self._last == before + count:
            with reading(self.engine) as connection:
                moved = connection.scalar(select(GROUPS.c.payload).where(GROUPS.c.first == before + 1)) != payload
        if moved:
            self._remembered = None
            self._index()
        self._stale, self._doubtful = False, None
        if moved:
            raise LedgerError(
                LEDGER_MOVED,
                f"the ledger {self.url} was written by another process while it could not be reached; the feature "
                "state is rebuilt from it",
            )

    def import_history(self, history: Sequence[History], labels: Sequence[Label], by: str) -> None:
        """Record past transactions that were not decided here, and labels, all or none.

        Args:
            history: In order of arrival.
            labels: Of these, or of transactions of before; those of others are left out.
            by: Who records them.

        Raises:
            LedgerError: Nothing was recorded.
        """
        writer = self._writing()
        ids = [one.transaction_id for one in history]
        hashes = self._new(ids)
        rows = []
        for start in range(0, len(history), IMPORT_GROUP):
            part = slice(start, start + IMPORT_GROUP)
            rows.append(row_of(past(history[part]), self._last + 1 + start, hashes[part]))
        numbers = dict(zip(ids, range(self._last + 1, self._last + 1 + len(ids)), strict=True))
        numbers |= self.numbers([one.transaction_id for one in labels if one.transaction_id not in numbers])
        at_us = max((one.observed_us for one in history), default=0)
        writer.make_room(self._last + len(history))
        try:
            with writing(self.engine) as connection:
                if rows:
                    dialect(self.engine).insert_all(connection, GROUPS, rows)
                record(connection, labels, numbers, Recording(by, at_us, self._last))
        except LedgerError:
            if rows:
                self._failed(len(history), rows[0])
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
        self._writing()
        numbers = self.numbers([one.transaction_id for one in labels])
        with writing(self.engine) as connection:
            return record(connection, labels, numbers, Recording(by, at_us, self._newest(connection)))

    def _newest(self, _connection: Connection) -> int:
        """Return the arrival number of the newest transaction that labels are recorded after."""
        return self._last

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
            self._catch_up()
        hashes = self.hashes(ids)
        candidates = self._candidates(ids, hashes)
        found = {identifier: number for identifier, number, _, _ in self._verified(ids, hashes, candidates)}
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
        query = _PAYLOADS.order_by(GROUPS.c.first)
        with reading(self.engine) as connection, streamed(connection, query, _READ_AHEAD) as rows:
            for first, _, payload in rows:
                packed = opened(self.engine, first, payload)
                if packed.shadow is not None:
                    yield [packed.id(row) for row in range(len(packed))], packed.shadow

    def _index(self) -> Identities:
        """Return the index, with all that was known at the last refresh."""
        if self._remembered is None:
            self._remembered = Remembered(self.engine, self._mark, self._last)
        self._mark = self._remembered.catch_up(self._last, self._mark)
        return self._remembered.identities

    def _verified(self, ids: Sequence[str], hashes: Hashes, numbers: Numbers) -> Iterator[tuple[str, int, Packed, int]]:
        """Yield those of N ids whose candidate, or one after it, has that id: its number, group, and row in it."""
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
                    after, candidate = self._next(hashed)
                    if candidate:
                        others.append((candidate, row, after))
                waiting = others

    def _next(self, hashed: int) -> tuple[int, int]:
        """Return where to look on for an id whose candidate under a hash was another one, and the candidate there."""
        return self._index().next(hashed)

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
        hashes = self.hashes(ids)
        known = self._find(ids, hashes)
        if known or len(set(ids)) != len(ids):
            which = next(one for i, one in enumerate(ids) if one in known or one in ids[:i])
            raise LedgerError(KNOWN_TRANSACTION, f"expected new transactions, but {which!r} was recorded before")
        self._check_room(len(ids))
        return hashes

    def _check_room(self, count: int) -> None:
        self._index().check_room(count)

    def _number(self, hashes: Hashes) -> None:
        """Take what is durable now into the index."""
        assert self._remembered is not None
        self._remembered.add(hashes, self._last + 1)
        self._last += len(hashes)


_SUMS = select(*(func.sum(GROUPS.c[name]) for name in Counts._fields))
_PAYLOADS = select(GROUPS.c.first, GROUPS.c.count, GROUPS.c.payload)
