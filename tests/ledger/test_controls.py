"""Controls: every change leaves its audit row in the same transaction, beside whoever else writes the ledger."""

import sqlite3
import threading
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from ledger.recording import stopped
from tollgate.errors import InputError, LedgerError
from tollgate.ledger import Ledger, sqlite
from tollgate.ledger.controls import ApiKey, AuditRecord, Controls, ListEntry, ListKind, Scope

KEY = ApiKey("k1", "shop", b"d" * 32, (Scope.SCORE, Scope.LABEL), 50.0, created_us=10)
ENTRY = ListEntry(ListKind.BLOCK, "card_id", "card-7", "chargebacks", "ana", added_us=20)


@pytest.fixture
def file_url(tmp_path, sqlite_url):
    """Of a ledger on SQLite, whatever kind the other tests are for."""
    return sqlite_url(tmp_path)


@pytest.fixture
def controls(open_ledger, url):
    return open_ledger(url, kind=Controls)


def file_of(url):
    return url.removeprefix("sqlite:///")


def test_a_new_ledger_has_no_controls(controls):
    """Opening creates the tables, empty, and the version starts at 0."""
    assert (controls.version(), controls.audit(), controls.keys(), controls.entries()) == (0, [], [], [])
    assert controls.rules() is None


def test_what_is_set_is_there_after_reopening(controls, open_ledger, url):
    """Keys, entries and rules come back as they were given, from another connection."""
    controls.add_key(KEY, "ana", 11)
    controls.add_entry(ENTRY, 21)
    assert controls.put_rules(b'{"rules": []}', "ana", 31) == 1
    assert controls.put_rules(b'{"rules": [1]}', "ana", 32) == 2
    again = open_ledger(url, kind=Controls)
    assert (again.keys(), again.entries(), again.rules()) == ([KEY], [ENTRY], b'{"rules": [1]}')


def test_every_change_is_one_audit_record_and_one_version(controls):
    """Each kind of change moves the version by one and says who did what to what."""
    controls.add_key(KEY, "ana", 11)
    controls.revoke_key("k1", "ben", 12)
    controls.add_entry(ENTRY, 21)
    controls.remove_entry(ListKind.BLOCK, "card_id", "card-7", "ben", 22)
    controls.put_rules(b"{}", "ben", 31)
    controls.note("ops", "champion.promote", "b2", 41, before="b1")
    told = [(one.seq, one.at_us, one.actor, one.action, one.subject) for one in controls.audit()]
    assert told == [
        (1, 11, "ana", "key.create", "k1"),
        (2, 12, "ben", "key.revoke", "k1"),
        (3, 21, "ana", "list.add", "block card_id=card-7"),
        (4, 22, "ben", "list.remove", "block card_id=card-7"),
        (5, 31, "ben", "rules.publish", "version 1"),
        (6, 41, "ops", "champion.promote", "b2"),
    ]
    assert controls.version() == 6
    assert controls.audit(1) == [AuditRecord(6, 41, "ops", "champion.promote", "b2", {"before": "b1"})]


def test_the_audit_trail_tells_no_secret(controls):
    """The digest of a key is in its row alone, not in the audit record."""
    controls.add_key(KEY, "ana", 11)
    assert controls.audit()[0].detail == {"name": "shop", "scopes": ["score", "label"], "rate_per_s": 50.0}


def test_a_revoked_key_stays_as_it_was_revoked(controls):
    """Revoking twice changes and records nothing the second time."""
    controls.add_key(KEY, "ana", 11)
    controls.revoke_key("k1", "ana", 12)
    controls.revoke_key("k1", "ana", 13)
    assert controls.keys()[0].revoked_us == 12
    assert controls.version() == 2


def test_an_entry_for_the_same_value_takes_the_older_ones_place(controls):
    """Adding again replaces reason and expiry on that list, and leaves the other list alone."""
    longer = ListEntry(ListKind.BLOCK, "card_id", "card-7", "more of them", "ben", added_us=30, expires_us=99)
    allowed = ListEntry(ListKind.ALLOW, "card_id", "card-7", "test card", "ben", added_us=31)
    for entry in (ENTRY, longer, allowed):
        controls.add_entry(entry, 40)
    assert controls.entries() == [longer, allowed]
    assert [one.detail["replaced"] for one in controls.audit()] == [False, True, False]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda one: one.revoke_key("zz", "ana", 1), "expected the id of a key"),
        (lambda one: one.add_key(KEY, "ana", 1), "there is a key 'k1'"),
        (lambda one: one.add_key(ApiKey("k2", "shop", b"d" * 32, (), 1.0, 1), "ana", 1), "at least one scope"),
        (
            lambda one: one.add_key(ApiKey("k2", "a\nb", b"d" * 32, (Scope.SCORE,), 1.0, 1), "ana", 1),
            "name: .*printable",
        ),
        (lambda one: one.remove_entry(ListKind.ALLOW, "ip", "1", "ana", 1), "there is none: allow ip=1"),
        (lambda one: one.add_entry(ListEntry(ListKind.ALLOW, "ip", "x" * 501, "r", "a", 1), 1), "value: .* got 501"),
        (lambda one: one.note("", "a", "b", 1), "actor: "),
        (lambda one: one.put_rules(b"{", "ana", 1), "JSON object"),
        (lambda one: one.put_rules(b"[1]", "ana", 1), "JSON object"),
        (lambda one: one.put_rules(b" " * (2**20 + 1), "ana", 1), "at most 1048576 bytes"),
    ],
)
def test_a_change_that_cannot_be_made_leaves_no_trace(controls, change, message):
    """A refused change says what was expected, and neither rows nor the version move."""
    controls.add_key(KEY, "ana", 1)
    with pytest.raises(InputError, match=message):
        change(controls)
    assert (controls.version(), controls.keys(), controls.entries(), controls.rules()) == (1, [KEY], [], None)


def test_a_change_whose_audit_row_fails_is_not_made(controls):
    """The row and its audit record are one transaction: neither without the other."""
    with pytest.raises(TypeError):
        controls.note("ana", "a", "b", 1, detail=object())
    with (
        stopped(controls._engine, "audit", "INSERT"),
        pytest.raises(LedgerError, match=r"could not write the ledger .*stopped"),
    ):
        controls.add_key(KEY, "ana", 1)
    assert controls.keys() == []


@pytest.mark.parametrize("statement", ["UPDATE audit SET actor = 'x'", "DELETE FROM audit"])
def test_the_audit_trail_can_only_be_added_to(controls, statement):
    """The database itself refuses to change or delete an audit row."""
    controls.note("ana", "a", "b", 1)
    with controls._engine.connect() as raw, pytest.raises(DBAPIError, match="only ever added"):
        raw.execute(text(statement))


def test_controls_change_beside_the_ledgers_writer(open_ledger, url):
    """The writer's lock is not taken: changes go in while another holds it."""
    open_ledger(url, kind=Ledger)
    beside = open_ledger(url, kind=Controls)
    beside.add_key(KEY, "ana", 1)
    assert beside.version() == 1


def test_many_who_open_a_new_ledger_at_once_all_succeed(url):
    """Racing migrations and writes are put one after the other, and each is recorded once."""
    failed = []

    def work(name):
        try:
            with Controls(url) as one:
                for i in range(5):
                    one.note(name, "a", "b", i)
        except LedgerError as error:
            failed.append(error)

    threads = [threading.Thread(target=work, args=(f"t{i}",)) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    with Controls(url) as one:
        assert sorted((record.actor, record.at_us) for record in one.audit()) == [
            (f"t{i}", j) for i in range(6) for j in range(5)
        ]


def test_a_ledger_locked_for_too_long_is_reported(file_url, monkeypatch):
    """A transaction that does not end is waited for as long as stated, then said; what reads still reads."""
    monkeypatch.setattr(sqlite, "BUSY_S", 0.05)
    with Controls(file_url) as one, closing(sqlite3.connect(file_of(file_url), isolation_level=None)) as raw:
        raw.execute("BEGIN IMMEDIATE")
        with pytest.raises(LedgerError, match="database is locked; another process has held it"):
            one.add_key(KEY, "ana", 1)
        assert one.version() == 0
        raw.execute("COMMIT")
        one.add_key(KEY, "ana", 1)
        assert one.version() == 1


def test_a_read_only_ledger_is_read_and_not_written(open_ledger, file_url):
    """Changing a read-only ledger says so; the error names the remedy."""
    open_ledger(file_url, kind=Controls).note("ana", "a", "b", 1)
    with Controls(f"sqlite:///file:{file_of(file_url)}?mode=ro&uri=true") as one:
        assert one.version() == 1
        with pytest.raises(LedgerError, match="read-only; make its file and its folder writable"):
            one.note("ana", "a", "b", 2)


def test_a_file_that_is_no_ledger_is_reported(file_url):
    """Another file under the ledger's name is named, not overwritten."""
    content = b"this is no database, only text" * 200
    path = Path(file_of(file_url))
    path.parent.mkdir()
    path.write_bytes(content)
    with pytest.raises(LedgerError, match="no SQLite file"):
        Controls(file_url)
    assert path.read_bytes() == content


def test_a_folder_that_cannot_be_made_is_reported(tmp_path):
    """A path through a file ends in one clear error."""
    (tmp_path / "file").write_text("")
    with pytest.raises(LedgerError, match="could not open"):
        Controls(f"sqlite:///{tmp_path}/file/ledger.db")
