"""What is made before anything is measured: payments, bundles, a ledger with history, traffic, the peers' models.

Kept in a folder and used again, until Tollgate's source changes. Speed depends on no weight, so training is short.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import os
import shutil
import sys
from pathlib import Path
from typing import NamedTuple

import msgspec

import tollgate
from benchmarks.payments import scenario
from benchmarks.serving.peer_models import FOREST, write_models
from benchmarks.serving.process import finished
from benchmarks.serving.traffic import Traffic, traffic_of
from benchmarks.table import Progress
from tollgate.simulate import simulate, write

ROOT = Path(__file__).parents[2]
START = dt.date(2015, 1, 5)  # long ago: the days of the traffic go on for years, and none may be in the future
TRAFFIC_PARTS = 4  # the traffic repeats the first of so many parts of the payments
_LIMIT_S = 1_200
_FEATURES = "from benchmarks.feature_list import ITEMS\n\nFEATURES = [item.feature for item in ITEMS]\n"
_CONFIG = """\
features = "{features}"
bundles = "{bundles}"

[ledger]
url = "sqlite:///{ledger}"
durability = "{durability}"

[train]
model = "{model}"
hidden = [128, 64]
max_epochs = 1
refit = false

[evaluate]
beside = []
resamples = 0
"""


class Material(NamedTuple):
    """Where things are.

    Attributes:
        folder: Of all of it.
        payments: The simulated payments: what bundles were trained on, the ledger's history, the file to score.
        rows: How many they are.
        traffic: What comes after them.
    """

    folder: Path
    payments: Path
    rows: int
    traffic: Traffic

    @property
    def traffic_file(self) -> Path:
        """The traffic as `load.lua` reads it."""
        return self.folder / "traffic.txt"

    @property
    def history(self) -> Path:
        """The folder with the ledger that every server begins with a copy of."""
        return self.folder / "history"

    def configure(self, folder: Path, model: str, durability: str = "fsync") -> Path:
        """Write a configuration with a ledger in `folder`, made where it is not there, and return its path."""
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / "tollgate.toml"
        path.write_text(
            _CONFIG.format(
                features=self.folder / "features.py",
                bundles=self.folder / "bundles" / model,
                ledger=folder / "tollgate.db",
                durability=durability,
                model=model,
            )
        )
        return path


def environment() -> dict[str, str]:
    """Return what Tollgate's processes get beside this one's environment."""
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {"PYTHONPATH": os.pathsep.join(paths), "TOLLGATE_HASH_KEY": "the key of a benchmark, no secret"}


def tollgate_command(*arguments: str) -> list[str]:
    """Return a command of this interpreter's Tollgate."""
    return [sys.executable, "-m", "tollgate", *arguments]


def make_material(folder: Path, transactions: int, say: Progress) -> Material:
    """Return the payments, the ledger and the traffic in `folder`, made anew where they are of another source or size.

    Raises:
        NotRunError: A command of Tollgate failed.
    """
    fingerprint = f"{transactions} {_source_digest()}"
    marker = folder / "made.txt"
    payments = folder / "payments.parquet"
    if marker.is_file() and marker.read_text() == fingerprint:
        return Material(folder, payments, transactions, Traffic.load(folder / "traffic.txt"))
    for part in ("bundles", "training", "history"):
        shutil.rmtree(folder / part, ignore_errors=True)
    marker.unlink(missing_ok=True)
    folder.mkdir(parents=True, exist_ok=True)
    say(f"simulating {transactions:,} payments")
    frame = simulate(msgspec.structs.replace(scenario(transactions), start=START))
    write(frame, payments)
    made = Material(folder, payments, transactions, traffic_of(frame, transactions // TRAFFIC_PARTS))
    made.traffic.save(made.traffic_file)
    (folder / "features.py").write_text(_FEATURES)
    say("putting the payments into a ledger")
    _run("import", str(payments), "--config", str(made.configure(made.history, "mlp")))
    marker.write_text(fingerprint)
    return made


def make_bundle(material: Material, model: str, say: Progress) -> None:
    """Train a model for the servers, where that was not done.

    Raises:
        NotRunError: The training failed.
    """
    if (material.folder / "bundles" / model / "champion.json").is_file():
        return
    say(f"training {model} for one epoch")
    config = material.configure(material.folder / "training" / model, model)
    _run("train", str(material.payments), "--config", str(config))


def make_peer_models(folder: Path, say: Progress) -> Path:
    """Return the folder with the peers' models, made where they are not there."""
    place = folder / "models"
    if not (place / FOREST).is_file():
        say("making the peers' models")
        write_models(place)
    return place


def _source_digest() -> str:
    assert tollgate.__file__ is not None
    digest = hashlib.sha256()
    for path in sorted(Path(tollgate.__file__).parent.rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _run(*arguments: str) -> None:
    finished(tollgate_command(*arguments), f"'tollgate {arguments[0]}'", _LIMIT_S, environment())
