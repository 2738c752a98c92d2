"""What does daily instead of monthly retraining bring, when fraud changes all year?

A simulated year (`examples/year`) in which kinds of fraud come and go by chance, and honest habits change, too. All
arms score the same payments with the same alert budget, and learn from what they know when they train: what customers
and chargebacks have told by then, and what analysts have said of their own alerts. Means over years of other seeds.

    python -m benchmarks.year [--seeds 1 2 3] [--jobs 2] [--plots examples/year]
    python -m benchmarks.year --days 90 --every 20 --lasting 60     # under another assumption
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean

import msgspec

from benchmarks.table import Progress, finish, show
from benchmarks.year.arm import ARMS, BASE, OTHER
from benchmarks.year.figures import Counts, Outcome, pooled
from benchmarks.year.lots import measured
from benchmarks.year.pictures import by_month
from benchmarks.year.plan import read_plan, shortened

SEEDS = (1, 2, 3)  # parameters were chosen on another one: examples/year/README.md
QUICK_DAYS, QUICK_TRANSACTIONS, QUICK_SEEDS = 35, 40_000, (1,)


def change(one: float, base: float) -> float:
    """Return by which share `one` is more than `base`."""
    return one / base - 1


def changes(found: list[dict[str, Outcome]], arm: str, measure: str) -> list[float]:
    """Return by which share a measure of an arm differs from the monthly one's, seed by seed."""
    return [change(getattr(one[arm].total, measure), getattr(one[BASE].total, measure)) for one in found]


def _arm_row(found: list[dict[str, Outcome]], arm: str, days: int) -> list[str]:
    total = pooled([one[arm].total for one in found])
    rates = (total.capture, total.new_capture, total.old_capture, total.value_detection_rate, total.precision)
    alerts = (total.caught + total.false) / days / len(found)
    return [
        arm,
        f"{found[0][arm].trainings}",
        f"{alerts:.1f}",
        *(f"{rate:.1%}" for rate in rates),
        f"{total.false_positive_rate:.3%}",
    ]


def _change_row(found: list[dict[str, Outcome]], arm: str) -> list[str]:
    row = [arm]
    for measure in ("capture", "new_capture", "value_detection_rate", "false_positive_rate"):
        by_seed = changes(found, arm, measure)
        row.append(f"{fmean(by_seed):+.1%} ({min(by_seed):+.1%} to {max(by_seed):+.1%})")
    return row


def report(found: list[dict[str, Outcome]], arms: Sequence[str], days: int, title: str) -> None:
    """Print what came of each arm, and how captures went month by month."""
    show(
        title,
        ["retrained", "times", "alerts a day", "capture", "of new kinds", "of others", "money", "precision", "FPR"],
        [_arm_row(found, arm, days) for arm in arms],
    )
    show(
        f"Change against {BASE}: mean over the seeds (lowest to highest)",
        ["", "capture", "of new kinds", "money", "FPR"],
        [_change_row(found, arm) for arm in arms if arm != BASE],
    )
    rows = []
    for place, month in enumerate(found[0][BASE].months):
        pools = {arm: pooled([one[arm].by_month[place] for one in found]) for arm in (BASE, OTHER)}
        rates = [getattr(one, measure) for measure in ("capture", "false_positive_rate") for one in pools.values()]
        rows.append([month, *(f"{rate:.1%}" for rate in rates[:2]), *(f"{rate:.3%}" for rate in rates[2:])])
    show("By month", ["", f"capture, {BASE}", f"capture, {OTHER}", f"FPR, {BASE}", f"FPR, {OTHER}"], rows)


def draw(found: list[dict[str, Outcome]], folder: Path) -> None:
    """Write the pictures."""
    folder.mkdir(parents=True, exist_ok=True)
    months = found[0][BASE].months
    pools: dict[str, list[Counts]] = {
        arm: [pooled([one[arm].by_month[place] for one in found]) for place in range(len(months))]
        for arm in (BASE, OTHER)
    }
    for measure, what in (("capture", "frauds caught"), ("false_positive_rate", "good payments alerted")):
        lines = {arm: [getattr(one, measure) for one in counts] for arm, counts in pools.items()}
        (folder / f"{measure}.svg").write_text(by_month(months, lines, what), encoding="utf-8")


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", help="one year each")
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=[BASE, "weekly", OTHER], help="beside the two")
    parser.add_argument("--plots", type=Path, help="folder to write the pictures into")
    parser.add_argument("--days", type=int, help="that are measured, instead of the year")
    parser.add_argument("--every", type=float, help="days from a new kind of fraud to the next")
    parser.add_argument("--lasting", type=float, help="days that one lasts")
    parser.add_argument("--chargebacks", type=float, help="days until one comes, median")
    parser.add_argument("--quick", action="store_true", help="a month of few payments: whether it runs, not how well")
    given = parser.parse_args()
    plan, config = read_plan()
    replace = msgspec.structs.replace
    rotation = {"every_days": given.every, "lasting_days": given.lasting}
    scenario = {"chargeback_days": given.chargebacks}
    plan = replace(
        plan,
        rotation=replace(plan.rotation, **{name: one for name, one in rotation.items() if one is not None}),
        scenario=replace(plan.scenario, **{name: one for name, one in scenario.items() if one is not None}),
    )
    if given.quick:
        plan = shortened(plan, QUICK_DAYS, QUICK_TRANSACTIONS)
    elif given.days:
        plan = shortened(plan, given.days)
    seeds = given.seeds or (QUICK_SEEDS if given.quick else SEEDS)
    arms = tuple(name for name in ARMS if name in {BASE, OTHER, *given.arms})
    days = plan.scenario.days - plan.burn_in_days
    say = Progress()
    say(f"{len(seeds)} x {days} days, {plan.scenario.transactions:,} payments each, with those before")
    found = measured(plan, config, seeds, arms, given.jobs, say)
    report(found, arms, days, f"{days} days, {len(seeds)} seed(s), {config.evaluate.alerts_per_day} alerts a day")
    if given.plots is not None:
        draw(found, given.plots)
    capture, false = (changes(found, OTHER, measure) for measure in ("capture", "false_positive_rate"))
    base, other = (pooled([one[arm].total for one in found]) for arm in (BASE, OTHER))
    finish({
        "false_positive_change": fmean(false), "capture_change": fmean(capture),
        "false_positive_change_least": max(false), "false_positive_change_most": min(false),
        "capture_change_least": min(capture), "capture_change_most": max(capture),
        "capture_monthly": base.capture, "capture_daily": other.capture,
        "false_positive_rate_monthly": base.false_positive_rate, "false_positive_rate_daily": other.false_positive_rate,
        "seeds": len(seeds),
    })  # fmt: skip


if __name__ == "__main__":
    main()
