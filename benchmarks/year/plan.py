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


def shortened(plan: YearPlan, days: int, transactions: int | None = None) -> YearPlan:
    """Return a plan with fewer days after the burn-in; with as many payments a day, or fewer payments in all.

    With fewer payments, as many frauds a day remain as fit an alert budget of the same size.
    """
    scenario = plan.scenario
    all_days = plan.burn_in_days + days
    usual = round(scenario.transactions * all_days / scenario.days)
    count = transactions or usual
    return msgspec.structs.replace(
        plan,
        scenario=msgspec.structs.replace(
            scenario,
            days=all_days,
            transactions=count,
            cards=max(round(scenario.cards * count / usual), 1),
            fraud_rate=scenario.fraud_rate * usual / count,
        ),
    )
