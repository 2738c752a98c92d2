"""A ledger that several processes write at once, on PostgreSQL: the database numbers transactions and knows their ids.

Who writes it must not decide by what it alone has seen: the features of a transaction have to come from a state that
all writers share.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from hashlib import blake2b
from typing import Any, NoReturn

import numpy as np
from sqlalchemy import Connection, select, update

from tollgate.errors import LedgerError
from tollgate.label import Label
from tollgate.ledger.connection import dialect, writing
from tollgate.ledger.durability import Durability
from tollgate.ledger.group import Group
from tollgate.ledger.identities import HASH_KEY_BYTES, Hashes, Numbers
from tollgate.ledger.ledger import KNOWN_TRANSACTION, Ledger
from tollgate.ledger.lookup import NOT_THERE
from tollgate.ledger.records import History, Recorded
from tollgate.ledger.session import Session
from tollgate.ledger.settings import ARCHIVE, read_mark
from tollgate.ledger.shared_tables import ARRIVALS, IDS
from tollgate.ledger.stretches import stretches
from tollgate.ledger.writer import SharedWriter, Writer, row_of

_KEY_BYTES = 16
# One that is not there may be archived: how far the ledger is belongs to the answer, under a number that no id has.
_FIND = f"""
SELECT key, number FROM ids WHERE key = ANY(%s)
UNION ALL SELECT value, {NOT_THERE} FROM settings WHERE key = '{ARCHIVE}'
"""  # noqa: S608
_FORGET = "DELETE FROM ids WHERE key = ANY(%s) AND number <= %s"


class SharedLedger(Ledger):
    """As `Ledger`, but any number of processes write it, and each finds at once what the others have recorded.

    `append` refuses a group of which another process has recorded something meanwhile; `record` records the rest of it.
    """

    asks = True

    def __init__(self, url: str, durability: Durability = "fsync", **options: Any) -> None:
        """Open it, as `Ledger`; where it is written by one process, that must be stopped first."""
        self._asking = threading.RLock()  # ids are looked for in one thread, and in the one that writes after a failure
        self._lookups: Session | None = None
        super().__init__(url, durability, **options)

    def close(self) -> None:
        """Close the connections and give up the right to write."""
        if self._lookups is not None:
            self._lookups.close()
        super().close()

    def append(self, group: Group, hashes: Hashes | None = None) -> None:
        """Record transactions and their decisions, all or none, durably, in this order; see `Ledger.append`.

        Raises:
            LedgerError: Nothing was recorded, or the connection was lost before that could be said.
        """
        writer = self._writing()
        if hashes is None:
            hashes = self._new(group.ids)
        writer.make_room(self._last + len(group))
        try:
            first = writer.append_new(self._keys(group.ids, hashes), row_of(group, 0, hashes))
        except LedgerError:
            self._stale = True
            raise
        if not first:
            raise LedgerError(KNOWN_TRANSACTION, "expected new transactions, but one was recorded by another process")
        self._last = max(self._last, first + len(group) - 1)

    def import_history(self, history: Sequence[History], labels: Sequence[Label], by: str) -> NoReturn:  # noqa: ARG002
        """Refuse: history comes before what is decided, and so before several processes write.

        Raises:
            LedgerError: Always.
        """
        raise LedgerError("ledger_in_use", "expected a ledger that one process writes; import before the others start")

    def _open_writer(self) -> Writer:
        if self.engine.dialect.name != "postgresql":
            raise LedgerError(
                "ledger_in_use", f"expected a ledger on PostgreSQL for several writers, but got {self.url}"
            )
        return SharedWriter(self.engine)

    def _writing(self) -> SharedWriter:
        writer = super()._writing()
        assert isinstance(writer, SharedWriter)
        return writer

    def _begin(self) -> None:
        """Give the ids that a single writer has recorded their place."""
        self._writing().make_room(self._last)
        with writing(self.engine, "open") as connection:
            numbered = int(connection.scalar(select(ARRIVALS.c.last).with_for_update()) or 0)
            self.refresh()
            if numbered < self._last:
                self._number_ids(connection, max(numbered, self._mark.last))
                connection.execute(update(ARRIVALS).values(last=self._last))

    def _number_ids(self, connection: Connection, after: int) -> None:
        for part in stretches(self.engine, after):
            for one in part:
                keys = self._keys(one.ids, self.hashes(one.ids))
                rows = list(zip(keys, range(one.first, one.first + len(keys)), strict=True))
                dialect(self.engine).insert_all(connection, IDS, rows)

    def _catch_up(self) -> None:
        """After a failure, connect again; what is there is asked for anyway."""
        if self._writer is not None:
            self._writer.hold()
        self.refresh()

    def _find(self, ids: Sequence[str], hashes: Hashes) -> dict[str, Recorded]:
        with self._asking:
            if self._stale:
                self._catch_up()
            numbers = self._candidates(ids, hashes)
            there = np.flatnonzero(numbers).tolist()
            if not there:
                return {}
            found = {
                identifier: Recorded(packed.body(row), packed.answer(row))
                for identifier, _, packed, row in self._verified(ids, hashes, numbers)
            }
            if len(found) < len(there) and self._writer is not None and self._lookups is not None:
                # Their transactions were archived, and the ids are about to be forgotten.
                left = [row for row in there if ids[row] not in found]
                keys = self._keys([ids[row] for row in left], hashes[left])
                self._lookups.run(_FORGET, [keys, self._mark.last])
            return found

    def _candidates(self, ids: Sequence[str], hashes: Hashes) -> Numbers:
        with self._asking:
            if self._lookups is None:
                self._lookups = Session(self.engine)
            keys = self._keys(ids, hashes)
            try:
                rows = self._lookups.run(_FIND, [keys])
            except LedgerError:
                self._stale = True  # the connection that writes may be lost as well
                raise
            self._mark = read_mark(next((value for value, number in rows if number == NOT_THERE), None))
            there = {key: number for key, number in rows if number != NOT_THERE}
            return np.array([there.get(key, NOT_THERE) for key in keys], dtype=np.int64)

    def _newest(self, connection: Connection) -> int:
        """Return what all writers together have recorded: labels must come in the order of what they came after."""
        return int(connection.scalar(select(ARRIVALS.c.last)) or 0)

    def _next(self, hashed: int) -> tuple[int, int]:
        return hashed, NOT_THERE

    def _check_room(self, count: int) -> None:
        """Do nothing: the database holds any number."""

    def _keys(self, ids: Sequence[str], hashes: Hashes) -> list[bytes]:
        """Return what N ids are known under: their hashes, and those under another key."""
        words = np.empty((len(ids), 2), dtype="<u8")
        words[:, 0] = hashes
        words[:, 1] = self._hash_ids(ids, blake2b(self._key, digest_size=HASH_KEY_BYTES).digest())
        raw = words.tobytes()
        return [raw[start : start + _KEY_BYTES] for start in range(0, len(raw), _KEY_BYTES)]
