"""First-party fraud: customers dispute what they bought themselves. Nearly nothing gives it away."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tollgate.simulate.population import Population
from tollgate.simulate.rows import Channel, Rows

_DISPUTING_SHARE = 0.04  # of the customers
_WORTH_DISPUTING_EUR = 20.0


def choose(rng: np.random.Generator, people: Population, genuine: Rows, budget: int) -> NDArray[np.int64]:
    """Return the `budget` rows of `genuine` that their makers will dispute, int64; they stay as they are."""
    disputes = rng.random(len(people.city)) < _DISPUTING_SHARE
    worth = (genuine.channel == Channel.ECOM) & (genuine.amount > _WORTH_DISPUTING_EUR)
    likely = worth & disputes[people.card_customer[genuine.card]]
    # If the disputing customers bought too little, others join them.
    rank = rng.random(len(genuine)) + np.where(likely, 0, np.where(worth, 1, 2))
    return np.argsort(rank, kind="stable")[:budget]
