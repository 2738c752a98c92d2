"""The ledger on SQLite: written before a decision is answered, read to recover."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, NamedTuple, Self

import msgspec
from sqlalchemy import Engine, bindparam, func, insert, select

from tollgate.decision import Decision, Mode, Outcome
from tollgate.errors import LedgerError
from tollgate.label import Label
from tollgate.ledger.connection import Durability, failure, migrate, open_engine, reading, writing
from tollgate.ledger.tables import DECISIONS, LABELS, TRANSACTIONS

_IDS_PER_QUERY = 500  # SQLite takes at least 999 parameters
REPLAY_ROWS = 4096

_DECISION = msgspec.json.Decoder(Decision)
_ENCODE = msgspec.json.Encoder().encode


class History(NamedTuple):
    """A transaction as it came: its id, its times, and its body as JSON with sorted keys."""

    transaction_id: str
    effective_us: int
    observed_us: int
    body: bytes


class Entry(NamedTuple):
    """A transaction and what was decided, with the features that it was decided on (float64 bytes)."""

    history: History
    decision: Decision
    features: bytes


class Replayed(NamedTuple):
    """A recorded transaction's body, and when it became known as fraud, if it did."""

    body: bytes
    fraud_known_us: int | None


class Recorded(NamedTuple):
    """What the ledger holds of a transaction; a transaction of imported history has no decision."""

    body: bytes
    decision: Decision | None


class Ledger:
    """The durable record. One process writes it at a time."""

    def __init__(self, url: str, durability: Durability = "fsync", *, write: bool = True) -> None:
        """Open the ledger, creating or migrating it where needed.

        Args:
            url: An SQLAlchemy URL: `sqlite:///path/to/tollgate.db`.
            durability: `fsync` survives a power cut, `os` only the death of the process.
            write: Take the writer's lock; without it the ledger is only read.

        Raises:
            LedgerError: It cannot be opened, or another process writes it.
        """
        self.url = url
        self._engine = open_engine(url, durability)
        self._lock = _lock(self._engine) if write else None
        try:
            if write:
                migrate(self._engine)
            with reading(self._engine, "open") as connection:
                self._last = int(connection.scalar(select(func.max(TRANSACTIONS.c.seq))) or 0)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the connections and give up the writer's lock."""
        self._engine.dispose()
        if self._lock is not None:
            self._lock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    @property
    def transactions(self) -> int:
        """How many transactions it holds: the arrival number of the newest."""
        return self._last

    @property
    def labels(self) -> int:
        """How many labels it holds."""
        with reading(self._engine) as connection:
            return int(connection.scalar(select(func.count()).select_from(LABELS)) or 0)

    def outcomes(self) -> list[tuple[Outcome, Mode, int]]:
        """Return how many decisions there are of each outcome and mode."""
        query = select(DECISIONS.c.outcome, DECISIONS.c.mode, func.count()).group_by(
            DECISIONS.c.outcome, DECISIONS.c.mode
        )
        with reading(self._engine) as connection:
            return [(Outcome(outcome), Mode(mode), count) for outcome, mode, count in connection.execute(query)]

    def find(self, ids: Sequence[str]) -> dict[str, Recorded]:
        """Return what is recorded of those of `ids` that are known."""
        found: dict[str, Recorded] = {}
        with reading(self._engine) as connection:
            for start in range(0, len(ids), _IDS_PER_QUERY):
                part = list(ids[start : start + _IDS_PER_QUERY])
                for row in connection.execute(_FIND, {"ids": part}):
                    decision = _DECISION.decode(row.document) if row.document is not None else None
                    found[row.transaction_id] = Recorded(row.body, decision)
        return found

    def append(self, entries: Sequence[Entry]) -> None:
        """Record transactions and their decisions, all or none, durably, in this order.

        Raises:
            LedgerError: Nothing was recorded.
        """
        decisions: list[dict[str, object]] = [
            {
                "seq": seq,
                "bundle": entry.decision.bundle,
                "outcome": entry.decision.outcome.value,
                "mode": entry.decision.mode.value,
                "score": entry.decision.score,
                "document": _ENCODE(entry.decision),
                "features": entry.features,
            }
            for seq, entry in enumerate(entries, self._last + 1)
        ]
        self._record([entry.history for entry in entries], decisions, [])

    def import_history(self, history: Sequence[History], labels: Sequence[Label]) -> None:
        """Record past transactions that were not decided here, and their labels, all or none."""
        self._record(history, [], labels)

    def add_labels(self, labels: Sequence[Label]) -> None:
        """Record labels; the same label again changes nothing."""
        self._record([], [], labels)

    def _record(
        self, history: Sequence[History], decisions: Sequence[dict[str, object]], labels: Sequence[Label]
    ) -> None:
        rows = [{"seq": seq, **one._asdict()} for seq, one in enumerate(history, self._last + 1)]
        verdicts = [
            {"transaction_id": one.transaction_id, "is_fraud": one.is_fraud, "available_us": one.available_us,
             "source": one.source.value}
            for one in labels
        ]  # fmt: skip
        with writing(self._engine) as connection:
            if rows:
                connection.execute(_ADD_TRANSACTION, rows)
            if decisions:
                connection.execute(_ADD_DECISION, decisions)
            if verdicts:
                connection.execute(_ADD_LABEL, verdicts)
        self._last += len(rows)

    def replay(self, after: int = 0) -> Iterator[list[Replayed]]:
        """Yield all transactions after arrival number `after`, in arrival order, in chunks."""
        query = (
            select(TRANSACTIONS.c.body, _FRAUD_KNOWN.c.available_us)
            .outerjoin(_FRAUD_KNOWN, _FRAUD_KNOWN.c.transaction_id == TRANSACTIONS.c.transaction_id)
            .where(TRANSACTIONS.c.seq > after)
            .order_by(TRANSACTIONS.c.seq)
        )
        with reading(self._engine) as connection:
            for part in connection.execution_options(yield_per=REPLAY_ROWS).execute(query).partitions():
                yield [Replayed(body, fraud_known_us) for body, fraud_known_us in part]

    def decided(self) -> Iterator[tuple[str, Decision, bytes]]:
        """Yield id, decision and feature bytes of every decided transaction, in arrival order."""
        query = (
            select(TRANSACTIONS.c.transaction_id, DECISIONS.c.document, DECISIONS.c.features)
            .join(DECISIONS, DECISIONS.c.seq == TRANSACTIONS.c.seq)
            .order_by(TRANSACTIONS.c.seq)
        )
        with reading(self._engine) as connection:
            for identifier, document, features in connection.execution_options(yield_per=REPLAY_ROWS).execute(query):
                yield identifier, _DECISION.decode(document), features


_FIND = (
    select(TRANSACTIONS.c.transaction_id, TRANSACTIONS.c.body, DECISIONS.c.document)
    .outerjoin(DECISIONS, DECISIONS.c.seq == TRANSACTIONS.c.seq)
    .where(TRANSACTIONS.c.transaction_id.in_(bindparam("ids", expanding=True)))
)
_FRAUD_KNOWN = (
    select(LABELS.c.transaction_id, func.min(LABELS.c.available_us).label("available_us"))
    .where(LABELS.c.is_fraud)
    .group_by(LABELS.c.transaction_id)
    .subquery()
)
_ADD_TRANSACTION, _ADD_DECISION = insert(TRANSACTIONS), insert(DECISIONS)
_ADD_LABEL = insert(LABELS).prefix_with("OR IGNORE")


def _lock(engine: Engine) -> IO[str]:
    path = Path(engine.url.database or "tollgate.db")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = path.with_name(path.name + ".lock").open("w")
    except OSError as error:
        raise failure("open", engine, error) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        lock.close()
        raise LedgerError(
            "ledger_in_use", f"another process writes the ledger {engine.url}; stop it first, or use another ledger"
        ) from None
    return lock
