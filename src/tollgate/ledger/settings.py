"""What the ledger keeps about itself: the key that ids are hashed under, and how far it is archived."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
from sqlalchemy import Connection, delete, insert, select

from tollgate.ledger.group import NO_DECISIONS, Counts
from tollgate.ledger.identities import HASH_KEY_BYTES
from tollgate.ledger.tables import SETTINGS

_HASH_KEY, ARCHIVE = "id_hash_key", "archive"


class ArchiveMark(msgspec.Struct, frozen=True):
    """How far the ledger is archived.

    Attributes:
        last: Arrival number of the newest archived transaction; 0 for none.
        horizon_us: The newest effective time of them: an id that is not known and not newer may be archived.
        folder: Where the files are, absolute.
        counts: Of the archived decisions.
    """

    last: int = 0
    horizon_us: int | None = None
    folder: str = ""
    counts: Counts = NO_DECISIONS


def hash_key(connection: Connection, random_bytes: Callable[[int], bytes] | None) -> bytes:
    """Return the key that ids are hashed under, drawing and recording it where there is none and one can be drawn."""
    key = _read(connection, _HASH_KEY)
    if key is None:
        if random_bytes is None:
            return bytes(HASH_KEY_BYTES)  # of a ledger that holds nothing yet
        key = random_bytes(HASH_KEY_BYTES)
        _write(connection, _HASH_KEY, key)
    return key


def archive_mark(connection: Connection) -> ArchiveMark:
    """Return how far the ledger is archived."""
    return read_mark(_read(connection, ARCHIVE))


def read_mark(value: bytes | None) -> ArchiveMark:
    """Return what is recorded under `ARCHIVE`; None stands for nothing."""
    return ArchiveMark() if value is None else msgspec.json.decode(value, type=ArchiveMark)


def set_archive_mark(connection: Connection, mark: ArchiveMark) -> None:
    """Record how far the ledger is archived."""
    _write(connection, ARCHIVE, msgspec.json.encode(mark))


def _read(connection: Connection, key: str) -> bytes | None:
    return connection.scalar(select(SETTINGS.c.value).where(SETTINGS.c.key == key))


def _write(connection: Connection, key: str, value: bytes) -> None:
    connection.execute(delete(SETTINGS).where(SETTINGS.c.key == key))
    connection.execute(insert(SETTINGS), {"key": key, "value": value})
