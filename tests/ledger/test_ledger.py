"""The ledger: what was appended is there, all or none, for one writer at a time."""

import sqlite3
from contextlib import closing

import pytest

from tollgate.decision import Decision, Mode, Outcome, Reason
from tollgate.errors import LedgerError
from tollgate.label import Label, LabelSource
from tollgate.ledger import Entry, History, Ledger
from tollgate.ledger.tables import METADATA


def entry(name, body=b"{}"):
    decision = Decision(name, Outcome.BLOCK, 0.9, 0.8, Mode.NORMAL, (Reason("a", "b", 0.1),), ("ip",), "bundle-1")
    return Entry(History(name, 1, 2, body), decision, b"12345678")


@pytest.fixture
def url(tmp_path):
    return f"sqlite:///{tmp_path}/folder/ledger.db"


def test_what_is_appended_is_found_after_reopening(open_ledger, url):
    ledger = open_ledger(url)
    ledger.append([entry("a", b'{"x":1}'), entry("b")])
    ledger.close()
    ledger = open_ledger(url)
    assert ledger.transactions == 2
    found = ledger.find(["a", "z"])
    assert list(found) == ["a"]
    assert found["a"].body == b'{"x":1}'
    assert found["a"].decision == entry("a").decision


def test_more_ids_than_one_query_takes_are_all_looked_up(open_ledger, url):
    ledger = open_ledger(url)
    ledger.append([entry(f"t{i}") for i in range(1203)])
    assert len(ledger.find([f"t{i}" for i in range(1300)])) == 1203


def test_replay_yields_bodies_in_order_of_arrival_after_a_position(open_ledger, url):
    ledger = open_ledger(url)
    ledger.append([entry("z", b"1"), entry("a", b"2")])
    ledger.append([entry("m", b"3")])
    assert [one.body for part in ledger.replay() for one in part] == [b"1", b"2", b"3"]
    assert [one.body for part in ledger.replay(after=2) for one in part] == [b"3"]


def test_a_batch_with_a_known_id_is_recorded_not_at_all(open_ledger, url):
    ledger = open_ledger(url)
    ledger.append([entry("a")])
    with pytest.raises(LedgerError, match="could not write"):
        ledger.append([entry("b"), entry("a")])
    assert ledger.transactions == 1
    assert not ledger.find(["b"])
    ledger.append([entry("c")])
    assert [one.body for part in ledger.replay() for one in part] == [b"{}", b"{}"]


def test_a_second_writer_is_refused_and_a_reader_is_not(open_ledger, url):
    ledger = open_ledger(url)
    ledger.append([entry("a")])
    with pytest.raises(LedgerError, match="another process writes"):
        open_ledger(url)
    reader = open_ledger(url, write=False)
    assert len(list(reader.decided())) == 1
    ledger.close()
    open_ledger(url).close()


def test_the_same_label_twice_is_one_label(open_ledger, url):
    ledger = open_ledger(url)
    label = Label("a", is_fraud=True, available_us=5, source=LabelSource.CHARGEBACK)
    ledger.add_labels([label, label])
    ledger.add_labels([label])
    with closing(sqlite3.connect(ledger.url.removeprefix("sqlite:///"))) as connection:
        assert connection.execute("SELECT count(*) FROM labels").fetchone() == (1,)


def test_replay_tells_when_a_transaction_first_became_known_as_fraud(open_ledger, url):
    ledger = open_ledger(url)
    ledger.append([entry("a"), entry("b"), entry("c")])
    sources = (LabelSource.CHARGEBACK, LabelSource.ANALYST, LabelSource.CUSTOMER)
    labels = [Label("b", is_fraud=True, available_us=9 - i, source=source) for i, source in enumerate(sources)]
    ledger.add_labels([*labels, Label("c", is_fraud=False, available_us=1, source=LabelSource.IMPORT)])
    assert [one.fraud_known_us for part in ledger.replay() for one in part] == [None, 7, None]


def test_the_migrations_make_the_tables_that_the_code_declares(open_ledger, url):
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext
    from sqlalchemy import create_engine

    open_ledger(url).close()
    engine = create_engine(url)
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), METADATA) == []
    engine.dispose()


@pytest.mark.parametrize(("durability", "level"), [("fsync", 2), ("os", 1)])
def test_durability_sets_how_sqlite_syncs(open_ledger, url, durability, level):
    ledger = open_ledger(url, durability)
    with ledger._engine.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == level
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"


def test_a_folder_that_cannot_be_written_is_reported(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(LedgerError, match="could not open"):
        Ledger(f"sqlite:///{tmp_path}/file/ledger.db")
