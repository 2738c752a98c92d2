"""API keys, lists, rule sets and the audit trail, as rows of the ledger's database.

Every change is one transaction with its audit row. Any process may make one while another writes decisions: SQLite puts
them one after the other, and the writer's lock is not needed.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Any

import msgspec
from sqlalchemy import Connection, Row, delete, func, insert, select, tuple_, update

from tollgate.control import ApiKey, AuditRecord, ListEntry, ListKind, Scope
from tollgate.errors import InputError
from tollgate.ledger.connection import reading, writing
from tollgate.ledger.control_tables import API_KEYS, AUDIT, LIST_ENTRIES, RULE_SETS
from tollgate.ledger.database import Database

__all__ = ["ApiKey", "AuditRecord", "Controls", "ListEntry", "ListKind", "Scope"]

MAX_TEXT = 500  # characters of a name, a value, a reason
MAX_RULES_BYTES = 2**20
_DETAIL = msgspec.json.Decoder(dict[str, Any])
_ENCODE = msgspec.json.Encoder().encode


class Controls(Database):
    """What people set while the server runs. Safe to use from several threads and processes."""

    def version(self) -> int:
        """Return the number of the newest audit record, 0 without any; what was read at another may have changed."""
        with reading(self._engine) as connection:
            return int(connection.scalar(_NEWEST) or 0)

    def audit(self, newest: int = 50) -> list[AuditRecord]:
        """Return the newest records, in the order in which they were written: the newest comes last."""
        query = select(AUDIT).order_by(AUDIT.c.seq.desc()).limit(newest)
        with reading(self._engine) as connection:
            rows = connection.execute(query).all()
        return [_record(row) for row in reversed(rows)]

    def note(self, actor: str, action: str, subject: str, at_us: int, **detail: Any) -> None:
        """Record a change that is kept elsewhere: another champion, another log level.

        Raises:
            InputError: A text is empty, too long or not printable.
            LedgerError: It was not recorded.
        """
        _check(actor=actor, action=action, subject=subject)
        with writing(self._engine) as connection:
            _note(connection, actor, action, subject, at_us, detail)

    def keys(self) -> list[ApiKey]:
        """Return all keys, the revoked ones too, in the order in which they were created."""
        with reading(self._engine) as connection:
            rows = connection.execute(select(API_KEYS).order_by(API_KEYS.c.created_us, API_KEYS.c.id)).all()
        return [_key(row) for row in rows]

    def add_key(self, key: ApiKey, actor: str, at_us: int) -> None:
        """Add a key.

        Raises:
            InputError: There is one with that id, it has no scope or no rate, or a text is empty, too long or not
                printable.
            LedgerError: Nothing was changed.
        """
        _check(actor=actor, id=key.id, name=key.name)
        if not 0 < key.rate_per_s < math.inf:
            raise InputError("bad_rate", f"expected a rate above 0 a second, but got {key.rate_per_s}")
        if not key.scopes:
            raise InputError("no_scope", f"expected at least one scope for key {key.name!r}: {', '.join(Scope)}")
        with writing(self._engine) as connection:
            if _find_key(connection, key.id) is not None:
                raise InputError("key_exists", f"expected a new id, but there is a key {key.id!r}")
            connection.execute(insert(API_KEYS), {**msgspec.structs.asdict(key), "scopes": " ".join(key.scopes)})
            detail = {"name": key.name, "scopes": key.scopes, "rate_per_s": key.rate_per_s}
            _note(connection, actor, "key.create", key.id, at_us, detail)

    def revoke_key(self, key_id: str, actor: str, at_us: int) -> None:
        """Make a key worthless from the servers' next reload on; one that is revoked stays as it is.

        Raises:
            InputError: There is no such key.
            LedgerError: Nothing was changed.
        """
        _check(actor=actor)
        with writing(self._engine) as connection:
            key = _find_key(connection, key_id)
            if key is None:
                raise InputError("no_key", f"expected the id of a key, but got {key_id!r}; see 'tollgate keys list'")
            if key.revoked_us is not None:
                return
            connection.execute(update(API_KEYS).where(API_KEYS.c.id == key_id), {"revoked_us": at_us})
            _note(connection, actor, "key.revoke", key_id, at_us, {"name": key.name})

    def entries(self) -> list[ListEntry]:
        """Return all list entries, those that have expired too, in the order in which they were added."""
        query = select(LIST_ENTRIES).order_by(LIST_ENTRIES.c.added_us, LIST_ENTRIES.c.column, LIST_ENTRIES.c.value)
        with reading(self._engine) as connection:
            rows = connection.execute(query).all()
        return [_entry(row) for row in rows]

    def entries_of(self, values: Collection[tuple[str, str]]) -> list[ListEntry]:
        """Return the entries for some pairs of column and value, those that have expired too."""
        if not values:
            return []
        query = select(LIST_ENTRIES).where(tuple_(LIST_ENTRIES.c.column, LIST_ENTRIES.c.value).in_(list(values)))
        with reading(self._engine) as connection:
            rows = connection.execute(query.order_by(LIST_ENTRIES.c.added_us)).all()
        return [_entry(row) for row in rows]

    def add_entry(self, entry: ListEntry, at_us: int) -> None:
        """Put a value on a list, in the name of `added_by`; it takes the place of an older entry for the same value.

        Raises:
            InputError: A text is empty, too long or not printable.
            LedgerError: Nothing was changed.
        """
        _check(actor=entry.added_by, column=entry.column, value=entry.value, reason=entry.reason)
        with writing(self._engine) as connection:
            before = connection.execute(delete(LIST_ENTRIES).where(_place(entry.list, entry.column, entry.value)))
            connection.execute(insert(LIST_ENTRIES), {**msgspec.structs.asdict(entry), "list": entry.list.value})
            detail = {"reason": entry.reason, "expires_us": entry.expires_us, "replaced": before.rowcount > 0}
            _note(
                connection, entry.added_by, "list.add", _subject(entry.list, entry.column, entry.value), at_us, detail
            )

    def remove_entry(self, kind: ListKind, column: str, value: str, actor: str, at_us: int) -> None:
        """Take a value off a list.

        Raises:
            InputError: It is not on it.
            LedgerError: Nothing was changed.
        """
        _check(actor=actor)
        with writing(self._engine) as connection:
            subject = _subject(kind, column, value)
            if connection.execute(delete(LIST_ENTRIES).where(_place(kind, column, value))).rowcount == 0:
                raise InputError("no_entry", f"expected an entry of a list, but there is none: {subject}")
            _note(connection, actor, "list.remove", subject, at_us, {})

    def put_rules(self, document: bytes, actor: str, at_us: int, **detail: Any) -> int:
        """Publish a rule set and return its version; older ones are kept.

        Args:
            document: JSON.
            actor: Who publishes it.
            at_us: When, in microseconds since 1970-01-01 UTC.
            detail: What else the audit trail should say of it.

        Raises:
            InputError: It is no JSON object, or it is over its limit.
            LedgerError: Nothing was changed.
        """
        _check(actor=actor)
        if len(document) > MAX_RULES_BYTES:
            raise InputError(
                "too_large", f"expected a rule set of at most {MAX_RULES_BYTES} bytes, got {len(document)}"
            )
        try:
            _DETAIL.decode(document)
        except msgspec.DecodeError as error:
            raise InputError("bad_rules", f"expected a rule set as a JSON object: {error}") from error
        with writing(self._engine) as connection:
            row = {"document": document, "published_by": actor, "published_us": at_us}
            version = connection.scalar(insert(RULE_SETS).returning(RULE_SETS.c.version), row)
            assert version is not None
            _note(connection, actor, "rules.publish", f"version {version}", at_us, {"bytes": len(document), **detail})
        return int(version)

    def rules(self) -> bytes | None:
        """Return the newest rule set, JSON; None before there is one."""
        with reading(self._engine) as connection:
            return connection.scalar(select(RULE_SETS.c.document).order_by(RULE_SETS.c.version.desc()).limit(1))


_NEWEST = select(func.max(AUDIT.c.seq))


def _note(connection: Connection, actor: str, action: str, subject: str, at_us: int, detail: dict[str, Any]) -> None:
    row = {"at_us": at_us, "actor": actor, "action": action, "subject": subject, "detail": _ENCODE(detail)}
    connection.execute(insert(AUDIT), row)


def _find_key(connection: Connection, key_id: str) -> Row[Any] | None:
    return connection.execute(select(API_KEYS).where(API_KEYS.c.id == key_id)).one_or_none()


def _record(row: Row[Any]) -> AuditRecord:
    return AuditRecord(row.seq, row.at_us, row.actor, row.action, row.subject, _DETAIL.decode(row.detail))


def _entry(row: Row[Any]) -> ListEntry:
    kind = ListKind(row.list)
    return ListEntry(kind, row.column, row.value, row.reason, row.added_by, row.added_us, row.expires_us)


def _key(row: Row[Any]) -> ApiKey:
    scopes = tuple(Scope(one) for one in row.scopes.split())
    return ApiKey(row.id, row.name, row.digest, scopes, row.rate_per_s, row.created_us, row.revoked_us)


def _place(kind: ListKind, column: str, value: str) -> Any:
    entry = LIST_ENTRIES.c
    return (entry.list == kind.value) & (entry.column == column) & (entry.value == value)


def _subject(kind: ListKind, column: str, value: str) -> str:
    return f"{kind.value} {column}={value}"


def _check(**texts: str) -> None:
    for name, text in texts.items():
        if not 0 < len(text) <= MAX_TEXT or not text.isprintable():
            # The text itself is not repeated: it may be a card number.
            got = f"{len(text)}" if text.isprintable() else f"{len(text)}, some of them not printable"
            raise InputError("bad_text", f"{name}: expected 1 to {MAX_TEXT} printable characters, but got {got}")
