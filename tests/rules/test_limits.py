"""A rule decides at most so many payments in a minute."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tollgate.rules import RateLimits

MINUTE_US = 60_000_000


@given(
    st.lists(st.lists(st.integers(0, 5 * MINUTE_US), min_size=0, max_size=8), max_size=6),
    st.integers(1, 4),
)
def test_the_limit_is_that_of_a_plain_count_by_minutes(batches, limit):
    """However the payments are cut into batches; one that comes late counts in the newest minute."""
    limits, newest, used = RateLimits(), 0, 0
    for batch in batches:
        want = []
        for time_us in batch:
            minute = max(newest, time_us // MINUTE_US)
            used = used if minute == newest else 0
            newest = minute
            want.append(used < limit)
            used += used < limit
        times = np.array(batch, dtype=np.int64)
        assert limits.take("r", limit, np.arange(len(batch)), times).tolist() == want


def test_rules_have_limits_of_their_own_and_a_copy_goes_on_by_itself():
    """What a copy takes is not taken from the one that it was made of."""
    limits, rows = RateLimits(), np.arange(3)
    assert limits.take("a", 2, rows, 0).tolist() == [True, True, False]
    assert limits.take("b", None, rows, 0).all()
    copied = limits.copy()
    assert not copied.take("a", 2, rows, 1).any()
    assert copied.take("a", 5, rows, 2).all()
    assert limits.take("a", 3, rows, 3).tolist() == [True, False, False]
