"""What can be asked for."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tollgate.errors import ConfigError
from tollgate.simulate import TYPOLOGIES, Mix, Scenario

WEIGHTS = st.lists(st.floats(0, 1e6), min_size=5, max_size=5).filter(any)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("transactions", 0),
        ("transactions", 10**9),
        ("cards", 0),
        ("merchants", 10),
        ("days", 1),
        ("fraud_rate", -0.1),
        ("fraud_rate", 0.9),
        ("fraud_rate", math.nan),
        ("maturity_days", -1.0),
        ("seed", -1),
    ],
)
def test_a_number_out_of_range_is_refused_by_name(field, value):
    with pytest.raises(ConfigError, match=field):
        Scenario(**{field: value})


@pytest.mark.parametrize("weight", [-0.1, math.nan, math.inf])
def test_a_bad_weight_of_a_typology_is_refused_by_name(weight):
    with pytest.raises(ConfigError, match="stolen_card"):
        Mix(stolen_card=weight)


def test_a_mix_of_nothing_is_refused():
    with pytest.raises(ConfigError, match="at least one"):
        Mix(**dict.fromkeys(TYPOLOGIES, 0.0))


@given(WEIGHTS, st.integers(0, 10**6))
def test_a_count_is_divided_whole_and_in_proportion(weights, count):
    mix = Mix(*weights)
    parts = mix.divide(count)
    assert list(parts) == list(TYPOLOGIES)
    assert sum(parts.values()) == count
    for weight, part in zip(weights, parts.values(), strict=True):
        assert abs(part - count * weight / math.fsum(weights)) <= 1 + 1e-6
