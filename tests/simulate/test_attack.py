"""The course of attacks, against plain loops."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tollgate.simulate.attack import Numbers, course

SIZES = st.lists(st.integers(1, 6), min_size=1, max_size=20)


@given(SIZES, st.integers(0, 2**32 - 1))
def test_steps_are_counted_and_timed_from_the_start_of_their_attack(sizes, seed):
    plan = course(np.array(sizes))
    gap_us = np.random.default_rng(seed).integers(1, 1000, size=sum(sizes)).astype(float)
    elapsed = plan.elapsed(gap_us)
    row = 0
    for attack, size in enumerate(sizes):
        since = 0.0
        for step in range(size):
            since += gap_us[row] if step else 0.0
            assert (plan.attack[row], plan.step[row], elapsed[row]) == (attack, step, since)
            row += 1


def test_fresh_numbers_are_never_given_twice():
    numbers = Numbers(10)
    assert [numbers.take(2).tolist(), numbers.take(0).tolist(), numbers.take(1).tolist()] == [[10, 11], [], [12]]
