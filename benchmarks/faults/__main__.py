"""What happens to decisions when things break: kill -9, a full disk, damaged files, a slow model, bad clients.

    python -m benchmarks.faults [--rounds 100] [--only NAME ...] [--quick] [--work FOLDER]

Real servers in processes of their own, broken on purpose. Prints what was done, what must come of it and what was seen;
the last line is JSON. The exit code is 1 if anything did not hold. About 20 minutes; Linux.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from benchmarks.faults.artifacts import bundle_at_start, bundle_promoted, snapshot
from benchmarks.faults.client import BrokenError
from benchmarks.faults.clock import jump
from benchmarks.faults.connections import half_closed, leavers, slowloris, unread
from benchmarks.faults.ground import Ground, array_of
from benchmarks.faults.killed import kill
from benchmarks.faults.ledger import disk_full, locked, read_only
from benchmarks.faults.malformed import bad_inputs
from benchmarks.faults.overload import overload
from benchmarks.faults.postgres import postgres
from benchmarks.faults.replicas import replicas
from benchmarks.faults.row import FULL, QUICK, Row, Sizes
from benchmarks.faults.server import warm_up
from benchmarks.faults.slow_model import slow_model
from benchmarks.serving.material import ROOT, make_bundle, make_material
from benchmarks.serving.process import NotRunError
from benchmarks.table import Progress, finish

WORK = ROOT / "build" / "faults"
SCENARIOS: dict[str, Callable[[Ground, Sizes], Row]] = {
    "kill": kill,
    "disk-full": disk_full,
    "locked": locked,
    "read-only": read_only,
    "postgres": postgres,
    "replicas": replicas,
    "snapshot": snapshot,
    "bundle": bundle_at_start,
    "promotion": bundle_promoted,
    "clock": jump,
    "slow-model": slow_model,
    "overload": overload,
    "malformed": bad_inputs,
    "slowloris": slowloris,
    "half-closed": half_closed,
    "leavers": leavers,
    "unread": unread,
}
MEASURES = ("kill_rounds", "lost", "doubled", "state_differs", "bad_inputs", "crashes")
_WIDTH = 160  # columns, also where the output is no terminal
_HELD = {True: "yes", False: "[bold red]NO[/bold red]", None: "not run"}


def main() -> None:
    """Run it."""
    given = _arguments()
    sizes = QUICK if given.quick else FULL
    sizes = sizes._replace(rounds=sizes.rounds if given.rounds is None else given.rounds)
    say = Progress()
    work = given.work.resolve() / ("quick" if given.quick else "full")
    try:
        material = make_material(work / "material", sizes.transactions, say)
        make_bundle(material, "mlp", say)
        ground = Ground.of(material, work / "scenarios", say)
        warm_up(ground.folder("warm"), array_of(ground.traffic, 0, 10))
    except NotRunError as error:
        sys.exit(f"nothing was broken: {error}")
    rows = []
    for name in given.only or SCENARIOS:
        say(f"scenario {name}")
        row = run(name, ground, sizes)
        say(f"{name}: {'held' if row.held else 'not run' if row.held is None else 'DID NOT HOLD'}: {row.seen}")
        rows.append(row)
    tell(rows)
    finish(measures(rows))
    sys.exit(any(row.held is False for row in rows))


def run(name: str, ground: Ground, sizes: Sizes) -> Row:
    """Run one scenario; what it could not make is a row that says why."""
    try:
        return SCENARIOS[name](ground, sizes)
    except NotRunError as error:
        return Row(name, "", "", str(error), None)
    except BrokenError as error:
        return Row(name, "", "each request is answered", f"a connection broke: {error}", held=False)


def tell(rows: list[Row]) -> None:
    """Print the table."""
    table = Table(title="When things break", title_justify="left", show_lines=True)
    for heading in ("fault", "what is done", "outcome", "seen", "held"):
        table.add_column(heading, overflow="fold")
    for row in rows:
        table.add_row(*map(escape, row[:4]), _HELD[row.held])
    Console(width=_WIDTH).print(table)


def measures(rows: list[Row]) -> dict[str, float | None]:
    """Return what is counted, over all rows; None is what no row counted."""
    counted: Counter[str] = Counter()
    for row in rows:
        counted.update(row.figures)
    found: dict[str, float | None] = {name: counted.get(name) for name in (*MEASURES, *counted)}
    found["failed"] = sum(row.held is False for row in rows)
    found["not_run"] = sum(row.held is None for row in rows)
    return found


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, help=f"of kill -9, default {FULL.rounds}")
    parser.add_argument("--only", nargs="+", choices=list(SCENARIOS), metavar="NAME", help=f"of {', '.join(SCENARIOS)}")
    parser.add_argument("--quick", action="store_true", help="a few minutes: whether it runs")
    parser.add_argument("--work", type=Path, default=WORK, help="folder for data, bundles and logs")
    return parser.parse_args()


if __name__ == "__main__":
    main()
