"""Which transaction_id came when: an index in memory from keyed 64-bit hashes of ids to arrival numbers.

An id lies under its hash or, where another id came first with that hash, under the next free number after it. So what
is found under a hash is a candidate, which the ledger compares with the id that it stored.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from tollgate.errors import LedgerError
from tollgate.features.heap import COUNT, FIRST_LEVEL, LEVEL, index_bytes, new_meta, reserve
from tollgate.hashing import HashKey, text_hashes
from tollgate.ledger.lookup import add, look_up

Hashes = NDArray[np.uint64]
Numbers = NDArray[np.int64]
HashIds = Callable[[Sequence[str], bytes], Hashes]

HASH_KEY_BYTES = 16
_MAX_LEVEL = 29
MAX_IDENTITIES = (2 << _MAX_LEVEL) // 3  # 357 million; its 16 GiB are virtual, memory is what is in use


def hash_ids(ids: Sequence[str], key: bytes) -> Hashes:
    """Return the hashes of N ids under a key of HASH_KEY_BYTES, uint64 (N,)."""
    return text_hashes(ids, HashKey.raw(key))


class Identities:
    """Arrival numbers by hash. Not thread-safe."""

    def __init__(self, expected: int = 0) -> None:
        """Make an empty index, with room for `expected` ids before it grows."""
        self._index = reserve(4 << _MAX_LEVEL)
        self._meta = new_meta(0)
        # Where all fit in one level, the smaller ones are never touched and cost no memory.
        self._meta[LEVEL] = min(_MAX_LEVEL, max(FIRST_LEVEL, (expected * 3 // 2).bit_length()))

        # Compiled, or read from Numba's cache, now and not in the middle of a decision.
        nothing = np.empty(0, dtype=np.uint64)
        self.find(nothing)
        self.add(nothing, 1)

    def __len__(self) -> int:
        return int(self._meta[COUNT])

    @property
    def bytes(self) -> int:
        """How many bytes it takes at most."""
        return index_bytes(self._meta)

    def find(self, hashes: Hashes) -> Numbers:
        """Return the arrival numbers of candidates, int64 (N,), for hashes uint64 (N,); NOT_THERE where none is."""
        numbers = np.empty(len(hashes), dtype=np.int64)
        look_up(self._index, self._meta, hashes, numbers)
        return numbers

    def next(self, hashed: int) -> tuple[int, int]:
        """Return the hash after one whose candidate was another id, and the candidate there, or NOT_THERE."""
        after = np.array([hashed], dtype=np.uint64) + np.uint64(1)
        return int(after[0]), int(self.find(after)[0])

    def check_room(self, count: int) -> None:
        """Check that so many more can be added.

        Raises:
            LedgerError: They cannot.
        """
        if len(self) + count > MAX_IDENTITIES:
            raise LedgerError(
                "ledger_full",
                f"expected at most {MAX_IDENTITIES} transactions in the ledger; run "
                "'tollgate archive', then start again",
            )

    def add(self, hashes: Hashes, first: int) -> None:
        """Number new ids, of hashes uint64 (N,), from `first` on; there must be room."""
        add(self._index, self._meta, hashes, first)
