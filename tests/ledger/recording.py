"""Groups to record, and what a ledger holds."""

from contextlib import contextmanager

import msgspec
import numpy as np
from sqlalchemy import text

from tollgate.decision import Decision, Mode, Outcome, Reason
from tollgate.label import Label, LabelSource
from tollgate.ledger import Counts, Group, History

DAY_US = 86_400_000_000


def decision(name, bundle="bundle-1"):
    return Decision(name, Outcome.BLOCK, 0.9, 0.8, Mode.NORMAL, (Reason("a", "b", 0.1),), ("ip",), bundle)


def answer(name):
    return msgspec.json.encode(decision(name))


def body(name):
    return b'{"transaction_id":"%s"}' % name.encode()


def group(*names, effective_us=1, observed_us=2, counts=None, shadow=None):
    """A group of decided transactions, each of whose features say its place."""
    n = len(names)
    return Group(
        list(names), np.full(n, effective_us), [body(one) for one in names], [answer(one) for one in names],
        np.arange(2.0 * n).reshape(n, 2), observed_us, "bundle-1", counts or Counts(block=n), shadow,
    )  # fmt: skip


def past(*names, effective_us=1, observed_us=2):
    return [History(one, effective_us, observed_us, body(one)) for one in names]


def label(name, source="chargeback", *, is_fraud=True, at_us=5):
    return Label(name, is_fraud, LabelSource(source), at_us)


def known_frauds(ledger, after=0):
    """Number, time and place of the transactions that became known as fraud by labels after sequence number `after`."""
    return [tuple(one) for one in ledger.frauds(after, ledger.transactions).frauds]


def bodies(ledger, after=0):
    return [one.body for part in ledger.replay(after) for one in part]


@contextmanager
def stopped(engine, table, verb):
    """Let the database refuse to insert into, or to delete from, a table."""
    if engine.dialect.name == "sqlite":
        made = [f"CREATE TRIGGER stop BEFORE {verb} ON {table} BEGIN SELECT RAISE(ABORT, 'stopped'); END"]
        dropped = "DROP TRIGGER stop"
    else:
        raises = "LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'stopped'; END $$"
        made = [
            f"CREATE OR REPLACE FUNCTION stop() RETURNS trigger {raises}",
            f"CREATE TRIGGER stop BEFORE {verb} ON {table} FOR EACH ROW EXECUTE FUNCTION stop()",
        ]
        dropped = f"DROP TRIGGER stop ON {table}"
    with engine.begin() as connection:
        for one in made:
            connection.execute(text(one))
    yield
    with engine.begin() as connection:
        connection.execute(text(dropped))
