"""What any ledger does: what was appended is there, all or none, once, in order, for one writer at a time."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import delete, update

from ledger.recording import answer, bodies, body, decision, group, known_frauds, label, past
from tollgate.errors import LedgerError
from tollgate.label import LabelResult
from tollgate.ledger import Counts, Ledger
from tollgate.ledger.connection import writing
from tollgate.ledger.tables import LABELS


@pytest.fixture
def ledger(open_ledger, url):
    return open_ledger(url)


def test_what_is_appended_is_found_after_reopening(open_ledger, url):
    """Ids, bodies and answers come back as they were; an unknown id is not there."""
    ledger = open_ledger(url)
    ledger.append(group("a", "b"))
    ledger.close()
    ledger = open_ledger(url)
    assert ledger.transactions == 2
    assert ledger.find(["b", "z"]) == {"b": (body("b"), answer("b"))}


def test_many_ids_are_looked_up_at_once_across_groups(ledger):
    """Each known one of many ids is found, whatever group it is in."""
    for start in range(0, 1200, 100):
        ledger.append(group(*(f"t{i}" for i in range(start, start + 100))))
    found = ledger.find([f"t{i}" for i in range(1300)])
    assert found == {f"t{i}": (body(f"t{i}"), answer(f"t{i}")) for i in range(1200)}


@given(data=st.lists(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=5), min_size=1, max_size=5)))
@settings(max_examples=40, deadline=None)
def test_a_ledger_is_a_dictionary_in_order_of_arrival(tmp_path_factory, ledger_url, data):
    """Groups with any new ids are recorded, groups with a known or doubled one are not; a reopened ledger agrees."""
    url = ledger_url(tmp_path_factory.mktemp("random"))
    oracle = []
    with Ledger(url, "os") as ledger:
        for names in data:
            if len(set(names)) == len(names) and not set(names) & set(oracle):
                ledger.append(group(*names))
                oracle += names
            else:
                with pytest.raises(LedgerError, match="recorded before"):
                    ledger.append(group(*names))
    with Ledger(url, write=False) as ledger:
        assert bodies(ledger) == [body(one) for one in oracle]
        assert ledger.find([*oracle, "other one"]).keys() == set(oracle)


def test_replay_yields_bodies_in_order_of_arrival_after_a_position(ledger):
    """A position may be in the middle of a group, or at the end."""
    ledger.append(group("z", "a", "k"))
    ledger.append(group("m"))
    assert bodies(ledger) == [body(one) for one in "zakm"]
    assert bodies(ledger, after=1) == [body(one) for one in "akm"]
    assert bodies(ledger, after=3) == [body("m")]
    assert bodies(ledger, after=4) == []


def test_replay_is_cut_into_bounded_chunks(ledger):
    """No chunk holds more than a few thousand transactions, however many there are."""
    ledger.import_history(past(*(f"t{i}" for i in range(10_000))), [], "me")
    sizes = [len(part) for part in ledger.replay()]
    assert sum(sizes) == 10_000
    assert max(sizes) <= 4096


def test_a_replay_goes_on_into_what_is_appended_meanwhile(ledger):
    """What comes while a replay runs is a part of it, so that one that follows a writer can catch up."""
    ledger.append(group("a"))
    parts = ledger.replay()
    assert len(next(parts)) == 1
    ledger.append(group("b", "c"))
    assert [one.body for one in next(parts)] == [body("b"), body("c")]


def test_a_group_with_a_known_id_is_recorded_not_at_all(ledger):
    """A known id, of a decision or of history, refuses its whole group, and the next one is recorded."""
    ledger.append(group("a"))
    with pytest.raises(LedgerError, match="'a' was recorded before"):
        ledger.append(group("b", "a"))
    with pytest.raises(LedgerError, match="'a' was recorded before"):
        ledger.import_history(past("b", "a"), [], "me")
    assert ledger.transactions == 1
    assert not ledger.find(["b"])
    ledger.append(group("c"))
    assert bodies(ledger) == [body("a"), body("c")]


def test_a_second_writer_is_refused_and_a_reader_is_not(open_ledger, url):
    """One process writes; the lock goes with it."""
    ledger = open_ledger(url)
    ledger.append(group("a"))
    with pytest.raises(LedgerError, match="another process writes"):
        open_ledger(url)
    reader = open_ledger(url, write=False)
    assert len(list(reader.decided())) == 1
    with pytest.raises(LedgerError, match="read only"):
        reader.append(group("b"))
    with pytest.raises(LedgerError, match="read only"):
        reader.add_labels([label("a")], "me", 9)
    ledger.close()
    open_ledger(url).close()


def test_a_reader_sees_new_groups_when_it_refreshes(open_ledger, url):
    """A reader that follows a writer finds what was appended since, and knows how many came."""
    ledger = open_ledger(url)
    ledger.append(group("a"))
    reader = open_ledger(url, write=False)
    assert reader.find(["a", "b"]).keys() == {"a"}
    ledger.append(group("b", "c"))
    assert reader.transactions == 1
    assert reader.refresh() == 2
    assert reader.transactions == 3
    assert reader.find(["a", "b", "c"]).keys() == {"a", "b", "c"}
    assert reader.refresh() == 0


@pytest.mark.parametrize("hashes", [lambda ids: [7] * len(ids), lambda ids: [2**64 - 1] * len(ids), lambda ids: [0] * len(ids),
                                    lambda ids: [7 + len(one) % 2 for one in ids]])  # fmt: skip
def test_ids_with_one_hash_are_told_apart(open_ledger, url, hashes):
    """The stored id decides, not its hash: also at the ends of the range, and where runs of taken places meet."""

    def collide(ids, _key):
        return np.array(hashes(ids), dtype=np.uint64)

    ledger = open_ledger(url, hash_ids=collide)
    ledger.append(group("a", "bb", "ccc"))
    ledger.append(group("dddd"))
    for one in (ledger, open_ledger(url, write=False, hash_ids=collide)):
        assert one.find(["dddd", "bb", "eeeee", "a", "ccc"]) == {
            name: (body(name), answer(name)) for name in ("a", "bb", "ccc", "dddd")
        }
    with pytest.raises(LedgerError, match="recorded before"):
        ledger.append(group("e", "bb"))


def test_decisions_come_back_with_the_features_that_they_were_made_on(ledger):
    """Of decided transactions, not of history; features bit for bit."""
    ledger.import_history(past("h"), [], "me")
    ledger.append(group("a", "b"))
    found = [(name, one, np.frombuffer(features).tolist()) for name, one, features in ledger.decided()]
    assert found == [("a", decision("a"), [0.0, 1.0]), ("b", decision("b"), [2.0, 3.0])]


def test_outcomes_are_summed_over_groups(ledger):
    """The counts that came with each group, history none."""
    assert ledger.outcomes() == Counts()
    ledger.import_history(past("h"), [], "me")
    ledger.append(group("a", "b", counts=Counts(1, 1, 0, 2)))
    ledger.append(group("c", counts=Counts(block=1)))
    assert ledger.outcomes() == Counts(1, 1, 1, 2)


def test_imported_history_has_no_answer(ledger):
    """It is found by its id, and replayed."""
    ledger.import_history(past("a", "b"), [], "me")
    assert ledger.find(["b"]) == {"b": (body("b"), None)}
    assert bodies(ledger) == [body("a"), body("b")]


def test_the_same_label_twice_is_one_label(ledger):
    """In one call, and in two; it says so."""
    ledger.append(group("a"))
    recorded, known = LabelResult.RECORDED, LabelResult.KNOWN
    assert ledger.add_labels([label("a"), label("a")], "me", 9) == [recorded, known]
    assert ledger.add_labels([label("a"), label("a", "analyst")], "me", 9) == [known, recorded]
    assert ledger.labels == 2


def test_a_label_without_a_time_repeats_what_its_source_says_last(ledger):
    """It counts from when it is recorded; sent again it changes nothing, and the opposite takes it back."""
    ledger.append(group("a"))
    said = [(True, 9), (True, 10), (False, 11), (False, 12), (True, 13)]
    results = [ledger.add_labels([label("a", is_fraud=one, at_us=None)], "me", at_us)[0] for one, at_us in said]
    assert results == ["recorded", "known", "recorded", "known", "recorded"]


def test_one_source_does_not_say_two_things_of_one_moment(ledger):
    """The first one stays; at another moment, or from another source, the opposite is a label of its own."""
    ledger.append(group("a"))
    other = [label("a", is_fraud=False), label("a", is_fraud=False, at_us=6), label("a", "analyst", is_fraud=False)]
    ledger.add_labels([label("a")], "me", 9)
    assert ledger.add_labels(other, "me", 9) == ["conflicting_label", "recorded", "recorded"]


def test_a_label_of_an_unknown_transaction_is_not_recorded(ledger):
    """The others of its call are."""
    ledger.append(group("a"))
    assert ledger.add_labels([label("b"), label("a")], "me", 9) == ["unknown_transaction", "recorded"]
    assert ledger.labels == 1


def test_a_transaction_becomes_known_as_fraud_by_its_first_label_of_fraud(ledger):
    """The earliest of one call; a later call changes nothing, nor does a label of no fraud."""
    ledger.append(group("a", "b", "c"))
    labels = [label("b", source, at_us=9 - i) for i, source in enumerate(("chargeback", "analyst", "customer"))]
    ledger.add_labels([*labels, label("c", is_fraud=False, at_us=1)], "me", 9)
    ledger.append(group("d"))
    ledger.add_labels([label("b", at_us=2), label("b", is_fraud=False, at_us=20), label("c", at_us=3)], "me", 9)
    assert known_frauds(ledger) == [(2, 7, 3), (3, 3, 4)]
    assert known_frauds(ledger, after=ledger.newest_label) == []


def test_labels_are_handed_over_up_to_a_transaction_and_none_is_left_out(ledger):
    """Whoever has so many transactions gets what came with or before them, and later the rest, once."""
    ledger.append(group("a"))
    ledger.add_labels([label("a", at_us=1)], "me", 9)
    ledger.import_history(
        past("b", "c"), [label("c", "import"), label("b", "import", is_fraud=False), label("x")], "me"
    )
    ledger.append(group("d"))
    ledger.add_labels([label("d")], "me", 9)
    for cut in range(ledger.transactions + 1):
        first, newest = ledger.frauds(0, cut)
        rest, last = ledger.frauds(newest, ledger.transactions)
        assert [one.number for one in first] == [n for n in (1, 3, 4) if n <= cut]
        assert [tuple(one) for one in first + rest] == [(1, 1, 1), (3, 5, 3), (4, 5, 4)]
        assert last == ledger.newest_label


def test_labels_are_never_changed_and_never_deleted(ledger):
    """By nobody: a verdict is taken back by another label."""
    ledger.append(group("a"))
    ledger.add_labels([label("a")], "me", 9)
    for change in (update(LABELS).values(is_fraud=False), delete(LABELS)):
        with pytest.raises(LedgerError, match="only ever added to"), writing(ledger.engine) as connection:
            connection.execute(change)


def test_bodies_are_found_by_number(ledger):
    """Of history and of decisions, in the order asked for; a number that is not there is an error."""
    ledger.import_history(past("a", "b"), [], "me")
    ledger.append(group("c"))
    assert ledger.numbers(["c", "z", "a"]) == {"a": 1, "c": 3}
    assert ledger.bodies([3, 1, 3]) == [body("c"), body("a"), body("c")]
    with pytest.raises(LedgerError, match="not there"):
        ledger.bodies([4])


def test_answers_are_kept_byte_for_byte(ledger):
    """What is sent again is what was sent, not what it would be encoded to now."""
    odd = b'{ "transaction_id": "a" }'
    ledger.append(dataclasses.replace(group("a"), answers=[odd]))
    assert ledger.find(["a"])["a"].answer == odd
