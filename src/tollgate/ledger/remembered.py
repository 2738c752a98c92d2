"""The ids of a ledger that one process writes, in memory: built when it is opened, and kept up with appends."""

from __future__ import annotations

import numpy as np
from sqlalchemy import Connection, Engine, select

from tollgate.ledger.connection import reading, streamed
from tollgate.ledger.identities import Hashes, Identities
from tollgate.ledger.settings import ArchiveMark, archive_mark
from tollgate.ledger.stretches import gap
from tollgate.ledger.tables import GROUPS

_SCANNED_GROUPS = 4096  # whose hashes are read at a time
_HASHES = select(GROUPS.c.first, GROUPS.c.count, GROUPS.c.id_hashes).order_by(GROUPS.c.first)


class Remembered:
    """An index, and up to which arrival number it goes."""

    def __init__(self, engine: Engine, mark: ArchiveMark, last: int) -> None:
        """Make an empty one.

        Args:
            engine: The ledger's.
            mark: How far it is archived: there the index begins.
            last: Arrival number of the newest transaction.
        """
        self._engine = engine
        self._mark = mark
        self._indexed = mark.last
        self.identities = Identities(last - mark.last)

    def catch_up(self, last: int, mark: ArchiveMark) -> ArchiveMark:
        """Take in what the ledger has up to arrival number `last`; return how far it is archived, as known then.

        Raises:
            LedgerError: It could not be read, is damaged, or holds too much.
        """
        self._mark = mark
        if self._indexed < last:
            self.identities.check_room(last - self._indexed)
            query = _HASHES.where(GROUPS.c.first > self._indexed, GROUPS.c.first <= last)
            with reading(self._engine) as connection, streamed(connection, query, _SCANNED_GROUPS) as rows:
                for part in rows.partitions():
                    first = part[0].first
                    if first != self._indexed + 1:
                        self._skip_archived(connection, first - 1)
                    hashes = np.frombuffer(b"".join([row.id_hashes for row in part]), dtype="<u8")
                    if len(hashes) != part[-1].first + part[-1].count - first:
                        raise gap(self._engine, first)
                    self.add(hashes, first)
                if self._indexed < last:
                    self._skip_archived(connection, last)
        return self._mark

    def add(self, hashes: Hashes, first: int) -> None:
        """Take in N ids, of hashes uint64 (N,), that are durable now, from arrival number `first` on."""
        self.identities.add(hashes, first)
        self._indexed = first + len(hashes) - 1

    def _skip_archived(self, connection: Connection, last: int) -> None:
        """Go on after transaction `last`: all before must have been archived since the last refresh."""
        self._mark = archive_mark(connection)
        if self._mark.last < last:
            raise gap(self._engine, self._indexed)
        self._indexed = last
