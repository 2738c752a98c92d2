"""A scenario that is small and rich in fraud, made once."""

import polars as pl
import pytest

from tollgate.simulate import Scenario, simulate
from tollgate.simulate.places import distance_km

SCENARIO = Scenario(transactions=80_000, cards=4_000, merchants=800, days=42, fraud_rate=0.02, seed=11)


@pytest.fixture(scope="session")
def scenario() -> Scenario:
    return SCENARIO


@pytest.fixture(scope="session")
def frame() -> pl.DataFrame:
    return simulate(SCENARIO)


@pytest.fixture(scope="session")
def honest(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.filter(~pl.col("is_fraud"))


@pytest.fixture(scope="session")
def implied_speed():
    """Returns a function that adds the way from the card's payment before: seconds, distance_km, speed_kmh."""

    def add(rows: pl.DataFrame) -> pl.DataFrame:
        located = rows.drop_nulls(["lat", "lon"]).with_columns(
            seconds=pl.col("effective_time").diff().over("card_id").dt.total_seconds(fractional=True),
            lat_0=pl.col("lat").shift().over("card_id"),
            lon_0=pl.col("lon").shift().over("card_id"),
        )
        distance = distance_km(*(located[name].to_numpy() for name in ("lat_0", "lon_0", "lat", "lon")))
        hours = pl.col("seconds").clip(60) / 3600
        return located.with_columns(pl.Series("distance_km", distance).fill_nan(None)).with_columns(
            speed_kmh=pl.col("distance_km") / hours
        )

    return add
