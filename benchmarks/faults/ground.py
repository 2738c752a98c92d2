"""What every scenario begins with: a trained bundle, transactions to send, and a folder of its own."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks.faults import interface
from benchmarks.serving.material import Material
from benchmarks.serving.traffic import Traffic
from benchmarks.table import Progress
from tollgate.config import LedgerConfig

SEED = 20_260
BUNDLES = "bundles"
_CONFIG = """\
{features}bundles = "bundles"

[ledger]
url = "{url}"
durability = "{durability}"
{more}
[serve]
{serve}"""
_DEFAULTS = LedgerConfig()
_FILE = "sqlite:///tollgate.db"


class Ground(NamedTuple):
    """Where scenarios happen.

    Attributes:
        work: A folder for those of the scenarios.
        bundles: A registry with a champion, which is copied and never changed.
        traffic: Distinct transactions.
        features: The features file of the champion's training.
        say: Told what begins.
    """

    work: Path
    bundles: Path
    traffic: Traffic
    features: Path | None
    say: Progress

    @classmethod
    def of(cls, material: Material, work: Path, say: Progress) -> Ground:
        """Return the ground on the material of the serving benchmark."""
        return cls(work, material.folder / BUNDLES / "mlp", material.traffic, material.folder / "features.py", say)

    def folder(
        self,
        name: str,
        durability: str = _DEFAULTS.durability,
        url: str = _FILE,
        more: str = "",
        **serve: int | str,
    ) -> Path:
        """Return a new folder with a configuration, as of `configure`, a copy of the bundles and no ledger yet."""
        place = self.work / name
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        shutil.copytree(self.bundles, place / BUNDLES)
        self.configure(place, durability, url, more, **serve)
        return place

    def configure(
        self,
        place: Path,
        durability: str = _DEFAULTS.durability,
        url: str = _FILE,
        more: str = "",
        **serve: int | str,
    ) -> None:
        """Write the configuration of a folder; `more` is what else stands in [ledger], and other tables."""
        features = "" if self.features is None else f'features = "{self.features}"\n'
        table = interface.serve_table(**serve)
        text = _CONFIG.format(features=features, url=url, durability=durability, serve=table, more=more)
        (place / "tollgate.toml").write_text(text)


class Source:
    """Hands out bodies, each transaction once, to any number of threads."""

    def __init__(self, traffic: Traffic, first: int = 0, sizes: tuple[int, ...] = (1,), seed: int = SEED) -> None:
        """Begin with the transaction of number `first`; each body has one of `sizes`, 1 for no array."""
        self._traffic = traffic
        self._next = first
        self._sizes = sizes
        self._rng = np.random.default_rng(seed)
        self._lock = threading.Lock()

    @property
    def handed_out(self) -> int:
        """How many transactions."""
        return self._next

    def body(self) -> tuple[bytes, int]:
        """Return a body, and how many transactions are in it."""
        with self._lock:
            size = int(self._rng.choice(self._sizes))
            first, self._next = self._next, self._next + size
        return array_of(self._traffic, first, size), size


def array_of(traffic: Traffic, first: int, size: int) -> bytes:
    """Return the body of some transactions in a row: an array, or the one itself."""
    if size == 1:
        return traffic.body(first)
    return b"[" + b",".join(traffic.body(number) for number in range(first, first + size)) + b"]"
