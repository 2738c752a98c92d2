"""An SQLite file that cannot be used: each failure says what to do, and nothing is half recorded."""

import os
import random
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config as AlembicConfig

from ledger.recording import bodies, body, group, label, past
from tollgate.errors import LedgerError
from tollgate.ledger import Ledger
from tollgate.ledger import sqlite as sqlite_dialect
from tollgate.ledger.checkpoint import Checkpoints
from tollgate.ledger.connection import open_engine, writing
from tollgate.ledger.control_tables import METADATA

ROOT_READS_ALL = pytest.mark.skipif(os.geteuid() == 0, reason="nothing is read-only for root")


@pytest.fixture
def url(tmp_path, sqlite_url):
    return sqlite_url(tmp_path)


def path_of(url):
    return Path(url.removeprefix("sqlite:///"))


def test_a_full_disk_refuses_a_group_and_the_next_one_fits_when_there_is_room(open_ledger, url):
    """Nothing of the refused group is there, and its ids are free."""
    ledger = open_ledger(url)
    ledger.append(group("a"))
    driver = ledger._writer._connection
    pages = driver.execute("PRAGMA page_count").fetchone()[0]
    driver.execute(f"PRAGMA max_page_count={pages}")
    many = group(*(f"t{i}" for i in range(200)))
    with pytest.raises(LedgerError, match="disk is full; make room"):
        ledger.append(many)
    assert ledger.transactions == 1
    assert ledger.find(["a", *many.ids]).keys() == {"a"}
    driver.execute("PRAGMA max_page_count=1000000")
    ledger.append(many)
    assert bodies(ledger) == [body(one) for one in ("a", *many.ids)]


def test_a_lock_of_another_process_is_waited_for_and_then_reported(open_ledger, url, monkeypatch):
    """A decision does not wait for ever."""
    monkeypatch.setattr(sqlite_dialect, "BUSY_S", 0.05)
    ledger = open_ledger(url)
    with closing(sqlite3.connect(path_of(url), isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        for write in (
            lambda: ledger.append(group("a")),
            lambda: ledger.import_history(past("a"), [label("a")], "me"),
            lambda: ledger.add_labels([label("a")], "me", 1),
        ):
            with pytest.raises(LedgerError, match="another process has held it"):
                write()
        other.execute("ROLLBACK")
    assert ledger.transactions == 0
    assert ledger.labels == 0
    ledger.append(group("a"))
    assert bodies(ledger) == [body("a")]


def test_history_and_labels_are_recorded_together_or_not_at_all(open_ledger, url):
    """A failure after the first group leaves neither groups nor labels."""
    ledger = open_ledger(url)
    with closing(sqlite3.connect(path_of(url))) as other:
        other.execute("CREATE TRIGGER stop BEFORE INSERT ON labels BEGIN SELECT RAISE(ABORT, 'stopped'); END")
    with pytest.raises(LedgerError, match="stopped"):
        ledger.import_history(past(*(f"t{i}" for i in range(2000))), [label("t0")], "me")
    assert ledger.transactions == 0
    assert not ledger.find(["t0", "t1999"])
    assert bodies(ledger) == []


def test_a_group_that_is_there_although_its_write_failed_is_found(open_ledger, url):
    """After a failure the ledger looks at what is there before it goes on."""
    ledger, twin = open_ledger(url), None
    with closing(sqlite3.connect(path_of(url))) as other:
        other.execute("CREATE TRIGGER stop BEFORE INSERT ON groups BEGIN SELECT RAISE(ABORT, 'stopped'); END")
        with pytest.raises(LedgerError, match="stopped"):
            ledger.append(group("a"))
        other.execute("DROP TRIGGER stop")
        twin = open_ledger(url.replace("ledger.db", "twin.db"))
        twin.append(group("a"))
        other.execute("ATTACH ? AS twin", (str(path_of(twin.url)),))
        other.execute("DELETE FROM settings")
        other.execute("INSERT INTO settings SELECT * FROM twin.settings")
        other.execute("INSERT INTO groups SELECT * FROM twin.groups")
        other.commit()
    ledger.append(group("b"))
    assert bodies(ledger) == [body("a"), body("b")]


def test_a_folder_that_cannot_be_made_is_reported(tmp_path):
    """Before anything is decided."""
    (tmp_path / "file").write_text("")
    with pytest.raises(LedgerError, match="could not open"):
        Ledger(f"sqlite:///{tmp_path}/file/ledger.db")


@ROOT_READS_ALL
@pytest.mark.parametrize("what", ["folder", "file"])
def test_what_is_read_only_is_reported_at_the_start(open_ledger, url, what):
    """A ledger needs to write its file, and beside it."""
    open_ledger(url).close()
    place = path_of(url).parent if what == "folder" else path_of(url)
    before = place.stat().st_mode
    place.chmod(before & ~0o222)
    try:
        with pytest.raises(LedgerError, match="writable"):
            Ledger(url)
    finally:
        place.chmod(before)


def test_a_file_that_is_no_database_is_reported(url):
    """The URL may name something else."""
    path_of(url).parent.mkdir()
    path_of(url).write_bytes(b"no database" * 1000)
    with pytest.raises(LedgerError, match="no SQLite file; check the URL"):
        Ledger(url)


@pytest.mark.parametrize("harm", ["pages", "payload", "gap"])
def test_a_damaged_ledger_is_an_error_and_not_a_shorter_history(open_ledger, url, harm):
    """Damage to the file, to a group, or a group that is gone."""
    ledger = open_ledger(url)
    for start in range(0, 900, 300):
        ledger.append(group(*(f"t{i}" for i in range(start, start + 300))))
    ledger.close()
    if harm == "pages":
        data = bytearray(path_of(url).read_bytes())
        data[len(data) // 2 :] = os.urandom(len(data) - len(data) // 2)
        path_of(url).write_bytes(data)
    else:
        with closing(sqlite3.connect(path_of(url))) as other:
            if harm == "payload":
                other.execute("UPDATE groups SET payload = x'00' WHERE first = 301")
            else:
                other.execute("DELETE FROM groups WHERE first = 301")
            other.commit()
    reader = open_ledger(url, write=False)
    with pytest.raises(LedgerError, match=r"damaged.*restore it from a copy"):
        bodies(reader)
    if harm == "gap":
        with pytest.raises(LedgerError, match=r"damaged.*restore it from a copy"):
            reader.find(["t0"])


_CHILD = """
import sys
from ledger.recording import group
from tollgate.ledger import Ledger
ledger = Ledger(sys.argv[1], sys.argv[2])
at = ledger.transactions
while True:
    size = 1 + at % 7
    ledger.append(group(*(f"t{i}" for i in range(at, at + size))))
    at += size
    print(at, flush=True)
"""


def test_what_was_acknowledged_before_a_kill_is_there_once(open_ledger, url):
    """SIGKILL at any moment, again and again: each acknowledged group is whole and in its place."""
    chance = random.Random(5)
    folders = [str(Path(__file__).parents[1]), *sys.path]
    acknowledged = 0
    for _ in range(3):
        child = subprocess.Popen(
            [sys.executable, "-c", _CHILD, url, "os"],
            stdout=subprocess.PIPE, env=os.environ | {"PYTHONPATH": os.pathsep.join(folders)},
        )  # fmt: skip
        first = child.stdout.readline()
        time.sleep(chance.uniform(0, 0.3))
        child.kill()
        rest = child.stdout.read()
        child.wait()
        child.stdout.close()
        said = [int(line) for line in (first + rest).splitlines(keepends=True) if line.endswith(b"\n")]
        assert said
        acknowledged = said[-1]
        ledger = open_ledger(url)
        assert ledger.transactions >= acknowledged
        assert bodies(ledger) == [body(f"t{i}") for i in range(ledger.transactions)]
        assert len(ledger.find([f"t{i}" for i in range(acknowledged)])) == acknowledged
        ledger.close()


def test_the_log_is_moved_into_the_database_while_groups_are_appended(open_ledger, url):
    """It does not grow with all that was ever written, even where the writer never pauses."""
    ledger = open_ledger(url, "os")
    ledger._writer.checkpoints.close()
    ledger._writer.checkpoints = Checkpoints(ledger.engine, every_bytes=200_000, most_pages=200)
    log, size, written = path_of(url).with_name("ledger.db-wal"), 0, 0
    while written < 60_000_000:
        names = [f"t{ledger.transactions + i}" for i in range(1000)]
        ledger.append(group(*names))
        written += 200 * len(names)
        size = max(size, log.stat().st_size)
    assert path_of(url).stat().st_size > written / 4
    assert size < written / 4


def test_the_migrations_make_the_tables_that_the_code_declares(open_ledger, url):
    """Else a new ledger and a migrated one differ."""
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
    """On the connection that every decision waits for, too."""
    ledger = open_ledger(url, durability)
    driver = ledger._writer._connection
    assert driver.execute("PRAGMA synchronous").fetchone() == (level,)
    assert driver.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_a_ledger_of_before_labels_had_a_place_is_migrated_with_its_labels(open_ledger, url):
    """They are there, without a place; new ones have one, and nobody changes either."""
    path_of(url).parent.mkdir(parents=True)
    engine = open_engine(url)
    config = AlembicConfig()
    config.set_main_option("script_location", "tollgate.ledger:migrations")
    config.set_main_option("path_separator", "os")
    with writing(engine) as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0002")
        connection.exec_driver_sql("INSERT INTO labels VALUES (1, 'a', 1, 5, 'chargeback')")
        connection.exec_driver_sql("INSERT INTO labels VALUES (2, 'gone', 0, 5, 'analyst')")
    engine.dispose()
    ledger = open_ledger(url)
    ledger.append(group("a", "b"))
    assert ledger.add_labels([label("a"), label("b")], "me", 9) == ["known", "recorded"]
    assert ledger.old_frauds() == {"a": 5}
    assert [tuple(one) for one in ledger.frauds(0, 2).frauds] == [(2, 5, 2)]
    with writing(ledger.engine) as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, "0002")
        command.upgrade(config, "head")
    assert ledger.labels == 3
