"""Cases of a ledger: what is held is found, what is settled is not, and nothing that was said is lost."""

from dataclasses import replace

import msgspec
import numpy as np
import pytest
from sqlalchemy import text

from ledger.recording import label
from tollgate.decision import Decision, Mode, Outcome
from tollgate.errors import LedgerError
from tollgate.ledger import Counts, Group, Tried
from tollgate.ledger.archive import archive
from tollgate.ledger.cases import Cases, Disposition, Place
from tollgate.ledger.connection import open_engine, writing
from tollgate.ledger.group import Packed, pack


def group(*pairs, observed_us=2, card="c"):
    """Decided transactions by name and outcome."""
    outcomes = [Outcome(outcome) for _, outcome in pairs]
    names = [name for name, _ in pairs]
    return Group(
        names, np.full(len(names), 1), [msgspec.json.encode({"card_id": card, "id": one}) for one in names],
        [
            msgspec.json.encode(Decision(name, outcome, 0.5, 0.9, Mode.NORMAL, (), (), "bundle-1"))
            for name, outcome in zip(names, outcomes, strict=True)
        ],
        np.arange(2.0 * len(names)).reshape(-1, 2), observed_us, "bundle-1",
        Counts(*(outcomes.count(one) for one in Outcome)),
    )  # fmt: skip


@pytest.fixture
def ledger(open_ledger, url):
    return open_ledger(url)


@pytest.fixture
def cases(ledger, url):
    with Cases(url) as opened:
        yield opened


def names(chunks):
    return [one.transaction_id for chunk in chunks for one in chunk]


def test_what_is_held_is_found_in_order_and_what_is_approved_is_not(ledger, cases):
    """After a position, up to another; each with all that was recorded of it."""
    ledger.append(group(("a", "approve"), ("b", "review")))
    ledger.append(group(("c", "approve")))
    ledger.append(group(("d", "block"), ("e", "review"), observed_us=7))
    assert cases.extent() == (0, 5)
    assert names(cases.held(0, 5)) == ["b", "d", "e"]
    assert names(cases.held(2, 5)) == ["d", "e"]
    assert names(cases.held(0, 3)) == ["b"]
    (found,) = [one for chunk in cases.held(0, 3) for one in chunk]
    assert (found.number, found.effective_us, found.observed_us, found.bundle) == (2, 1, 2, "bundle-1")
    assert cases.payment(2) == found
    assert np.frombuffer(found.features).tolist() == [2.0, 3.0]
    assert cases.payment(6) is None
    assert cases.payment(0) is None


def test_a_payment_names_the_bundle_that_decided_it(ledger, cases):
    """What a canary decided is told apart from the champion's payments beside it."""
    tried = Tried("canary-1", np.array([False, True]))
    ledger.append(replace(group(("a", "review"), ("b", "review")), tried=tried))
    assert [one.bundle for chunk in cases.held(0, 2) for one in chunk] == ["bundle-1", "canary-1"]
    assert cases.payment(2).bundle == "canary-1"


def test_a_beginning_is_bounded_by_time_and_by_number(ledger, cases):
    """Groups observed before are left out, and so are older ones once there are enough."""
    for number in range(4):
        ledger.append(group((f"t{number}", "review"), observed_us=10 * number))
    assert cases.beginning(0, 100) == 0
    assert cases.beginning(15, 100) == 2
    assert cases.beginning(0, 1) == 3
    assert cases.beginning(1000, 100) == 4


def test_labels_of_analysts_and_dispositions_settle_a_case_and_others_do_not(ledger, cases):
    """A chargeback is no answer of an analyst; what is inconclusive is settled without a label."""
    ledger.append(group(("a", "review"), ("b", "review"), ("c", "review"), ("d", "review")))
    begin = cases.place()
    assert begin == Place(0, 0)
    ledger.add_labels([label("a", "analyst"), label("b", "chargeback")], "key:1", 9)
    cases.dispose("c", Disposition.INCONCLUSIVE, "card called", "key:2", 10)
    now = cases.place()
    assert cases.settled(["a", "b", "c", "d"]) == {"a", "c"}
    assert cases.settled_since(begin, now) == {"a", "c"}
    assert cases.settled_since(now, cases.place()) == set()


def test_all_that_was_said_is_told_in_order_and_its_revision_grows(ledger, cases):
    """Labels of any source and dispositions, each with who and when."""
    ledger.append(group(("a", "review")))
    first = cases.findings("a")
    ledger.add_labels([label("a", "chargeback")], "key:1", 9)
    second = cases.findings("a")
    cases.dispose("a", Disposition.FALSE_POSITIVE, "known customer", "key:2", 12)
    third = cases.findings("a")
    assert len({first.revision, second.revision, third.revision}) == 3
    assert first.all == ()
    assert [tuple(one) for one in third.all] == [
        ("is fraud", "chargeback", "", 9, "key:1"), ("false_positive", "case", "known customer", 12, "key:2"),
    ]  # fmt: skip


def test_a_disposition_is_never_changed(ledger, cases, url):
    """The database refuses it."""
    cases.dispose("a", Disposition.INCONCLUSIVE, "", "key:2", 12)
    engine = open_engine(url)
    for change in ("UPDATE dispositions SET note = 'x'", "DELETE FROM dispositions"):
        with pytest.raises(LedgerError, match="only ever added"), writing(engine) as connection:
            connection.execute(text(change))
    engine.dispose()


def test_payments_that_share_a_text_are_found_around_a_case(ledger, cases):
    """Before and after it, the newest first, as far as is looked and as many as are wanted."""
    for number in range(40):
        ledger.append(group((f"t{number}", "approve"), card="one" if number % 4 == 0 else "other"))
    wanted = [b'"card_id":"one"']
    found = cases.around(21, wanted, 8, 100, lambda: True)
    assert [one.transaction_id for one in found.payments] == ["t28", "t24", "t20", "t16"]
    assert found.looked == 16
    nearest = cases.around(21, wanted, 8, 1, lambda: True).payments
    assert [one.transaction_id for one in nearest] == ["t24", "t20"]
    assert cases.around(21, wanted, 8, 100, lambda: False).looked == 2


def test_a_text_across_two_bodies_is_not_found():
    """Bodies are joined when they are packed; what spans two of them belongs to neither."""
    one = group(("a", "review"), ("b", "review"))
    packed = Packed(pack(one))
    assert packed.rows_with([b'"id":"a"}', b'"id":"b"']) == [0, 1]
    assert packed.rows_with([b'"}{"']) == []
    assert packed.rows_with([b'"}{"', b'"id":"b"']) == [1]


def test_what_is_archived_is_no_case_any_more(ledger, cases, tmp_path):
    """It is not found by its number, and the extent says how far the archive goes."""
    ledger.append(group(("a", "review")))
    ledger.append(group(("b", "review"), observed_us=200_000_000_000))
    archive(ledger, 100_000_000_000, tmp_path / "archive")
    assert cases.payment(1) is None
    assert cases.extent() == (1, 2)
    assert names(cases.held(0, 2)) == ["b"]
