"""Campaigns and surges that follow each other, drawn by chance: nobody picks what a model will meet."""

from __future__ import annotations

import math

import msgspec
import numpy as np

from tollgate.errors import ConfigError
from tollgate.simulate.campaign import Campaign, Tactic
from tollgate.simulate.drift import Surge
from tollgate.simulate.market import BUSINESSES, Business
from tollgate.simulate.places import CITIES, VISITOR_SHARE
from tollgate.simulate.scenario import Scenario

_ONLINE = tuple(business for business in BUSINESSES if business.online)
_AMOUNT_FACTOR, _AMOUNT_SIGMA = 1.5, 0.7  # of the business's typical amount
_SIGMAS = (0.1, 0.6)  # some always take the same amount, others what they get
_MORE_PAYMENTS = 3.0  # of a card, at most on average
_GAPS_MINUTES = (1.0, 360.0)
_MOTO_SHARE = 0.1
_DEVICES, _DEVICE_SHARES = ("own", "fresh", "shared"), (0.3, 0.35, 0.35)
_CARDS_PER_DEVICE = (3, 30)
_MERCHANTS = (1, 6)
_HOME_SHARE = 0.5  # seem to come from the owner's home
_LEAST_LASTING = 0.25  # of the mean
_SURGE_SHARES, _SURGE_FACTORS = (0.05, 0.15), (1.0, 2.5)
_STREAM = 0x726F74  # keeps these draws apart from those of the payments


class Rotation(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How fast fraud and honest habits change.

    Attributes:
        every_days: From one new campaign to the next, on average.
        lasting_days: How long one lasts, on average.
        share: Of all frauds that belong to campaigns, in [0, 1).
        told_by_customers: As in `Campaign`.
        surges_every_days: From one surge of honest payments to the next, on average; 0 for none.
        surge_days: How long one lasts.
    """

    every_days: float = 10.0
    lasting_days: float = 30.0
    share: float = 0.5
    told_by_customers: float = 0.4
    surges_every_days: float = 20.0
    surge_days: float = 7.0

    def __post_init__(self) -> None:
        for name, low, high in (
            ("every_days", 0.1, math.inf),
            ("lasting_days", 0.1, math.inf),
            ("share", 0, 0.99),
            ("told_by_customers", 0, 1),
            ("surges_every_days", 0, math.inf),
            ("surge_days", 0, math.inf),
        ):
            value = getattr(self, name)
            if not (low <= value <= high and math.isfinite(value)):
                raise ConfigError(
                    "bad_scenario", f"rotation: {name}: expected a number from {low} to {high}, but got {value}"
                )


def rotating(scenario: Scenario, rotation: Rotation) -> Scenario:
    """Return a scenario with campaigns and surges; its seed decides which. Its other drift stays.

    Campaigns begin by chance (a Poisson process) from before the scenario on, so that it begins with some under way.
    While they last, all are equally strong.
    """
    rng = np.random.default_rng((scenario.seed, _STREAM))
    begin = -2 * rotation.lasting_days
    campaigns: list[Campaign] = []
    while (begin := begin + rng.exponential(rotation.every_days)) < scenario.days:
        tactic = _tactic(rng)
        lasting = rotation.lasting_days * max(rng.gamma(2.0, 0.5), _LEAST_LASTING)
        first = max(begin, 0.0)
        days = min(begin + lasting, scenario.days) - first
        if days > 0 and rotation.share > 0:
            name = f"{tactic.mcc[0]}-{len(campaigns) + 1}"
            campaigns.append(
                Campaign(
                    name=name, tactic=tactic, first_day=first, days=days, weight=days,
                    told_by_customers=rotation.told_by_customers,
                )
            )  # fmt: skip
    of_mix = math.fsum(msgspec.structs.astuple(scenario.mix))
    scale = of_mix * rotation.share / (1 - rotation.share) / max(math.fsum(one.weight for one in campaigns), 1e-9)
    weighed = tuple(msgspec.structs.replace(one, weight=one.weight * scale) for one in campaigns)
    drift = msgspec.structs.replace(scenario.drift, surges=_surges(rng, scenario, rotation))
    return msgspec.structs.replace(scenario, campaigns=weighed, drift=drift)


def _tactic(rng: np.random.Generator) -> Tactic:
    business = _business(rng)
    return Tactic(
        mcc=(business.mcc,),
        amount_eur=round(business.median_eur * _AMOUNT_FACTOR * math.exp(_AMOUNT_SIGMA * rng.standard_normal()), 2),
        sigma=float(rng.uniform(*_SIGMAS)),
        payments=1 + float(rng.random()) * _MORE_PAYMENTS,
        gap_minutes=math.exp(rng.uniform(*np.log(_GAPS_MINUTES))),
        channel="moto" if rng.random() < _MOTO_SHARE else "ecom",
        device=_DEVICES[int(rng.choice(len(_DEVICES), p=_DEVICE_SHARES))],  # type: ignore[arg-type]
        cards_per_device=int(rng.integers(*_CARDS_PER_DEVICE)),
        merchants=int(rng.integers(*_MERCHANTS)),
        city=None if rng.random() < _HOME_SHARE else CITIES[int(rng.choice(len(CITIES), p=VISITOR_SHARE))].name,
    )


def _surges(rng: np.random.Generator, scenario: Scenario, rotation: Rotation) -> tuple[Surge, ...]:
    surges: list[Surge] = []
    begin = 0.0
    while rotation.surges_every_days and (begin := begin + rng.exponential(rotation.surges_every_days)) < scenario.days:
        share, factor = (float(rng.uniform(*ends)) for ends in (_SURGE_SHARES, _SURGE_FACTORS))
        surges.append(
            Surge(
                first_day=begin, days=rotation.surge_days, mcc=(_business(rng).mcc,), share=share, factor=factor
            )
        )  # fmt: skip
    return tuple(surges)


def _business(rng: np.random.Generator) -> Business:
    return _ONLINE[int(rng.integers(len(_ONLINE)))]
