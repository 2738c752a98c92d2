"""What does deciding a file inside Flink cost, beside `tollgate score`?

    python -m benchmarks.flink [--transactions N] [--parallelism 1 2]

Both run as a user runs them, in the environment of integrations/flink/setup, on the same file with the same bundle, and
have to write the same. `total` is all of the larger file, starting up included; `rate` is what each further transaction
takes: the difference to a file of a fifth. Ends with one line of JSON; rates are transactions a second.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import polars as pl

from benchmarks.table import Progress, finish, show

ROOT = Path(__file__).parents[1]
PYTHON = ROOT / "build" / "flink" / "venv" / "bin" / "python"
WORK = ROOT / "build" / "flink" / "benchmark"
SMALLER = 5  # how many times the smaller file is smaller
DAYS, PER_CARD = 60, 20
_LIMIT_S = 1800.0
_SETTINGS = """
[train]
model = "mlp"
max_epochs = 2
refit = false

[evaluate]
beside = []
resamples = 0

[policy]
choose = "budget"
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--transactions", type=int, default=500_000)
    parser.add_argument("--parallelism", type=int, nargs="+", default=[1, 2])
    arguments = parser.parse_args()
    if not PYTHON.is_file():
        sys.exit(f"expected {PYTHON}; make it with integrations/flink/setup")
    say = Progress()
    count = arguments.transactions
    _make(count, say)
    rows, measures = [], {"transactions": count}
    for name, command in _commands(arguments.parallelism).items():
        small, large = (_timed(f"{name}, {size}", command, size, say) for size in ("small", "large"))
        further = count - count // SMALLER
        found = {
            "total_s": large,
            "per_s": further / (large - small),
        }
        rows.append([name, *(f"{value:,.0f}" for value in found.values())])
        key = name.replace(" ", "_")
        measures |= {f"{key}_{what}": value for what, value in found.items()}
    show(f"{count:,} transactions", ["", "total s", "rate /s"], rows)
    finish(measures)


def _make(count: int, say: Progress) -> None:
    shutil.rmtree(WORK, ignore_errors=True)
    WORK.mkdir(parents=True)
    (WORK / "tollgate.toml").write_text(_SETTINGS)
    say(f"simulating {count:,} payments and training on them")
    simulate = ("simulate", "large.parquet", "--transactions", count, "--days", DAYS, "--cards", count // PER_CARD)
    _run(sys.executable, "tollgate", *simulate)
    pl.read_parquet(WORK / "large.parquet").head(count // SMALLER).write_parquet(WORK / "small.parquet")
    _run(sys.executable, "tollgate", "train", "large.parquet")


def _commands(parallelism: list[int]) -> Mapping[str, tuple[str, ...]]:
    rescore = ("tollgate_flink", "rescore", "--parallelism")
    return {"score": ("tollgate", "score"), **{f"rescore {many}": (*rescore, str(many)) for many in parallelism}}


def _timed(what: str, command: tuple[str, ...], size: str, say: Progress) -> float:
    """Return how many seconds a command took, once it has written what `tollgate score` writes."""
    say(what)
    folder = command[0] == "tollgate_flink"
    output = WORK / ("decisions" if folder else f"{size}.scores.parquet")
    shutil.rmtree(output, ignore_errors=True)
    begun_s = time.perf_counter()
    _run(str(PYTHON), *command, f"{size}.parquet", output.name)
    taken_s = time.perf_counter() - begun_s
    if folder and not pl.read_parquet(output / "*.parquet").equals(pl.read_parquet(WORK / f"{size}.scores.parquet")):
        sys.exit(f"{what} wrote other decisions than tollgate score")
    return taken_s


def _run(python: str, *arguments: object) -> None:
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": f"{ROOT / 'src'}:{ROOT / 'integrations' / 'flink'}",
        "PATH": f"{Path(python).parent}:{os.environ['PATH']}",
    }
    command = [python, "-m", *map(str, arguments)]
    done = subprocess.run(
        command, cwd=WORK, env=environment, text=True, capture_output=True, check=False, timeout=_LIMIT_S
    )
    if done.returncode:
        sys.exit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")


if __name__ == "__main__":
    main()
