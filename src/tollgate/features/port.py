"""What can hold feature state: this process, or servers that several processes share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from tollgate.features.plan import FeaturePlan
from tollgate.hashing import HashKey, text_hashes
from tollgate.transaction import Batch

Keys = NDArray[np.uint64]

FILLING = "(filling)"  # in place of a writer: who fills a state for several writers, from all that they recorded

_PUBLIC = HashKey.raw(b"tollgate repeats")


class Standing(NamedTuple):
    """What a state that outlives the process holds.

    Attributes:
        filled: Up to which arrival number it has what all writers of one ledger recorded; None where one wrote it.
        positions: Up to which one it has, beyond doubt, what each writer recorded; of those that it knows.
    """

    filled: int | None
    positions: dict[str, int]


class Engine(Protocol):
    """Reads history and then updates it; see `FeatureEngine`, whose bits every engine gives."""

    plan: FeaturePlan
    observed: int
    remote: bool  # whether a call waits for another machine

    @property
    def late(self) -> int: ...
    @property
    def entities(self) -> int: ...
    @property
    def state_bytes(self) -> int: ...
    @property
    def index_bytes(self) -> int: ...
    def observe(self, batch: Batch) -> NDArray[np.float64]: ...
    def learn(self, keys: Keys, available_us: NDArray[np.int64], ids: Keys | None = None) -> None: ...
    def lacked(self) -> tuple[str, ...]: ...
    def recorded(self, observed: int, number: int) -> None: ...
    def close(self) -> None: ...


class Writers(Protocol):
    """What such a state keeps of those who write it."""

    number: int

    def standing(self) -> Standing: ...
    def fill_ends(self, position: int) -> None: ...
    def forget(self, writer: str) -> None: ...


class RemoteEngine(Engine, Protocol):
    """An engine whose state outlives the process; see `SharedEngine`."""

    @property
    def writers(self) -> Writers: ...
    @property
    def clock_us(self) -> int: ...
    def resume(self, writer: str | None = None) -> int | None: ...
    def clear(self) -> None: ...
    def rewind(self, position: int) -> None: ...
    def relearn(self, keys: Keys, available_us: NDArray[np.int64], ids: Keys) -> None: ...
    def settle(self) -> None: ...


def transaction_hashes(ids: Sequence[str]) -> Keys:
    """Return what an engine recognises transactions by, uint64 (N,), the same for every process."""
    return text_hashes(ids, _PUBLIC)
