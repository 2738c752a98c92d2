"""A ledger that several processes write: each id once, numbers without gaps, and who comes second learns of the first."""

import multiprocessing
import random
import threading

import numpy as np
import pytest

from ledger.recording import DAY_US, answer, bodies, body, group, past
from tollgate.errors import LedgerError
from tollgate.ledger import Counts, Group, Ledger, SharedLedger, partitions
from tollgate.ledger.archive import archive


@pytest.fixture
def url(postgres_server):
    return postgres_server.ledger()


@pytest.fixture
def shared(open_ledger, url):
    """Opens one more writer."""
    return lambda **options: open_ledger(url, "os", kind=SharedLedger, **options)


def told(writer, names):
    """Groups whose answers say who decided."""
    answers = [b'{"transaction_id":"%s","outcome":"approve","score":null,"confidence":null,"mode":"degraded",'
               b'"reasons":[],"missing":[],"bundle":"%s"}' % (one.encode(), writer.encode()) for one in names]  # fmt: skip
    return Group(list(names), np.ones(len(names), dtype=np.int64), [body(one) for one in names], answers, None, 2,
                 writer, Counts(approve=len(names), degraded=len(names)))  # fmt: skip


def test_each_writer_finds_at_once_what_the_others_recorded(shared):
    """And numbers go on from theirs."""
    one, two = shared(), shared()
    one.append(group("a", "b"))
    assert two.find(["a", "c"]) == {"a": (body("a"), answer("a"))}
    two.append(group("c"))
    one.append(group("d"))
    assert bodies(one) == [body(name) for name in "abcd"]
    assert (one.transactions, two.refresh(), two.transactions) == (4, 1, 4)


def test_the_second_to_record_an_id_learns_of_the_first_and_the_rest_of_its_group_is_recorded(shared):
    """Both had looked for it and found nothing; the counts are those of what was recorded."""
    one, two = shared(), shared()
    hashes = two.hashes(["c", "a", "d"])
    one.append(told("one", ["a", "b"]))
    known = two.record(told("two", ["c", "a", "d"]), hashes)
    assert {name: found.answer for name, found in known.items()} == {"a": told("one", ["a"]).answers[0]}
    assert bodies(one) == [body(name) for name in "abcd"]
    assert one.outcomes() == Counts(approve=4, degraded=4)
    assert two.record(told("two", ["a", "b"]), two.hashes(["a", "b"])).keys() == {"a", "b"}
    assert one.refresh() == 2


def test_a_writer_whom_others_beat_to_one_id_after_the_other_records_the_rest(shared, monkeypatch):
    """However many there are: each time there is less left to lose."""
    one, two = shared(), shared()
    names = [f"t{i}" for i in range(20)]
    taken, append = iter(names[:-1]), two.append

    def beaten(group, hashes=None):
        if name := next(taken, None):
            one.append(told("one", [name]))
        append(group, hashes)

    monkeypatch.setattr(two, "append", beaten)
    known = two.record(told("two", names), two.hashes(names))
    assert {name: found.answer for name, found in known.items()} == {
        name: told("one", [name]).answers[0] for name in names[:-1]
    }
    assert bodies(one) == [body(name) for name in names]


def test_a_group_is_appended_whole_or_not_at_all(shared):
    """What another has recorded meanwhile refuses all of it."""
    one, two = shared(), shared()
    one.append(group("a"))
    for hashes in (None, two.hashes(["b", "a"])):
        with pytest.raises(LedgerError, match="recorded"):
            two.append(group("b", "a"), hashes)
    assert bodies(one) == [body("a")]


def test_one_writer_and_several_keep_each_other_out(open_ledger, url, shared):
    """Who has seen all that was decided may not write beside who has not."""
    alone = open_ledger(url)
    alone.import_history(past("h"), [], "me")
    alone.append(group("a"))
    with pytest.raises(LedgerError, match="another process writes"):
        shared()
    alone.close()
    one, two = shared(), shared()
    assert two.find(["h", "a", "x"]) == {"h": (body("h"), None), "a": (body("a"), answer("a"))}
    assert two.record(group("b", "a"), two.hashes(["b", "a"])).keys() == {"a"}
    with pytest.raises(LedgerError, match="another process writes"):
        open_ledger(url)
    with pytest.raises(LedgerError, match="import before"):
        one.import_history(past("i"), [], "me")
    one.close()
    two.close()
    alone = open_ledger(url)
    assert alone.find(["b"])
    alone.append(group("c"))
    alone.close()
    assert shared().find(["c"])
    assert bodies(shared()) == [body(name) for name in "habc"]


def test_several_writers_need_postgresql(tmp_path, sqlite_url):
    """A file has one."""
    with pytest.raises(LedgerError, match="PostgreSQL for several writers"):
        SharedLedger(sqlite_url(tmp_path), writer="0")


def plan(seed, writers, ids, most):
    """Return for each writer the groups that it will record: all want the same ids, in an order of its own."""
    chance = random.Random(seed)
    plans = []
    for _ in range(writers):
        names = [f"t{i}" for i in range(ids)]
        chance.shuffle(names)
        groups = []
        while names:
            size = chance.randint(1, most)
            groups.append(names[:size])
            names = names[size:]
        plans.append(groups)
    return plans


def work(url, writer, groups, look):
    """Record groups as a scorer does, and return what each id was answered with."""
    answers = {}
    with SharedLedger(url, "os", writer=writer) as ledger:
        for names in groups:
            hashes = ledger.hashes(names)
            found = ledger.find(names, hashes) if look else {}
            fresh = [one for one in names if one not in found]
            made = told(writer, fresh)
            if fresh:
                found |= ledger.record(made, ledger.hashes(fresh))
            answers |= dict(zip(fresh, made.answers, strict=True))
            answers |= {one: recorded.answer for one, recorded in found.items()}
    return answers


def check(ledger, ids, all_answers):
    """Each id is recorded once, and whoever asked got the bytes that are recorded."""
    recorded = {name: (msg, place) for place, (name, msg) in enumerate(
        (one, answer) for part in _stretches(ledger) for one, answer in zip(part.ids, part.answers, strict=True))}  # fmt: skip
    assert ledger.transactions == ids == len(recorded)
    assert set(recorded) == {f"t{i}" for i in range(ids)}
    for answers in all_answers:
        assert answers == {name: msg for name, (msg, _) in recorded.items()}
    assert sum(ledger.outcomes()[:3]) == ids


def _stretches(ledger):
    from tollgate.ledger.stretches import stretches

    return [one for part in stretches(ledger.engine, 0) for one in part]


@pytest.mark.parametrize("seed", range(4))
def test_threads_that_race_for_the_same_ids_record_each_once(url, open_ledger, seed):
    """All of them want all ids, in an order of their own; every one is answered alike by all."""
    plans = plan(seed, writers=4, ids=150, most=12)
    answers = [None] * len(plans)

    def run(place):
        answers[place] = work(url, f"w{place}", plans[place], look=bool(place % 2))

    threads = [threading.Thread(target=run, args=(place,)) for place in range(len(plans))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    check(open_ledger(url, write=False), 150, answers)


def test_processes_that_race_for_the_same_ids_record_each_once(url, open_ledger):
    """As servers on several machines do."""
    plans = plan(9, writers=3, ids=300, most=20)
    context = multiprocessing.get_context("spawn")
    with context.Pool(len(plans)) as pool:
        jobs = [pool.apply_async(work, (url, f"w{place}", groups, True)) for place, groups in enumerate(plans)]
        answers = [job.get(200) for job in jobs]
    check(open_ledger(url, write=False), 300, answers)


def test_what_is_archived_is_dropped_and_its_ids_are_forgotten(shared, monkeypatch, tmp_path, postgres_server, url):
    """Whole parts at once; an id that came before the archive's horizon may come again with a newer time."""
    monkeypatch.setattr(partitions, "ROWS", 8)
    one, two = shared(), shared()
    for number in range(30):
        one.append(group(f"t{number}", effective_us=number, observed_us=number))
    assert parts(postgres_server, url) >= 5
    done = archive(one, 20, tmp_path / "archive")
    assert done.transactions == 20
    assert parts(postgres_server, url, "_0_8", "_8_16") == 0
    assert two.find([f"t{i}" for i in range(30)]).keys() == {f"t{i}" for i in range(20, 30)}
    assert two.horizon_us == 19
    two.append(group("t3", "t19", effective_us=40))
    assert one.find(["t3"])
    assert bodies(one) == [body(f"t{i}") for i in [*range(30), 3, 19]]
    archive(two, DAY_US)
    assert one.find(["t3", "t29"]) == {}
    one.append(group("new"))
    assert bodies(two)[-1] == body("new")
    assert one.transactions == 33


def test_ids_of_what_was_marked_and_not_yet_deleted_do_not_stand_in_the_way(shared, tmp_path, monkeypatch):
    """An archiving stopped between deleting the transactions and forgetting their ids."""
    one = shared()
    one.append(group("a", effective_us=1, observed_us=1))
    archive(one, 2, tmp_path / "archive")
    with one.engine.begin() as connection:
        from sqlalchemy import text

        key = one._keys(["a"], one.hashes(["a"]))[0]
        connection.execute(text("INSERT INTO ids VALUES (:key, 1)"), {"key": key})
    assert one.record(group("a", "b", effective_us=5), one.hashes(["a", "b"])) == {}
    assert bodies(one) == [body("a"), body("a"), body("b")]


def parts(server, url, *ends):
    rows = server.run("SELECT relname FROM pg_class WHERE relnamespace = current_schema()::regnamespace "
                      "AND relkind = 'r' AND relname ~ '^(groups|ids)_[0-9]+_'", url)  # fmt: skip
    return sum(not ends or row[0].removeprefix("groups").removeprefix("ids") in ends for row in rows)


def test_a_part_that_is_read_all_the_time_is_dropped_the_next_time(
    open_ledger, url, monkeypatch, tmp_path, postgres_server
):
    """The archive does not wait for a reader behind which every writer would wait."""
    monkeypatch.setattr(partitions, "ROWS", 8)
    ledger: Ledger = open_ledger(url)
    for number in range(20):
        ledger.append(group(f"t{number}", effective_us=number, observed_us=number))
    with ledger.engine.connect() as reader:
        from sqlalchemy import text

        reader.execute(text("SELECT count(*) FROM groups")).all()
        assert archive(ledger, 16, tmp_path / "archive").transactions == 16
        assert parts(postgres_server, url, "_0_8", "_8_16") == 2  # those of ids are gone
    assert bodies(ledger) == [body(f"t{i}") for i in range(20)]
    archive(ledger, 17)
    assert parts(postgres_server, url, "_0_8", "_8_16") == 0
    assert bodies(ledger) == [body(f"t{i}") for i in range(20)]
