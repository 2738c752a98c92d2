"""What people set while the server runs: API keys, list entries, and the record of who changed what.

Values only; `ledger.controls` keeps them.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import msgspec


class Scope(StrEnum):
    """What a key may be used for."""

    SCORE = "score"
    LABEL = "label"
    ADMIN = "admin"  # the internal port: champion, log level


class ListKind(StrEnum):
    """What being on a list means."""

    ALLOW = "allow"
    BLOCK = "block"


class AuditRecord(msgspec.Struct, frozen=True):
    """One change.

    Attributes:
        seq: Its number; each is greater than the one before.
        at_us: When, in microseconds since 1970-01-01 UTC.
        actor: Who.
        action: What was done: `key.create`, `list.add`, `rules.publish`.
        subject: To what: a key's id, a list entry, a bundle.
        detail: What else there is to say; it never holds a secret.
    """

    seq: int
    at_us: int
    actor: str
    action: str
    subject: str
    detail: dict[str, Any]


class ApiKey(msgspec.Struct, frozen=True):
    """An API key as it is kept: its secret is not.

    Attributes:
        id: Public; names the key in logs and in the audit trail.
        digest: SHA-256 of the secret, 32 bytes.
        rate_per_s: Requests a second, sustained.
        created_us: In microseconds since 1970-01-01 UTC.
        revoked_us: Likewise; None while it is good.
    """

    id: str
    name: str
    digest: bytes
    scopes: tuple[Scope, ...]
    rate_per_s: float
    created_us: int
    revoked_us: int | None = None


class ListEntry(msgspec.Struct, frozen=True):
    """A value that is always let through or always blocked.

    Attributes:
        column: An entity or category column: `card_id`.
        value: As it stands in that column.
        reason: Why, for whoever reads it later.
        added_us: In microseconds since 1970-01-01 UTC.
        expires_us: From then on the entry counts no more; None is never.
    """

    list: ListKind
    column: str
    value: str
    reason: str
    added_by: str
    added_us: int
    expires_us: int | None = None
