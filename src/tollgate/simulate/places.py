"""The cities of the simulated world: where customers live, and where they travel."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

EARTH_RADIUS_KM = 6371.0


class City(NamedTuple):
    """A city, with the share of customers who live there and of trips that go there (as weights)."""

    name: str
    country: str  # ISO 3166-1 alpha-2
    lat: float  # degrees, WGS 84
    lon: float
    offset_h: int  # standard time, all year: a simulated city does not know summer time
    residents: float
    visitors: float


CITIES = (
    City("Paris", "FR", 48.857, 2.352, 1, 11.0, 9.0),
    City("Lyon", "FR", 45.764, 4.836, 1, 4.0, 2.0),
    City("Marseille", "FR", 43.297, 5.370, 1, 4.0, 2.5),
    City("Berlin", "DE", 52.520, 13.405, 1, 8.0, 5.0),
    City("Hamburg", "DE", 53.551, 9.994, 1, 5.0, 2.5),
    City("Munich", "DE", 48.135, 11.582, 1, 5.0, 3.5),
    City("Cologne", "DE", 50.938, 6.960, 1, 4.0, 2.0),
    City("Madrid", "ES", 40.417, -3.704, 1, 7.0, 5.0),
    City("Barcelona", "ES", 41.387, 2.170, 1, 5.0, 6.0),
    City("Seville", "ES", 37.389, -5.984, 1, 2.0, 2.5),
    City("Rome", "IT", 41.903, 12.496, 1, 6.0, 5.5),
    City("Milan", "IT", 45.464, 9.190, 1, 5.0, 4.0),
    City("Naples", "IT", 40.852, 14.268, 1, 3.0, 2.0),
    City("Amsterdam", "NL", 52.368, 4.904, 1, 4.0, 4.5),
    City("Brussels", "BE", 50.850, 4.352, 1, 4.0, 3.0),
    City("Vienna", "AT", 48.208, 16.373, 1, 4.0, 3.5),
    City("Lisbon", "PT", 38.722, -9.139, 0, 3.0, 4.5),
    City("Dublin", "IE", 53.350, -6.260, 0, 2.5, 2.5),
    City("Helsinki", "FI", 60.170, 24.938, 2, 2.0, 1.0),
    City("Athens", "GR", 37.984, 23.728, 2, 3.0, 3.5),
    City("Warsaw", "PL", 52.230, 21.012, 1, 0.6, 2.0),
    City("Prague", "CZ", 50.076, 14.438, 1, 0.4, 3.0),
    City("Zurich", "CH", 47.377, 8.542, 1, 0.5, 2.0),
    City("London", "GB", 51.507, -0.128, 0, 0.6, 6.0),
    City("Istanbul", "TR", 41.008, 28.978, 3, 0.2, 2.5),
    City("New York", "US", 40.713, -74.006, -5, 0.1, 2.0),
    City("Miami", "US", 25.762, -80.192, -5, 0.1, 0.8),
    City("Sao Paulo", "BR", -23.551, -46.633, -3, 0.1, 0.6),
    City("Lagos", "NG", 6.524, 3.379, 1, 0.1, 0.3),
    City("Marrakesh", "MA", 31.630, -7.981, 1, 0.1, 1.2),
    City("Dubai", "AE", 25.205, 55.271, 4, 0.1, 1.2),
    City("Bangkok", "TH", 13.756, 100.502, 7, 0.1, 1.2),
    City("Singapore", "SG", 1.352, 103.820, 8, 0.1, 0.5),
    City("Manila", "PH", 14.600, 120.984, 8, 0.1, 0.3),
    City("Tokyo", "JP", 35.677, 139.650, 9, 0.1, 0.6),
    City("Bucharest", "RO", 44.427, 26.103, 2, 0.4, 0.8),
)

CITY_COUNT = len(CITIES)
CITY_LAT = np.array([city.lat for city in CITIES])
CITY_LON = np.array([city.lon for city in CITIES])
CITY_OFFSET_H = np.array([city.offset_h for city in CITIES], dtype=np.int64)


def shares(weights: list[float]) -> NDArray[np.float64]:
    """Return `weights` scaled to sum to 1."""
    array = np.array(weights, dtype=np.float64)
    scaled: NDArray[np.float64] = array / array.sum()
    return scaled


RESIDENT_SHARE = shares([city.residents for city in CITIES])
VISITOR_SHARE = shares([city.visitors for city in CITIES])


def distance_km(
    lat_a: NDArray[np.float64], lon_a: NDArray[np.float64], lat_b: NDArray[np.float64], lon_b: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the great-circle distance between points given in degrees (haversine formula), float64."""
    lat_1, lat_2 = np.radians(lat_a), np.radians(lat_b)
    lon_half = np.radians(lon_b - lon_a) / 2
    chord = np.sin((lat_2 - lat_1) / 2) ** 2 + np.cos(lat_1) * np.cos(lat_2) * np.sin(lon_half) ** 2
    arc: NDArray[np.float64] = 2 * np.arcsin(np.sqrt(np.minimum(chord, 1.0)))
    return EARTH_RADIUS_KM * arc
