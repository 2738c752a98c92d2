"""The archive: nothing is lost and nothing is there twice, wherever it stops."""

import numpy as np
import polars as pl
import pytest
from sqlalchemy import text

from ledger.recording import DAY_US, answer, bodies, body, decision, group, known_frauds, label, past, stopped
from tollgate.errors import LedgerError
from tollgate.ledger import Counts, Shadow
from tollgate.ledger.archive import archive

DAYS = (20_000, 20_001, 20_002)  # of observation, since 1970


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "archive"


@pytest.fixture
def ledger(open_ledger, url):
    """Three days, two groups each: t0 t1, h0 h1 (history), t2 t3, h2 h3, ..."""
    ledger = open_ledger(url)
    for i, day in enumerate(DAYS):
        at_us = day * DAY_US
        ledger.append(group(f"t{2 * i}", f"t{2 * i + 1}", effective_us=at_us - 5, observed_us=at_us + 10))
        ledger.import_history(
            past(f"h{2 * i}", f"h{2 * i + 1}", effective_us=at_us - 7, observed_us=at_us + 20), [], "me"
        )
    return ledger


IDS = ["t0", "t1", "h0", "h1", "t2", "t3", "h2", "h3", "t4", "t5", "h4", "h5"]


def check(ledger, archived):
    """All of it is replayed once and in order, from anywhere, and the counts are those of all."""
    for after in range(len(IDS) + 1):
        assert bodies(ledger, after) == [body(one) for one in IDS[after:]]
    assert ledger.transactions == len(IDS)
    assert ledger.outcomes() == Counts(block=6)
    assert [name for name, _, _ in ledger.decided()] == [one for one in IDS if one[0] == "t"]
    assert ledger.find(IDS).keys() >= set(IDS[archived:])


def test_old_groups_go_to_a_file_a_day_and_the_rest_stays(ledger, folder, open_ledger, url):
    """What is left is found; what went is not, and the horizon says from when on."""
    done = archive(ledger, DAYS[2] * DAY_US, folder)
    assert [path.name for path in done.files] == [
        "transactions-2024-10-04-1.parquet",
        "transactions-2024-10-05-5.parquet",
    ]
    assert done.transactions == 8
    assert not done.held_up_by
    check(ledger, archived=8)
    assert ledger.horizon_us == DAYS[1] * DAY_US - 5
    with ledger.engine.connect() as connection:
        assert connection.execute(text("SELECT min(first) FROM groups")).scalar() == 9
    ledger.close()
    again = open_ledger(url)
    check(again, archived=8)
    assert again.find(IDS).keys() == set(IDS[8:])
    assert again.horizon_us == DAYS[1] * DAY_US - 5
    again.append(group("new"))
    assert again.transactions == len(IDS) + 1


def test_a_file_says_all_that_was_recorded(open_ledger, url, folder):
    """In columns that any tool reads; a challenger's scores too."""
    ledger = open_ledger(url)
    ledger.append(group("a", "b", effective_us=3, observed_us=9, shadow=Shadow("bundle-2", np.array([0.25, 0.5]))))
    ledger.import_history(past("c", effective_us=4, observed_us=10), [], "me")
    frame = pl.read_parquet(archive(ledger, DAY_US, folder).files[0])
    features = [np.array([0.0, 1.0]).tobytes(), np.array([2.0, 3.0]).tobytes(), None]
    assert frame.to_dict(as_series=False) == {
        "seq": [1, 2, 3],
        "transaction_id": ["a", "b", "c"],
        "effective_us": [3, 3, 4],
        "observed_us": [9, 9, 10],
        "body": [body("a"), body("b"), body("c")],
        "answer": [answer("a"), answer("b"), None],
        "features": features,
        "bundle": ["bundle-1", "bundle-1", None],
        "shadow_bundle": ["bundle-2", "bundle-2", None],
        "shadow_score": [0.25, 0.5, None],
    }
    assert next(iter(ledger.decided())) == ("a", decision("a"), features[0])


@pytest.mark.parametrize(("table", "verb"), [("settings", "INSERT"), ("groups", "DELETE")])
def test_an_archiving_that_stops_in_between_is_taken_up_by_the_next(ledger, folder, open_ledger, url, table, verb):
    """After the file and before the mark, or after the mark and before the deletion."""
    with stopped(ledger.engine, table, verb):
        with pytest.raises(LedgerError, match="stopped"):
            archive(ledger, DAYS[1] * DAY_US, folder)
        assert len(list(folder.iterdir())) == 1
        check(ledger, archived=0)
        ledger.close()
        ledger = open_ledger(url)
        check(ledger, archived=4)
    archive(ledger, DAYS[2] * DAY_US, folder)
    check(ledger, archived=8)
    assert sum(pl.read_parquet(path).height for path in folder.iterdir()) == 8
    with ledger.engine.connect() as connection:
        assert connection.execute(text("SELECT min(first) FROM groups")).scalar() == 9


def test_a_file_left_by_a_try_that_stopped_is_no_part_of_the_archive(ledger, folder):
    """The mark says how far the files count; the next try may write fewer or more."""
    with stopped(ledger.engine, "settings", "INSERT"), pytest.raises(LedgerError, match="stopped"):
        archive(ledger, DAYS[0] * DAY_US + 21, folder)
    done = archive(ledger, DAYS[0] * DAY_US + 15, folder)  # only the first group
    assert done.transactions == 2
    check(ledger, archived=2)
    assert archive(ledger, DAYS[2] * DAY_US).transactions == 6
    check(ledger, archived=8)


def test_a_running_writer_goes_on_and_learns_of_the_archive(ledger, folder, open_ledger, url):
    """An archiving by another process: what went is not found any more, and the horizon is known when it matters."""
    reader = open_ledger(url, write=False)
    archive(reader, DAYS[1] * DAY_US, folder)
    assert ledger.find(["t0", "t2"]).keys() == {"t2"}
    assert ledger.horizon_us == DAYS[0] * DAY_US - 5
    ledger.append(group("new"))
    assert ledger.find(["new"])
    assert bodies(ledger) == [body(one) for one in [*IDS, "new"]]


def test_a_replay_that_is_under_way_goes_on_in_the_files(open_ledger, url, folder):
    """What it had not read yet comes from there, once."""
    ledger = open_ledger(url)
    for start in range(0, 12_000, 1000):
        ledger.append(group(*(f"t{i}" for i in range(start, start + 1000))))
    parts = ledger.replay()
    got = [one.body for one in next(parts)]
    archive(ledger, DAY_US, folder, file_rows=5000)
    got += [one.body for part in parts for one in part]
    assert got == [body(f"t{i}") for i in range(12_000)]


def test_labels_of_archived_transactions_are_recorded_and_their_bodies_found(ledger, folder):
    """A chargeback may come after the transaction went."""
    archive(ledger, DAYS[1] * DAY_US, folder)
    assert ledger.add_labels([label("t1"), label("t2"), label("none")], "me", 9) == [
        "recorded", "recorded", "unknown_transaction",
    ]  # fmt: skip
    numbers = [number for number, _, _ in known_frauds(ledger)]
    assert numbers == [2, 5]
    assert ledger.bodies(numbers) == [body("t1"), body("t2")]


def test_a_day_is_cut_into_files_of_bounded_size(ledger, folder):
    """However many transactions a day has."""
    done = archive(ledger, DAYS[2] * DAY_US, folder, file_rows=1)
    assert [pl.read_parquet(path).height for path in done.files] == [2, 2, 2, 2]
    check(ledger, archived=8)


def test_a_transaction_from_the_future_holds_up_the_archive(open_ledger, url, folder):
    """Else one wrong clock would move the horizon past every payment to come."""
    ledger = open_ledger(url)
    ledger.append(group("a", effective_us=1, observed_us=2))
    ledger.append(group("b", effective_us=DAY_US, observed_us=2))
    ledger.append(group("c", effective_us=1, observed_us=2))
    done = archive(ledger, 100, folder)
    assert done.transactions == 1
    assert "number 2" in done.held_up_by
    assert ledger.horizon_us == 1


def test_the_folder_is_remembered_and_another_must_hold_the_files(ledger, folder, tmp_path):
    """The files may be moved, but not left behind."""
    with pytest.raises(LedgerError, match="--to"):
        archive(ledger, 0)
    archive(ledger, DAYS[1] * DAY_US, folder)
    with pytest.raises(LedgerError, match=r"transactions-\*-1.parquet"):
        archive(ledger, DAYS[2] * DAY_US, tmp_path / "other")
    folder.rename(tmp_path / "moved")
    with pytest.raises(LedgerError, match="put it back"):
        list(ledger.replay())
    archive(ledger, DAYS[2] * DAY_US, tmp_path / "moved")
    check(ledger, archived=8)


def test_a_damaged_file_is_an_error_and_not_a_shorter_history(ledger, folder):
    """A replay without it would be another state."""
    path = archive(ledger, DAYS[1] * DAY_US, folder).files[0]
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(LedgerError, match="restore it"):
        list(ledger.replay())


def test_nothing_old_enough_is_no_error(ledger, folder):
    """No file, no mark, no horizon."""
    assert archive(ledger, 0, folder).transactions == 0
    assert ledger.horizon_us is None
    assert not list(folder.iterdir())


def test_an_index_that_is_built_while_others_archive_holds_what_is_left(ledger, folder, open_ledger, url):
    """A reader that had looked at the ledger before the archiving, and looks an id up after it."""
    early, late = open_ledger(url, write=False), open_ledger(url, write=False)
    archive(ledger, DAYS[1] * DAY_US, folder)
    assert early.find(IDS).keys() == set(IDS[4:])
    assert early.horizon_us == DAYS[0] * DAY_US - 5
    archive(ledger, 2 * DAYS[2] * DAY_US)
    assert late.find(IDS) == {}
    assert late.transactions == len(IDS)
    assert late.horizon_us == DAYS[2] * DAY_US - 5
