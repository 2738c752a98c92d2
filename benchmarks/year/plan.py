"""What the year is made of, read from `examples/year`."""

from __future__ import annotations

from pathlib import Path

import msgspec

from tollgate.config import Config, read_config
from tollgate.simulate import Rotation, Scenario

EXAMPLE = Path(__file__).parents[2] / "examples" / "year"


class Analysts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How long after a payment an analyst has said what the alert was; log-normal."""

    median_hours: float
    sigma: float
    least_hours: float
    most_hours: float


class YearPlan(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What happens.

    Attributes:
        burn_in_days: Before the days that are measured; only trained on.
        trees: LightGBM's parameters.
    """

    burn_in_days: int
    scenario: Scenario
    rotation: Rotation
    analysts: Analysts
    trees: dict[str, int | float]


def read_plan() -> tuple[YearPlan, Config]:
    """Return the year and the configuration that its models are trained by."""
    plan = msgspec.toml.decode((EXAMPLE / "year.toml").read_bytes(), type=YearPlan)
    return plan, read_config(EXAMPLE / "tollgate.toml")


def shortened(plan: YearPlan, days: int, transactions: int) -> YearPlan:
    """Return a plan with fewer days after the burn-in, and fewer payments and cards in all."""
    scenario = plan.scenario
    share = transactions / scenario.transactions
    return msgspec.structs.replace(
        plan,
        scenario=msgspec.structs.replace(
            scenario,
            days=plan.burn_in_days + days,
            transactions=transactions,
            cards=round(scenario.cards * share),
            fraud_rate=scenario.fraud_rate * 2,
        ),
    )
