"""How many decisions a second, and how late, beside the servers that people put a model behind?

    python -m benchmarks.serving [--quick] [--only ROW ...] [--rounds N] [--seconds S] [--work FOLDER]

Tollgate gets raw payments, computes 40 windowed features, decides by model and policy and commits to its ledger before
it answers. The peers get 40 ready features and keep nothing. Each server runs on one core and the load on another; the
servers take turns, round by round. Needs wrk and nginx (Debian packages); the peers are installed once, into
environments of their own. What cannot be run is in the table, with the reason.
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from benchmarks.serving.material import ROOT, make_bundle, make_material
from benchmarks.serving.measure import CONNECTIONS, measure_round, served
from benchmarks.serving.process import Cores, NotRunError, cores
from benchmarks.serving.report import Outcome, measures, tell
from benchmarks.serving.score_file import Scored, score_file
from benchmarks.serving.stacks import NGINX, STACKS, TOLLGATE, Ground, Stack
from benchmarks.table import Progress, finish

WORK = ROOT / "build" / "serving"
PEERS = ROOT / "build" / "peers"
_OPEN_SHARE = 0.5  # of Tollgate's saturation


class Sizes(NamedTuple):
    """How much of everything."""

    transactions: int  # of the history that every ledger begins with
    score_rows: int
    rounds: int
    seconds: float
    warm_s: float
    open_s: float


FULL = Sizes(200_000, 2_000_000, 3, 5.0, 2.0, 10.0)
QUICK = Sizes(20_000, 40_000, 1, 1.0, 1.0, 2.0)


def main() -> None:
    """Run it."""
    given = _arguments()
    sizes = QUICK if given.quick else FULL
    sizes = sizes._replace(rounds=given.rounds or sizes.rounds, seconds=given.seconds or sizes.seconds)
    chosen = [one for one in STACKS if (one.key in given.only if given.only else not (given.quick and one.installed))]
    say = Progress()
    where = cores()
    if where.server == where.load:
        say("only one core: servers and load take it from each other, so read no figure")
    try:
        material = make_material(given.work.resolve() / ("quick" if given.quick else "full"), sizes.transactions, say)
        for model in dict.fromkeys(one.model for one in chosen if one.model is not None):
            make_bundle(material, model, say)
    except NotRunError as error:
        sys.exit(f"nothing was measured: {error}")
    ground = Ground(material, given.peers.resolve(), say)
    outcome = Outcome(defaultdict(list), {}, defaultdict(list), None)
    closed_rounds(chosen, ground, where, sizes, outcome)
    open_rounds(chosen, ground, where, sizes, outcome)
    if any(one.key == TOLLGATE for one in chosen):
        outcome = outcome._replace(scored=_scored(ground, where, sizes, outcome))
    tell(chosen, outcome)
    finish(measures(outcome))


def closed_rounds(chosen: Sequence[Stack], ground: Ground, where: Cores, sizes: Sizes, outcome: Outcome) -> None:
    """Measure saturation: the servers take turns, so that a busy minute of the machine falls on all."""
    for turn in range(sizes.rounds):
        for stack in chosen:
            if stack.key in outcome.not_run:
                continue
            ground.say(f"round {turn + 1} of {sizes.rounds}: {stack.title}")
            try:
                outcome.rounds[stack.key].append(measure_round(stack, ground, where, sizes.seconds, sizes.warm_s))
            except NotRunError as error:
                outcome.not_run[stack.key] = str(error)
                ground.say(f"not run: {error}")


def open_rounds(chosen: Sequence[Stack], ground: Ground, where: Cores, sizes: Sizes, outcome: Outcome) -> None:
    """Measure latency at half of Tollgate's saturation; nginx at the same rate shows the machine's own jitter."""
    own = outcome.best(TOLLGATE)
    if own is None:
        return
    rate = own * _OPEN_SHARE
    for turn in range(sizes.rounds):
        for stack in chosen:
            if stack.key in outcome.not_run or not (stack.own or stack.key == NGINX):
                continue
            best = outcome.best(stack.key)
            assert best is not None
            ground.say(f"open loop {turn + 1} of {sizes.rounds}, {rate:,.0f} a second: {stack.title}")
            try:
                with served(stack, ground, where) as server:
                    server.closed(CONNECTIONS[0], sizes.warm_s)
                    outcome.opens[stack.key].append(server.open(min(rate, best * _OPEN_SHARE), sizes.open_s))
            except NotRunError as error:
                ground.say(f"not run: {error}")


def _scored(ground: Ground, where: Cores, sizes: Sizes, outcome: Outcome) -> Scored | None:
    ground.say(f"scoring a file of {sizes.score_rows:,} payments")
    try:
        return score_file(ground.material, sizes.score_rows, where)
    except NotRunError as error:
        outcome.not_run["score"] = str(error)
        return None


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a minute: whether it runs, and without what needs peers")
    parser.add_argument("--only", nargs="+", choices=[one.key for one in STACKS], help="rows; all by default")
    parser.add_argument("--rounds", type=int, help=f"default {FULL.rounds}")
    parser.add_argument("--seconds", type=float, help=f"of each load, default {FULL.seconds:g}")
    parser.add_argument("--work", type=Path, default=WORK, help="folder for data, bundles and logs")
    parser.add_argument("--peers", type=Path, default=PEERS, help="folder for the peers' environments")
    return parser.parse_args()


if __name__ == "__main__":
    main()
