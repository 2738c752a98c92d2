"""The simulated payments of the benchmarks: histories are equally long, however many payments there are."""

from __future__ import annotations

from tollgate.simulate import Scenario

ROWS_PER_CARD, ROWS_PER_MERCHANT, DAYS = 20, 100, 60
_FEWEST_MERCHANTS = 200
_SEED = 7


def scenario(transactions: int) -> Scenario:
    """Return what to simulate: as many payments a card, a merchant and a day's share for any number of them."""
    return Scenario(
        transactions=transactions,
        cards=max(transactions // ROWS_PER_CARD, 1),
        merchants=max(transactions // ROWS_PER_MERCHANT, _FEWEST_MERCHANTS),
        days=DAYS,
        seed=_SEED,
    )
