"""Small data sets in which fraud can be learned, and networks fitted on them."""

import numpy as np

from tollgate.config import PolicyConfig, TrainConfig
from tollgate.dataset import Dataset
from tollgate.duration import DAY_US
from tollgate.evaluate import evaluate
from tollgate.model.network import Network
from tollgate.model.preprocess import Preprocess, fit_tables

DAY_0 = 17_000  # days since 1970-01-01
SHOPS = 2.0**51 + np.arange(5)  # codes that float32 could not tell apart
NAMES = ("amount", "card_count_1h", "seconds_since_last", "shop")
CATEGORICAL = (False, False, False, True)
QUICK = TrainConfig(
    model="mlp", hidden=(16,), members=4, dropout=0.3, max_epochs=8, learning_rate=1e-2, batch_size=256, device="cpu"
)


def payments(n=4000, seed=0, days=20, delay_days=0):
    """Fraud is an amount over 200, or the last shop together with a high count; a tenth of the gaps is missing."""
    rng = np.random.default_rng(seed)
    amount = rng.lognormal(3.5, 1.0, n).round(2)
    count = rng.poisson(2.0, n).astype(float)
    gap = np.where(rng.random(n) < 0.1, np.nan, rng.exponential(3600, n))
    shop = rng.choice(SHOPS, n)
    is_fraud = (amount > 200) | ((shop == SHOPS[-1]) & (count >= 5))
    time_us = np.sort(rng.integers(DAY_0 * DAY_US, (DAY_0 + days) * DAY_US, n))
    return Dataset(
        features=np.column_stack((amount, count, gap, shop)),
        names=NAMES,
        categorical=CATEGORICAL,
        back=(0,) * len(NAMES),
        is_fraud=is_fraud,
        available_us=time_us + delay_days * DAY_US,
        time_us=time_us,
        amount=amount,
        card=rng.integers(1, 300, n).astype(np.uint64),
        ids=np.array([f"t-{row}" for row in range(n)], dtype=object),
    )


def untrained(features, categorical, seed=0, model="tabm", back=None):
    """A network with random weights over the tables of `features`."""
    import torch

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        config = TrainConfig(model=model, hidden=(8, 4), members=3)
        return Network(Preprocess(fit_tables(features, categorical)), config, back or (0,) * len(categorical)).eval()


def halves(test, scores, config):
    """The earlier and the later half of the test rows, each evaluated for itself."""
    early = test.time_us < np.median(test.time_us)
    return [
        evaluate(test.take(rows), {name: one[rows] for name, one in scores.items()}, config, PolicyConfig())
        for rows in (early, ~early)
    ]
