"""What can hold feature state: this process, or servers that several processes share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from tollgate.features.plan import FeaturePlan
from tollgate.hashing import HashKey, text_hashes
from tollgate.transaction import Batch

Keys = NDArray[np.uint64]

_PUBLIC = HashKey.raw(b"tollgate repeats")


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
    def close(self) -> None: ...


class RemoteEngine(Engine, Protocol):
    """An engine whose state outlives the process; see `SharedEngine`."""

    @property
    def clock_us(self) -> int: ...
    def resume(self) -> int: ...
    def clear(self) -> None: ...
    def rewind(self, position: int) -> None: ...
    def relearn(self, keys: Keys, available_us: NDArray[np.int64], ids: Keys) -> None: ...
    def settle(self) -> None: ...


def transaction_hashes(ids: Sequence[str]) -> Keys:
    """Return what an engine recognises transactions by, uint64 (N,), the same for every process."""
    return text_hashes(ids, _PUBLIC)
