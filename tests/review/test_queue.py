"""The queue: bounded, in order, and fed from the ledger without a loss."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deciding import NOW_US, READER, payment
from review.house import House
from tollgate.decision import Outcome
from tollgate.label import Label, LabelSource
from tollgate.review.case import Case, Filter, Order, case_of
from tollgate.review.follower import Follower
from tollgate.review.queue import CLAIM_US, Queue


def case(number, score=0.5, amount=100.0, merchant="m"):
    return Case(number, f"t-{number}", Outcome.REVIEW, score, amount, NOW_US, merchant, ("a",))


@given(st.lists(st.tuples(st.floats(0, 1) | st.none(), st.floats(0, 1e9) | st.just(math.nan)), max_size=30))
def test_the_first_cases_are_those_of_a_full_sort(pairs):
    """In the order of expected loss; equal ones by age."""
    cases = [case(number, *pair) for number, pair in enumerate(pairs, 1)]
    queue = Queue()
    queue.add(cases)
    expected = sorted(cases, key=lambda one: (-one.loss_minor, one.number))
    assert [one.number for one in queue.first(Filter(), NOW_US, 7)] == [one.number for one in expected[:7]]
    assert [one.number for one in queue.first(Filter(Order.AGE), NOW_US, 7)] == [one.number for one in cases[:7]]
    best = queue.next(Filter(), "me", NOW_US)
    assert best is (expected[0] if cases else None)


def test_without_a_score_the_whole_amount_may_be_lost():
    """A decision without the model comes before one with a score; one without an amount is last."""
    assert case(1, None, 100.0).loss_minor == 100.0
    assert case(1, 0.9, 100.0).loss_minor == 90.0
    assert case(1, 0.9, math.nan).loss_minor == 0.0


def test_a_full_queue_leaves_out_the_oldest_and_says_how_many():
    """It never holds more than it may."""
    queue = Queue(3)
    queue.add(case(number) for number in range(1, 6))
    assert [one.number for one in queue.first(Filter(Order.AGE), NOW_US, 9)] == [3, 4, 5]
    assert queue.numbers().left_out == 2
    queue.close(["t-1", "t-4", "none"])
    queue.close_before(3)
    assert [one.number for one in queue.first(Filter(), NOW_US, 9)] == [5]


def test_a_claim_is_the_first_ones_until_it_expires():
    """Who has it may open the case again, and nobody claims what is not open."""
    queue = Queue()
    queue.add([case(1)])
    assert queue.claim(1, "anna", NOW_US) is None
    assert queue.claim(1, "anna", NOW_US + 1) is None
    assert queue.claim(1, "ben", NOW_US + 2).by == "anna"
    assert queue.next(Filter(), "ben", NOW_US + 2) is None
    assert queue.claim(1, "ben", NOW_US + 1 + CLAIM_US) is None
    assert queue.claim(1, "anna", NOW_US + 2 + CLAIM_US).by == "ben"
    assert queue.claim(2, "anna", NOW_US) is None
    assert queue.claim(2, "ben", NOW_US) is None


@pytest.fixture
def house(tmp_path):
    made = House(f"sqlite:///{tmp_path / 'ledger.db'}")
    yield made
    made.close()


def open_cases(house):
    return [one.number for one in house.queue.first(Filter(Order.AGE), house.now_us, 100)]


def test_the_queue_follows_decisions_and_labels_of_any_way(house):
    """A label of an analyst closes a case wherever it came from; that of a chargeback does not."""
    house.hold(1, 2)
    assert open_cases(house) == [1, 2]
    house.decide(payment(3))
    house.hold(4)
    house.ledger.add_labels(
        [Label("t-1", True, LabelSource.ANALYST), Label("t-2", True, LabelSource.CHARGEBACK)], "x", house.now_us
    )
    house.follower.look()
    assert open_cases(house) == [2, 4]
    house.follower.look()
    assert open_cases(house) == [2, 4]


def test_an_amount_is_in_the_base_currency_and_one_without_a_rate_is_unknown(house):
    """Such a case is in the queue all the same, at its end."""
    house.hold(1)
    (found,) = house.queue.first(Filter(), house.now_us, 5)
    assert found.amount_minor == 90_000.0
    assert math.isclose(found.loss_minor, 90_000.0 * found.score)
    (held,) = [one for chunk in house.cases.held(0, 1) for one in chunk]
    foreign = held._replace(body=held.body.replace(b'"EUR"', b'"USD"'))
    assert math.isnan(case_of(foreign, READER).amount_minor)


def test_old_decisions_are_no_cases(house):
    """At a start, what was held more than thirty days ago is left out."""
    house.hold(1)
    assert open_cases(house) == [1]
    house.tick(31 * 86_400)
    queue = Queue()
    Follower(house.cases, queue, READER, house.clock).look()
    assert queue.numbers().oldest_us is None
