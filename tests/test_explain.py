from dataclasses import replace

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from learning import QUICK, payments
from tollgate.explain import MAX_FAMILIES, MAX_ROWS, MAX_VARIANTS, MIN_EFFECT, Explainer, usual_values
from tollgate.features import cyclical, entity, log1p, tx
from tollgate.features.plan import compile_plan
from tollgate.features.reason import families
from tollgate.model.profile import profile_features
from tollgate.schema import payment_schema
from tollgate.train import fit

CARD, DEVICE, MERCHANT, IP = entity("card_id"), entity("device_id"), entity("merchant_id"), entity("ip")
FEATURES = [
    tx.amount, log1p(tx.amount), *CARD.count(over=["1h", "6h", "1d"]), *DEVICE.count(over=["1h", "1d"]),
    *MERCHANT.count(over=["1h", "1d"]), *IP.count(over=["1h", "1d"]), CARD.seconds_since_last(), tx.hour_of_day,
    *cyclical(tx.hour_of_day, 24), DEVICE.is_new_for(CARD), CARD.distinct(tx.merchant_id, over="1d"),
]  # fmt: skip
PLAN = compile_plan(FEATURES, payment_schema(), 100.0)
FAMILY = np.array(families(FEATURES))
REVIEW = 0.5


def histories(n, seed):
    """Rows of FEATURES; windows of one entity are nested, so that each can be read off the others."""
    rng = np.random.default_rng(seed)
    amount = rng.lognormal(3.5, 1.0, n).round(2)
    windows = []
    for rate, many in ((0.5, 3), (1.0, 2), (8.0, 2), (3.0, 2)):
        windows += list(np.cumsum([rng.poisson(rate, n) for _ in range(many)], axis=0))
    burst = rng.random(n) < 0.04
    windows[:3] = [window + burst * rng.integers(6, 12, n) for window in windows[:3]]
    hour = rng.uniform(0, 24, n)
    gap = np.where(rng.random(n) < 0.1, np.nan, rng.exponential(30_000, n))
    angle = hour * 2 * np.pi / 24
    columns = [
        amount, np.log1p(amount), *windows, gap, hour, np.sin(angle), np.cos(angle), rng.random(n) < 0.1,
        rng.poisson(1.0, n),
    ]  # fmt: skip
    rows = np.column_stack(columns).astype(float)
    return rows, (burst & (rng.random(n) < 0.9)) | ((amount > 250) & (rng.random(n) < 0.9))


def dataset(n, seed):
    rows, is_fraud = histories(n, seed)
    made = payments(n, seed)
    return replace(
        made, features=rows, names=PLAN.names, categorical=PLAN.categorical, back=PLAN.back, is_fraud=is_fraud
    )


@pytest.fixture(scope="module")
def profiles():
    return profile_features(histories(5000, 0)[0], PLAN.names, PLAN.categorical)


@pytest.fixture(scope="module")
def network():
    return fit(dataset(6000, 1), dataset(3000, 2), msgspec.structs.replace(QUICK, model="mlp"))


def explainer(score, profiles, most=3):
    return Explainer(score, PLAN.names, usual_values(profiles), {}, most, PLAN, profiles, "EUR")


def typical_row(profiles, **changes):
    """One row, (1, F), in which all is usual but what is named."""
    row = usual_values(profiles)[None].copy()
    for name, value in changes.items():
        row[0, PLAN.names.index(name)] = value
    return row


def without(rows, gone, profiles):
    """The rows with a set of families for each set to what is usual."""
    mask = np.stack([np.isin(FAMILY, list(one)) for one in gone])
    return np.where(mask, usual_values(profiles), rows)


def test_the_named_features_are_those_that_the_model_goes_by(network, profiles):
    """On held payments, without the named families a trained network's score falls over twice as far as without others."""
    rng = np.random.default_rng(0)
    rows = histories(4000, 3)[0]
    scores = network.scores(rows)
    held = np.flatnonzero(scores >= REVIEW)
    rows, scores = rows[held], scores[held]

    reasons = explainer(network.scores, profiles).explain(rows, scores)

    place = dict(zip(PLAN.names, FAMILY, strict=True))
    named = [{place[reason.code] for reason in found} for found in reasons]
    others = [rng.choice(np.setdiff1d(FAMILY, list(one)), len(one), replace=False) for one in named]
    fall = scores - network.scores(without(rows, named, profiles))
    fall_of_others = scores - network.scores(without(rows, others, profiles))
    assert held.size > 100
    assert all(named)
    assert fall.mean() > 2 * fall_of_others.mean()
    assert (fall > fall_of_others).mean() > 0.8


def test_an_effect_is_by_how_much_the_score_falls_without_the_family(network, profiles):
    """The figure beside a reason is what scoring the row again without it gives, in probability."""
    rows = histories(300, 4)[0]
    scores = network.scores(rows)
    rows, scores = rows[(scores > 0.2) & (scores < 0.95)], scores[(scores > 0.2) & (scores < 0.95)]

    for row, score, found in zip(rows, scores, explainer(network.scores, profiles).explain(rows, scores), strict=True):
        for reason in found:
            family = FAMILY[PLAN.names.index(reason.code)]
            again = network.scores(without(row[None], [{family}], profiles))[0]
            assert reason.effect == pytest.approx(score - again, abs=1e-4)


def test_windows_that_stand_in_for_each_other_are_a_reason_together(profiles):
    """A model that reads a burst off any window is explained, though no window matters by itself."""
    windows = slice(2, 5)

    def score(rows):
        return 1 / (1 + np.exp(3 - rows[:, windows].max(axis=1)))

    row = typical_row(profiles, card_count_1h=9, card_count_6h=9, card_count_1d=9)
    (found,) = explainer(score, profiles).explain(row, score(row))
    alone = Explainer(score, PLAN.names, usual_values(profiles), {}, 3).explain(row, score(row))

    assert [reason.text for reason in found] == ["9 transactions of this card in 1 h; usually 0"]
    assert not alone[0] or alone[0][0].effect < found[0].effect / 10


def test_a_family_is_named_by_its_most_unusual_member(profiles):
    """Of three windows the one that is furthest from its own usual value speaks."""
    row = typical_row(profiles, card_count_1h=1, card_count_6h=2, card_count_1d=30)

    def score(rows):
        return 1 / (1 + np.exp(3 - rows[:, 2:5].sum(axis=1)))

    (found,) = explainer(score, profiles).explain(row, score(row))

    assert found[0].code == "card_count_1d"


def test_an_hour_is_said_as_an_hour(profiles):
    """Of an hour and the halves of its cycle, the hour speaks."""
    row = typical_row(profiles, hour_of_day=3.2, hour_of_day_sin=0.74, hour_of_day_cos=0.67)

    def score(rows):
        return np.where(rows[:, PLAN.names.index("hour_of_day_cos")] > 0.5, 0.9, 0.1)

    (found,) = explainer(score, profiles).explain(row, score(row))

    assert found[0].text.startswith("at 03:12 UTC; usually")


def test_a_certain_score_is_explained_by_what_lowers_it_together(profiles):
    """Where two families each hold the score up alone, both are named, and their effects sum to the fall of both."""
    amount, burst = PLAN.names.index("amount"), PLAN.names.index("card_count_1h")

    def score(rows):
        return 1 / (1 + np.exp(4 - 12 * (rows[:, amount] > 500) - 10 * (rows[:, burst] > 4)))

    row = typical_row(profiles, amount=900, log1p_amount=np.log1p(900), card_count_1h=9)
    (found,) = explainer(score, profiles).explain(row, score(row))

    assert [reason.code for reason in found] == ["amount", "card_count_1h"]
    assert found[0].effect < MIN_EFFECT < found[1].effect
    assert sum(reason.effect for reason in found) == pytest.approx(
        score(row)[0] - score(typical_row(profiles))[0], abs=1e-3
    )


def test_a_certain_score_that_nothing_lowers_names_the_strongest(profiles):
    """Where even all together hardly matter in probability, the strongest in log odds is named, alone."""

    def score(rows):
        return 1 / (1 + np.exp(-20 - 0.1 * np.log1p(rows[:, 0])))

    row = typical_row(profiles, amount=900, log1p_amount=np.log1p(900), card_count_1h=9)
    (found,) = explainer(score, profiles).explain(row, score(row))

    assert [reason.code for reason in found] == ["amount"]


def test_what_is_usual_is_no_reason(profiles):
    """A row of typical values has no reason, however high its score."""
    row = typical_row(profiles)

    assert explainer(lambda rows: np.full(len(rows), 0.9), profiles).explain(row, np.array([0.9])) == [()]


def wide(count):
    """As many families as asked for, with profiles of normal values."""
    names = tuple(f"f{place}" for place in range(count))
    rows = np.random.default_rng(0).normal(size=(2000, count))
    return names, profile_features(rows, names, (False,) * count)


def test_a_decision_costs_no_more_rows_than_its_budget():
    """With many families only the most unusual are tried, and never more rows than named, nor too many at once."""
    names, profiles = wide(90)
    calls = []

    def score(rows):
        calls.append(len(rows))
        return 1 / (1 + np.exp(-30 - rows.sum(axis=1)))  # certain: the strongest are taken away together as well

    rows = np.random.default_rng(1).normal(size=(500, 90))
    made = Explainer(score, names, usual_values(profiles), {}, 9, profiles=profiles)
    made.explain(rows[:1], score(rows[:1]))
    one = sum(calls[1:])
    calls.clear()
    made.explain(rows, np.ones(500))

    assert MAX_FAMILIES < one <= MAX_VARIANTS
    assert max(calls) <= MAX_ROWS
    assert sum(calls) <= 500 * MAX_VARIANTS


def test_the_most_unusual_are_tried_first():
    """A family far out of its training range is within the budget, whatever its place in the list."""
    names, profiles = wide(60)
    row = np.random.default_rng(2).normal(size=(1, 60))
    row[0, 59] = 25.0

    def score(rows):
        return 1 / (1 + np.exp(10 - rows[:, 59]))

    (found,) = Explainer(score, names, usual_values(profiles), {}, 3, profiles=profiles).explain(row, score(row))

    assert [reason.code for reason in found] == ["f59"]


def test_a_value_that_is_mostly_missing_is_usually_none(profiles):
    """The median of the few rows that have a value is not what stands for nothing unusual."""
    rows = histories(1000, 5)[0]
    rows[:800, 11] = np.nan
    found = profile_features(rows, PLAN.names, PLAN.categorical)

    assert np.isnan(usual_values(found)[11])
    assert not np.isnan(usual_values(profiles)[11])


def test_an_entity_that_few_payments_have_is_compared_with_its_like(profiles):
    """Where most payments have no device, one that has is compared with those that have, and none is no reason."""
    rows = histories(1000, 5)[0]
    device = [place for place, name in enumerate(PLAN.names) if name.startswith("device")]
    rows[:800, device] = np.nan
    found = profile_features(rows, PLAN.names, PLAN.categorical)
    usual = usual_values(found, PLAN)
    row = usual[None].copy()
    row[0, device] = np.nan

    assert not np.isnan(usual[device]).any()
    assert np.isnan(usual_values(found)[device]).all()
    assert explainer(lambda some: np.where(np.isnan(some[:, device[0]]), 0.9, 0.1), found).explain(
        row, np.array([0.9])
    ) == [()]


def test_a_missing_value_can_be_the_reason(profiles):
    """What is nearly always there and now is not, is tried like any unusual value."""
    gap = PLAN.names.index("card_seconds_since_last")

    def score(rows):
        return np.where(np.isnan(rows[:, gap]), 0.9, 0.2)

    row = typical_row(profiles, card_seconds_since_last=np.nan)
    (found,) = explainer(score, profiles).explain(row, score(row))

    assert found[0].text.startswith("nothing known of the card's last transaction in 90 d; usually ")
    assert found[0].effect == pytest.approx(0.7)


def test_a_rare_category_is_unusual_and_a_frequent_one_is_not():
    """Of many categories those that hardly occur are tried first."""
    count = MAX_FAMILIES + 5
    rng = np.random.default_rng(0)
    rows = np.where(rng.random((3000, count)) < 0.5, 1.0, 2.0)
    rows[:3] = 3.0
    names = tuple(f"c{place}" for place in range(count))
    profiles = profile_features(rows, names, (True,) * count)
    one = np.where(usual_values(profiles) == 1.0, 2.0, 1.0)[None]  # the other frequent one, everywhere
    one[0, -1] = 3.0

    def score(rows):
        return np.where(rows[:, -1] == 3.0, 0.9, 0.1)

    (found,) = Explainer(score, names, usual_values(profiles), {3.0: "NG"}, 3, profiles=profiles).explain(
        one, score(one)
    )

    assert found[0].text.startswith("c24 is 'NG'; usually ")


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 999), st.integers(1, 40), st.integers(1, 5))
def test_many_at_once_are_explained_as_one_by_one(profiles, seed, n, most):
    """The reasons of a decision do not depend on those that it is explained with, odd values included."""
    rng = np.random.default_rng(seed)
    rows = histories(n, seed)[0]
    rows[rng.random(rows.shape) < 0.02] = np.inf
    weights = rng.normal(size=rows.shape[1]) * rng.choice([0.1, 1, 10])

    def score(some):
        # Not a matrix product: it may sum in another order for another number of rows.
        total = (np.tanh(np.nan_to_num(some, posinf=9.0) / 9) * weights).sum(axis=1)
        return 1 / (1 + np.exp(-np.clip(total, -30, 30)))

    made = explainer(score, profiles, most)
    together = made.explain(rows, score(rows))

    assert together == [made.explain(row[None], score(row[None]))[0] for row in rows]
    assert all(len(found) <= most for found in together)


def test_without_plan_and_profiles_each_feature_stands_alone():
    """What is only known by name and typical value is said by them."""
    made = Explainer(lambda rows: rows[:, 0] / 10, ("amount", "shop"), np.array([2.0, np.nan]), {7.0: "corner"}, 3)

    (found,) = made.explain(np.array([[9.0, 7.0]]), np.array([0.9]))

    assert [(reason.code, reason.text, reason.effect) for reason in found] == [
        ("amount", "amount is 9; usually 2", 0.7)
    ]
