"""Trips, against a plain loop over them."""

import numpy as np
import pytest

from tollgate.duration import DAY_US
from tollgate.simulate.places import CITY_COUNT
from tollgate.simulate.travel import make_trips

DAYS = 200


@pytest.fixture(scope="module")
def world():
    rng = np.random.default_rng(3)
    home = rng.integers(CITY_COUNT, size=300)
    return rng, home, make_trips(rng, home, DAYS)


def test_trips_of_a_customer_lead_elsewhere_and_do_not_overlap(world):
    _, home, trips = world
    assert len(trips.key) > 500
    assert (trips.city != home[trips.customer]).all()
    same = trips.customer[1:] == trips.customer[:-1]
    assert (trips.depart_us[1:] > trips.leave_us[:-1])[same].all()
    assert (np.diff(trips.key) > 0).all()


def test_customers_are_where_their_trip_took_them_and_never_pay_on_the_way(world):
    rng, home, trips = world
    customer = rng.integers(len(home), size=4000)
    time_us = rng.integers(DAYS * DAY_US, size=4000)
    city, moved_us = trips.place(customer, home[customer], time_us)
    away = 0
    for who, where, when in zip(customer, city, moved_us, strict=True):
        expected = home[who]
        for trip in np.flatnonzero(trips.customer == who):
            way_us = trips.arrive_us[trip] - trips.depart_us[trip]
            assert not trips.depart_us[trip] < when < trips.arrive_us[trip]
            assert not trips.leave_us[trip] < when < trips.leave_us[trip] + way_us
            if trips.arrive_us[trip] <= when <= trips.leave_us[trip]:
                expected = trips.city[trip]
        assert where == expected
        away += expected != home[who]
    assert 100 < away < 1500


def test_without_trips_everybody_stays_where_they_are():
    home = np.array([3, 5])
    trips = make_trips(np.random.default_rng(0), home[:0], 2)
    city, moved_us = trips.place(np.array([0, 1]), home, np.array([7, 8]))
    assert city.tolist() == [3, 5]
    assert moved_us.tolist() == [7, 8]
