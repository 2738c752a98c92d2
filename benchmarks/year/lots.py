"""The work in lots, each done by a process of its own."""

from __future__ import annotations

import multiprocessing
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import NamedTuple

from benchmarks.table import Progress
from benchmarks.year.arm import ARMS, OTHER, live
from benchmarks.year.figures import Outcome, outcome
from benchmarks.year.history import history
from benchmarks.year.plan import YearPlan
from tollgate.config import Config


class Lot(NamedTuple):
    """What one process does: some arms on the payments of one seed."""

    plan: YearPlan
    config: Config
    seed: int
    arms: tuple[str, ...]


def lived(lot: Lot) -> dict[str, Outcome]:
    """Return what came of each arm of a lot."""
    past = history(lot.plan, lot.config, lot.seed)
    return {name: outcome(past, live(past, lot.config, lot.plan.trees, ARMS[name])) for name in lot.arms}


def measured(
    plan: YearPlan, config: Config, seeds: Sequence[int], arms: Sequence[str], jobs: int, say: Progress
) -> list[dict[str, Outcome]]:
    """Return what came of each arm, seed by seed."""
    # The daily arm takes far longer than all others together, so it has lots of its own, which come first.
    groups = ((OTHER,), tuple(name for name in arms if name != OTHER))
    lots = [Lot(plan, config, seed, group) for group in groups for seed in seeds]
    found: dict[int, dict[str, Outcome]] = {seed: {} for seed in seeds}
    with ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn")) as pool:
        for lot, outcomes in zip(lots, pool.map(lived, lots), strict=True):
            found[lot.seed] |= outcomes
            say(f"seed {lot.seed}: " + ", ".join(f"{name} {one.total.capture:.3f}" for name, one in outcomes.items()))
    return [{name: found[seed][name] for name in arms} for seed in seeds]
