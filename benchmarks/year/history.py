"""The payments of a year with their features, and when each becomes known without anybody looking at an alert."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from benchmarks.year.plan import Analysts, YearPlan
from tollgate.cli.wiring import features_of, label_fields
from tollgate.config import Config
from tollgate.dataset import Dataset
from tollgate.duration import DAY_US, HOUR_US
from tollgate.features import FeatureEngine
from tollgate.files import TransactionFile
from tollgate.intake import TransactionReader
from tollgate.replay import replay
from tollgate.simulate import rotating, simulate, write
from tollgate.train import columns_of

NEVER_US = np.iinfo(np.int64).max
_KEY = b"key of the benchmark"
_STREAM = 0x796561  # keeps the draws apart from those of the simulation


class History(NamedTuple):
    """N payments in order of time.

    Attributes:
        data: Features of the moment of each; `is_fraud` is the truth, which is known late.
        told_us: When a customer or a chargeback tells of the fraud, int64 (N,); `NEVER_US` for good payments.
        analysed_us: When an analyst would have said what it is, if it is alerted, int64 (N,).
        is_new: Frauds of a campaign, bool (N,).
        drawn: Uniform in [0, 1), float64 (N,): which good payments are learned from, the same for all arms.
        start_us: When the measured days begin, microseconds since 1970-01-01 UTC.
    """

    data: Dataset
    told_us: NDArray[np.int64]
    analysed_us: NDArray[np.int64]
    is_new: NDArray[np.bool_]
    drawn: NDArray[np.float64]
    start_us: int


def history(plan: YearPlan, config: Config, seed: int) -> History:
    """Return the year of one seed: other people, other campaigns, other days on which they begin."""
    scenario = rotating(msgspec.structs.replace(plan.scenario, seed=seed), plan.rotation)
    frame = simulate(scenario)
    compiled = features_of(config)
    compiled = compiled.select(columns_of(config.train.model, compiled.back))
    # A label that comes after a feature was computed has not moved it, but each arm has labels of its own.
    assert not compiled.learns, "features that count known frauds would be other ones in each arm"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "payments.parquet"
        write(frame, path)
        reader = TransactionReader(config.table, config.money, _KEY)
        data, rejected = replay(TransactionFile(path, reader, label_fields(config)), FeatureEngine(compiled), "card_id")
    assert not rejected
    rng = np.random.default_rng((seed, _STREAM))
    campaigns = [one.name for one in scenario.campaigns]
    return History(
        data=data,
        told_us=np.where(data.is_fraud, data.available_us, NEVER_US),
        analysed_us=data.time_us + _analysed(rng, plan.analysts, len(data)),
        is_new=frame["typology"].is_in(campaigns).fill_null(value=False).to_numpy(),
        drawn=rng.random(len(data)),
        start_us=scenario.start_us + plan.burn_in_days * DAY_US,
    )


def _analysed(rng: np.random.Generator, analysts: Analysts, count: int) -> NDArray[np.int64]:
    hours = analysts.median_hours * np.exp(analysts.sigma * rng.standard_normal(count))
    return (np.clip(hours, analysts.least_hours, analysts.most_hours) * HOUR_US).astype(np.int64)
