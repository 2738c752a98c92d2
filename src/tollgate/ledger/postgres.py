"""PostgreSQL as a ledger's database, through psycopg 3: on another machine, which may go away and come back.

A ledger is one schema, that of the connection's search path. psycopg is used through SQLAlchemy alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Engine, Insert, Table, text
from sqlalchemy.dialects.postgresql import insert

from tollgate.ledger.durability import Durability

CONNECT_S = 5  # how long a new connection may take
LOCK_S = 5  # how long a statement waits for another's lock
SILENT_S = 10  # without a word from the other end, a connection is given up
_PROBE_S = 3  # between two questions whether the other end is there
_PROBES = 3

# In an advisory lock, the first number says for what, the second is that of the schema, or of a name in it.
WRITES, CHANGES, ARCHIVES, NAMES, STARTS = 0x746F01, 0x746F02, 0x746F03, 0x746F04, 0x746F05
SCHEMA = "hashtext(coalesce(current_schema(), ''))"

_SYNCHRONOUS: dict[Durability, str] = {"fsync": "on", "os": "off"}
STANDBY = "this is a standby, or read-only; let the URL name the primary: target_session_attrs=read-write"
_AWAY = "its server cannot be reached, or does not let it in; it is tried again with every request"
_ADVICE = {
    # By SQLSTATE, or its class: https://www.postgresql.org/docs/current/errcodes-appendix.html
    "08": _AWAY,
    "57P": "its server is stopping or starting; it is tried again with every request",
    "57014": "a statement took longer than the server allows; find what holds it in pg_stat_activity",
    "55P03": f"another process has held it for more than {LOCK_S} s; try again, or find it in pg_locks",
    "40": "it collided with another transaction; try again",
    "53100": "its disk is full; make room",
    "53300": "its server has no connection left; raise max_connections, or end some",
    "53": "its server is short of memory or other means; see its log",
    "25006": STANDBY,
    "3F000": "make that schema: CREATE SCHEMA",
    "42501": "its user needs the rights to create and change tables there: see docs/ledger.md",
    "22": "a value cannot be stored; see the server's log",
    "XX001": "the database is damaged; restore it from a copy",
    "XX002": "an index is damaged; run REINDEX",
}


def connecting() -> dict[str, Any]:
    """Return what an engine is made with."""
    return {
        "connect_args": {
            "connect_timeout": CONNECT_S,
            "application_name": "tollgate",
            "keepalives_idle": _PROBE_S,
            "keepalives_interval": _PROBE_S,
            "keepalives_count": _PROBES,
            "tcp_user_timeout": SILENT_S * 1000,
        },
        "pool_pre_ping": True,  # the server may have been started anew since
    }


def set_up(connection: Any, durability: Durability) -> None:
    """Prepare a new connection of the driver."""
    connection.autocommit = True  # what is set in a transaction goes with it
    for setting in (
        f"synchronous_commit = {_SYNCHRONOUS[durability]}",
        f"lock_timeout = '{LOCK_S}s'",
        f"tcp_keepalives_idle = {_PROBE_S}",  # so that the server ends, and unlocks, what has lost its client
        f"tcp_keepalives_interval = {_PROBE_S}",
        f"tcp_keepalives_count = {_PROBES}",
    ):
        connection.execute(f"SET {setting}")
    connection.autocommit = False


def prepare(_engine: Engine) -> None:
    """Make nothing: a server, and a database in it, are there."""


def begin(connection: Connection) -> None:
    """Begin to write, after all others who write have ended."""
    connection.execute(text(f"SELECT pg_advisory_xact_lock({CHANGES}, {SCHEMA})"))


def insert_new(table: Table) -> Insert:
    """Return an insert that leaves out the rows that are there."""
    return insert(table).on_conflict_do_nothing()


def insert_all(connection: Connection, table: Table, rows: Sequence[tuple[object, ...]]) -> None:
    """Insert many rows: the table's columns in their order."""
    driver: Any = connection.connection.driver_connection
    columns = ", ".join(f'"{column.name}"' for column in table.columns)
    with driver.cursor() as cursor, cursor.copy(f"COPY {table.name} ({columns}) FROM STDIN (FORMAT BINARY)") as copy:
        copy.set_types([_COPIED[type(column.type).__name__] for column in table.columns])
        for row in rows:
            copy.write_row(row)


_COPIED = {"BigInteger": "int8", "Integer": "int4", "LargeBinary": "bytea", "String": "varchar"}


def explain(error: BaseException) -> tuple[str, str]:
    """Return what a driver's error says, without the values that it may quote, and what helps."""
    state = getattr(error, "sqlstate", None) or ""
    diagnosis = getattr(error, "diag", None)
    lines = (getattr(diagnosis, "message_primary", None) or str(error) or type(error).__name__).splitlines()
    if not state:
        lost = {"OperationalError", "InterfaceError"} & {kind.__name__ for kind in type(error).__mro__}
        return lines[0], _AWAY if lost else _ADVICE["22"]
    for length in (5, 3, 2):
        if state[:length] in _ADVICE:
            return lines[0], _ADVICE[state[:length]]
    return f"{lines[0]} (SQLSTATE {state})", "see the server's log"
