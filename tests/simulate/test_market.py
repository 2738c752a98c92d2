"""Merchants and prices."""

import numpy as np
import pytest

from tollgate.simulate.market import (
    ATM_BUSINESS,
    BUSINESSES,
    MCC,
    ONLINE_GROUP,
    TESTABLE,
    atms_of,
    make_market,
    shops_of,
)
from tollgate.simulate.places import CITY_COUNT, CITY_LAT
from tollgate.simulate.scenario import MIN_MERCHANTS


@pytest.fixture(scope="module")
def market():
    return make_market(np.random.default_rng(5), MIN_MERCHANTS)


def test_even_the_smallest_market_has_shops_and_cash_in_every_city_and_all_businesses_online(market):
    cities = np.arange(CITY_COUNT)
    rng = np.random.default_rng(0)
    assert len(market) == MIN_MERCHANTS
    cash, shops = market.draw(rng, atms_of(cities)), market.draw(rng, shops_of(cities))
    assert (market.business[cash] == ATM_BUSINESS).all()
    assert (market.business[shops] != ATM_BUSINESS).all()
    assert np.abs(market.lat[shops] - CITY_LAT).max() < 0.5
    online = np.arange(market.bounds[ONLINE_GROUP], len(market))
    assert {MCC[one] for one in market.business[online]} == {one.mcc for one in BUSINESSES if one.online}


def test_merchants_are_drawn_as_often_as_they_are_popular(market):
    drawn = market.draw(np.random.default_rng(1), np.full(50_000, ONLINE_GROUP))
    first = market.bounds[ONLINE_GROUP]
    popularity = np.diff(market.totals)[first:]
    share = np.bincount(drawn - first, minlength=len(popularity)) / 50_000
    np.testing.assert_allclose(share, popularity / popularity.sum(), atol=0.01)


def test_only_merchants_of_the_businesses_asked_for_are_drawn(market):
    drawn = market.draw_online(np.random.default_rng(2), TESTABLE, 500)
    assert {MCC[one] for one in market.business[drawn]} == TESTABLE


def test_who_spends_more_pays_more_for_the_same_kind_of_thing(market):
    merchant = market.draw(np.random.default_rng(3), np.full(5_000, ONLINE_GROUP))
    poor = market.price(np.random.default_rng(4), merchant, np.full(5_000, 0.25))
    rich = market.price(np.random.default_rng(4), merchant, np.full(5_000, 4.0))
    assert np.median(rich / poor) == pytest.approx(4.0, rel=0.1)
