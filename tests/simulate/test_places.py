"""Distances on the globe."""

import numpy as np
import pytest

from tollgate.simulate.places import CITIES, distance_km


@pytest.mark.parametrize(
    ("a", "b", "expected_km"), [("Paris", "London", 344), ("Paris", "New York", 5837), ("Singapore", "Tokyo", 5317)]
)
def test_distances_between_cities_are_those_of_an_atlas(a, b, expected_km):
    city = {city.name: city for city in CITIES}
    points = (np.array([value]) for value in (city[a].lat, city[a].lon, city[b].lat, city[b].lon))
    assert distance_km(*points)[0] == pytest.approx(expected_km, rel=0.01)


def test_a_city_is_no_way_from_itself_and_half_the_globe_from_its_antipode():
    here, there = np.array([10.0]), np.array([-10.0])
    assert distance_km(here, here, here, here)[0] == 0
    assert distance_km(here, np.array([20.0]), there, np.array([-160.0]))[0] == pytest.approx(np.pi * 6371, rel=1e-6)
