"""Thresholds against every other pair of thresholds, tried one by one."""

import itertools

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tollgate.config import CostsConfig, PolicyConfig, parse_config
from tollgate.duration import DAY_US
from tollgate.thresholds import FEWEST_FRAUDS, choose_thresholds, total_cost

# Few distinct scores, so that ties are common; 1 - 2**-53 is next to 1, with no float between.
SCORES = [0.0, 0.01, 0.3, 0.30000000000000004, 0.9, 1 - 2**-53, 1.0]
rows = st.lists(
    st.tuples(st.booleans(), st.sampled_from(SCORES), st.integers(0, 400), st.integers(0, 4 * DAY_US)),
    min_size=1,
    max_size=25,
)
money = st.sampled_from([0.0, 0.5, 3.0, 40.0])
costs = st.builds(
    CostsConfig,
    missed_share=st.sampled_from([0.2, 1.0]),
    false_block=money,
    false_block_share=st.sampled_from([0.0, 0.1]),
    review=money,
    review_stops=st.sampled_from([0.0, 0.6, 0.95, 1.0]),
)


def columns(table):
    is_fraud, scores, amount, time_us = (np.array(column) for column in zip(*table, strict=True))
    return is_fraud.astype(bool), scores.astype(float), amount.astype(float), time_us.astype(np.int64)


def cost_by_hand(is_fraud, scores, amount, review, block, costs):
    total = 0.0
    for fraud, score, money in zip(is_fraud, scores, amount, strict=True):
        if score >= block:
            total += 0 if fraud else costs.false_block + costs.false_block_share * money
        elif score >= review:
            total += costs.review + ((1 - costs.review_stops) * costs.missed_share * money if fraud else 0)
        else:
            total += costs.missed_share * money if fraud else 0
    return total


@given(rows, costs)
def test_no_pair_of_thresholds_costs_less_than_the_chosen(table, costs):
    """By cost, the chosen pair is as cheap as the cheapest of all pairs."""
    is_fraud, scores, amount, time_us = columns(table)
    if is_fraud.all() or not is_fraud.any():
        return
    chosen = choose_thresholds(is_fraud, scores, amount, time_us, PolicyConfig(choose="cost", costs=costs)).policy
    tried = sorted({0.0, 1.0, *scores.tolist()})
    best = min(
        cost_by_hand(is_fraud, scores, amount, review, block, costs)
        for review, block in itertools.combinations_with_replacement(tried, 2)
    )

    assert chosen.review <= chosen.block
    found = cost_by_hand(is_fraud, scores, amount, chosen.review, chosen.block, costs)
    assert found == pytest.approx(best, abs=1e-6)
    assert total_cost(is_fraud, scores, amount, chosen) == pytest.approx(found, abs=1e-6)


@given(rows, st.integers(1, 12), st.sampled_from([0.0, 0.4, 0.95]))
def test_a_budget_is_used_up_but_never_exceeded(table, per_day, block):
    """By budget, at most so many payments a day are at or above review, and a lower threshold would break it."""
    is_fraud, scores, amount, time_us = columns(table)
    limit = per_day * max(float(np.ptp(time_us)) / DAY_US, 1)
    policy = PolicyConfig(choose="budget", review_per_day=per_day, block=block, review=0.0)

    chosen = choose_thresholds(is_fraud, scores, amount, time_us, policy)

    held = scores >= chosen.policy.review
    if (scores == 1.0).sum() > limit:
        assert chosen.policy.review > scores[scores < 1].max(initial=0.0)
        assert "budget will be exceeded" in chosen.warnings[0]
    else:
        assert held.sum() <= limit
    assert held.all() or (scores >= scores[~held].max()).sum() > limit
    assert chosen.policy.block == max(block, chosen.policy.review)


def test_fixed_thresholds_stay_as_they_are():
    """With `fixed` the rows do not matter."""
    policy = PolicyConfig(review=0.2, block=0.7)
    is_fraud, scores = np.array([True, False]), np.array([0.9, 0.1])

    chosen = choose_thresholds(is_fraud, scores, np.ones(2), np.zeros(2, np.int64), policy)

    assert (chosen.policy, chosen.warnings) == (policy, ())


def test_a_threshold_is_midway_between_the_scores_that_it_parts():
    """A rounding of a score in its last digits moves no payment over a threshold."""
    is_fraud = np.repeat([True, False], [40, 60])
    scores = np.repeat([0.8, 0.2], [40, 60])
    policy = PolicyConfig(choose="cost")

    chosen = choose_thresholds(is_fraud, scores, np.full(100, 50.0), np.zeros(100, np.int64), policy)

    assert (chosen.policy.review, chosen.policy.block) == (0.5, 0.5)
    assert chosen.warnings == ()


def test_dear_false_blocks_leave_the_doubtful_to_the_analysts():
    """Mixed scores are reviewed where blocking a good payment is dear, and blocked where it is cheap."""
    is_fraud = np.concatenate((np.ones(40, bool), np.tile([True, False], 30), np.zeros(100, bool)))
    scores = np.repeat([0.95, 0.5, 0.01], [40, 60, 100])
    rows = (is_fraud, scores, np.full(200, 100.0), np.arange(200) * DAY_US)

    dear = choose_thresholds(*rows, PolicyConfig(choose="cost", costs=CostsConfig(false_block=80.0))).policy
    cheap = choose_thresholds(*rows, PolicyConfig(choose="cost", costs=CostsConfig(false_block=0.0))).policy

    assert dear.review < 0.5 < dear.block
    assert cheap.review == cheap.block == pytest.approx(0.255)


@pytest.mark.parametrize("fraud", [True, False])
def test_costs_need_both_classes(fraud):
    """On rows of one class the fixed thresholds are kept, and it is said."""
    policy = PolicyConfig(choose="cost")

    chosen = choose_thresholds(np.full(5, fraud), np.linspace(0, 0.9, 5), np.ones(5), np.zeros(5, np.int64), policy)

    assert chosen.policy == policy
    assert "the fixed ones are kept" in chosen.warnings[0]


def test_few_frauds_are_told():
    """With too few frauds the thresholds are chosen, and the reader is warned."""
    n = 1000
    is_fraud = np.arange(n) < FEWEST_FRAUDS - 1
    scores = np.where(is_fraud, 0.7, 0.1)

    chosen = choose_thresholds(is_fraud, scores, np.full(n, 90.0), np.zeros(n, np.int64), PolicyConfig(choose="cost"))

    assert chosen.policy.review == pytest.approx(0.4)
    assert f"on {FEWEST_FRAUDS - 1} validation frauds" in chosen.warnings[0]


def test_a_budget_that_equal_scores_cannot_meet_is_told():
    """Where more payments share the highest score than the budget holds, none is reviewed, and it is said."""
    rows = (np.zeros(50, bool), np.full(50, 0.6), np.ones(50), np.zeros(50, np.int64))

    chosen = choose_thresholds(*rows, PolicyConfig(choose="budget", review_per_day=49))

    assert (chosen.policy.review, chosen.policy.block) == (1.0, 1.0)
    assert "share the highest score" in chosen.warnings[0]


def test_no_rows_keep_the_fixed_thresholds():
    """An empty validation part chooses nothing."""
    nothing = np.zeros(0)

    chosen = choose_thresholds(
        nothing.astype(bool), nothing, nothing, nothing.astype(np.int64), PolicyConfig(choose="budget")
    )

    assert chosen.policy.review == 0.5
    assert "no validation rows" in chosen.warnings[0]


def test_the_policy_of_an_older_bundle_loads_and_the_new_one_can_be_configured():
    """A stored policy without the newer fields gets their defaults; `[policy.costs]` is read."""
    old = msgspec.json.decode(b'{"block":0.9,"review":0.4,"fallback":"review","max_reasons":3}', type=PolicyConfig)
    new = parse_config('[policy]\nchoose = "cost"\n[policy.costs]\nreview_stops = 0.9\n', "here").policy

    assert (old.block, old.choose) == (0.9, "fixed")
    assert new.costs.review_stops == 0.9
    assert msgspec.json.decode(msgspec.json.encode(new), type=PolicyConfig) == new
