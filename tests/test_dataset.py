import datetime as dt
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from learning import DAY_0, payments
from tollgate.config import SplitConfig
from tollgate.dataset import first_of_card, known_compromised, split, windows
from tollgate.duration import DAY_US
from tollgate.errors import InputError

WEEK_US = 7 * DAY_US


def day_us(text):
    return np.datetime64(text, "us").astype(np.int64)


def test_the_handbook_protocol_tests_the_week_after_training_and_delay():
    times = np.array([day_us("2018-04-01"), day_us("2018-09-30")])
    config = SplitConfig(train_start=dt.date(2018, 7, 25), train="7d", test="7d")

    ((training, testing),) = windows(times, config, WEEK_US)

    assert (training.start_us, training.end_us) == (day_us("2018-07-25"), day_us("2018-08-01"))
    assert (testing.start_us, testing.end_us) == (day_us("2018-08-08"), day_us("2018-08-15"))


def test_by_default_the_newest_whole_days_are_tested():
    times = np.array([day_us("2026-01-01"), day_us("2026-01-30T15:00")])

    ((training, testing),) = windows(times, SplitConfig(test="7d"), 2 * DAY_US)

    assert (testing.start_us, testing.end_us) == (day_us("2026-01-24"), day_us("2026-01-31"))
    assert (training.start_us, training.end_us) == (times[0], day_us("2026-01-22"))


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 99),
    delay=st.integers(0, 4),
    late=st.integers(0, 9),
    validation=st.sampled_from([0.1, 0.3, 0.5]),
)
def test_no_label_is_used_before_it_was_known_and_parts_follow_each_other(seed, delay, late, validation):
    data = payments(seed=seed)
    rng = np.random.default_rng(seed)
    data = replace(data, available_us=data.time_us + rng.integers(0, late + 1, len(data)) * DAY_US)

    (parts,) = split(data, SplitConfig(test="4d", validation=validation), delay * DAY_US)

    for part in (parts.train, parts.validation):
        assert part.available_us.max() <= parts.testing.start_us
        assert part.time_us.max() < parts.training.end_us <= parts.testing.start_us - delay * DAY_US
    assert parts.train.time_us.max() < parts.validation.time_us.min()
    assert parts.testing.holds(parts.test.time_us).all()
    in_training = np.count_nonzero(parts.training.holds(data.time_us))
    assert len(parts.train) + len(parts.validation) + parts.immature == in_training
    assert len(parts.validation) == pytest.approx(validation * (in_training - parts.immature), abs=2)


@pytest.mark.parametrize(
    ("change", "code", "words"),
    [
        ({"is_fraud": np.zeros(4000, dtype=bool)}, "one_class", "no fraud"),
        ({"is_fraud": np.ones(4000, dtype=bool)}, "one_class", "nothing but fraud"),
        ({"available_us": np.full(4000, (DAY_0 + 99) * DAY_US)}, "empty_part", "have a label that came after"),
    ],
)
def test_a_part_that_cannot_be_used_is_refused_by_name(change, code, words):
    with pytest.raises(InputError, match=words) as caught:
        split(replace(payments(), **change), SplitConfig(test="4d"), DAY_US)

    assert caught.value.code == code
    assert "training part" in caught.value.message


def test_a_period_without_rows_is_refused():
    with pytest.raises(InputError, match="test part") as caught:
        split(payments(), SplitConfig(train_start=dt.date(2016, 7, 20), train="10d", test="2d"), 90 * DAY_US)

    assert caught.value.code == "empty_part"


def test_nothing_at_all_is_refused():
    data = payments()
    with pytest.raises(InputError, match="there are none"):
        split(data.take(np.zeros(len(data), dtype=bool)), SplitConfig(), DAY_US)


frauds = st.lists(st.tuples(st.integers(1, 6), st.integers(0, 10 * 24)), max_size=12)


@given(rows=st.lists(st.tuples(st.integers(0, 6), st.integers(0, 10 * 24)), min_size=1, max_size=20), frauds=frauds)
def test_a_card_is_known_from_the_first_midnight_after_its_first_known_fraud(rows, frauds):
    hour_us = DAY_US // 24
    card, hour = np.array(rows).T
    fraud_card, available = np.array(frauds, dtype=np.int64).reshape(-1, 2).T

    known = known_compromised(
        card.astype(np.uint64),
        hour * hour_us,
        fraud_card=fraud_card.astype(np.uint64),
        fraud_available_us=available * hour_us,
    )

    expected = [any(c == card and at < hour // 24 * 24 for c, at in frauds) for card, hour in rows]
    assert known.tolist() == expected


def test_known_cards_are_those_of_the_handbook():
    """The book's own rule, day by day: frauds of training, then of the day that is one delay and a day before."""
    data = payments(days=20, delay_days=3)
    config = SplitConfig(train_start=dt.date(2016, 7, 20), train="5d", test="6d")  # day 17,002

    (parts,) = split(data, config, 3 * DAY_US)

    day = data.time_us // DAY_US
    start = parts.training.start_us // DAY_US
    known = set(data.card[data.is_fraud & (day >= start) & (day < start + 5)])
    expected = []
    for ahead in range(6):
        today = start + 5 + 3 + ahead
        known |= set(data.card[data.is_fraud & (day == start + 5 + ahead - 1)])
        expected += [card in known for card in data.card[day == today]]
    assert parts.test_known.tolist() == expected
    assert 0 < sum(expected) < len(expected)


@pytest.mark.parametrize("rows", [[7, 3], [3, 4, 5], [0, 9, 2], [5]])
def test_rows_are_taken_whole(rows):
    """Whether they are neighbours, which are not copied, or not."""
    data = payments(50)

    taken = data.take(np.array(rows))

    assert taken.ids.tolist() == [f"t-{row}" for row in rows]
    assert np.array_equal(taken.features, data.features[rows], equal_nan=True)
    assert taken.time_us.tolist() == data.time_us[rows].tolist()
    assert taken.features.base is data.features or rows not in ([3, 4, 5], [5])


@pytest.mark.parametrize("keep", [[True, True, False, False], [True, False, True, False]])
def test_features_are_selected_with_all_that_is_known_of_them(keep):
    """Names, kinds and steps go with their columns."""
    data = replace(payments(50), back=(0, 1, 2, 3))

    chosen = data.select(np.array(keep))

    places = np.flatnonzero(keep)
    assert chosen.names == tuple(data.names[place] for place in places)
    assert chosen.back == tuple(places)
    assert np.array_equal(chosen.features, data.features[:, places], equal_nan=True)


def test_folds_go_on_in_steps_and_a_training_without_a_length_grows():
    """Each fold tests one step later; what begins on a given day trains on more each time, a given length moves on."""
    times = np.array([day_us("2018-04-01"), day_us("2018-09-30")])
    growing = SplitConfig(
        train_start=dt.date(2018, 5, 6), test_start=dt.date(2018, 8, 8), test="7d", folds=3, step="7d"
    )
    moving = SplitConfig(train_start=dt.date(2018, 7, 25), train="7d", test="7d", folds=3, step="7d")

    for folds, config in ((windows(times, one, WEEK_US), one) for one in (growing, moving)):
        tests = [(testing.start_us, testing.end_us) for _, testing in folds]
        ends = [training.end_us for training, _ in folds]
        starts = [training.start_us for training, _ in folds]
        first = day_us("2018-08-08")
        assert tests == [(first + fold * WEEK_US, first + (fold + 1) * WEEK_US) for fold in range(3)]
        assert ends == [start - WEEK_US for start, _ in tests]
        moved = [fold * WEEK_US * (config is moving) for fold in range(3)]
        assert starts == [starts[0] + by for by in moved]


def test_folds_counted_from_the_end_have_the_newest_week_last():
    """Without a first day, the folds lie before the newest one."""
    times = np.array([day_us("2026-01-01"), day_us("2026-02-28T15:00")])

    folds = windows(times, SplitConfig(folds=2), WEEK_US)

    assert [testing.start_us for _, testing in folds] == [day_us("2026-02-15"), day_us("2026-02-22")]


def test_a_label_known_before_its_transaction_is_refused():
    """A time in the wrong column would let the model see the future."""
    data = payments(200)
    data.available_us[7] = data.time_us[7] - 1

    with pytest.raises(InputError, match="t-7") as caught:
        split(data, SplitConfig(test="4d"), DAY_US)
    assert caught.value.code == "early_label"


def test_the_first_row_of_each_card_is_new():
    """In order of arrival; what has no card is never new."""
    cards = np.array([5, 0, 5, 9, 0, 9, 2], dtype=np.uint64)

    assert first_of_card(cards).tolist() == [True, False, False, True, False, False, True]


def test_the_fingerprint_changes_with_what_is_learned_from_and_with_nothing_else():
    data = payments(200)
    other_nan = data.features.copy()
    other_nan.view(np.uint64)[np.isnan(data.features)] ^= 1
    flipped = data.is_fraud.copy()
    flipped[3] ^= True
    moved = data.features.copy()
    moved[0, 0] = np.nextafter(moved[0, 0], np.inf)

    same = [payments(200), replace(data, features=other_nan), replace(data, amount=data.amount + 1)]
    changed = [
        replace(data, is_fraud=flipped),
        replace(data, features=moved),
        replace(data, names=("a", "b", "c", "d")),
    ]

    assert {one.fingerprint() for one in same} == {data.fingerprint()}
    assert len({one.fingerprint() for one in changed} | {data.fingerprint()}) == 4
