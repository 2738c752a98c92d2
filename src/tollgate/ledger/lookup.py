"""Finding and adding many hashes at once, compiled, on the index of `features.heap`."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

import numba
import numpy as np

from tollgate.features import heap
from tollgate.features.heap import borrowed, find, insert, prefetch_slot

NOT_THERE = 0  # arrival numbers begin at 1
_AHEAD = 8  # slots that are on their way from memory at a time


def _compile(sources: str):
    """Return `look_up` and `add`, compiled; closing over the digest makes it a part of the key of Numba's cache."""

    @numba.njit(cache=True, nogil=True)
    def look_up(index, meta, hashes, numbers):
        """Write the arrival numbers under `hashes`, uint64 (n,), to `numbers`, int64 (n,)."""
        _ = sources
        index, meta, hashes, numbers = borrowed(index), borrowed(meta), borrowed(hashes), borrowed(numbers)
        n = hashes.shape[0]
        for i in range(min(_AHEAD, n)):
            prefetch_slot(index, meta, hashes[i])
        for i in range(n):
            if i + _AHEAD < n:
                prefetch_slot(index, meta, hashes[i + _AHEAD])
            numbers[i] = find(index, meta, max(hashes[i], np.uint64(1)))  # 0 marks a free slot

    @numba.njit(cache=True, nogil=True)
    def add(index, meta, hashes, first):
        """Number the ids with `hashes`, uint64 (n,), from `first` on."""
        _ = sources
        index, meta, hashes = borrowed(index), borrowed(meta), borrowed(hashes)
        n = hashes.shape[0]
        for i in range(min(_AHEAD, n)):
            prefetch_slot(index, meta, hashes[i])
        for i in range(n):
            if i + _AHEAD < n:
                prefetch_slot(index, meta, hashes[i + _AHEAD])
            word = max(hashes[i], np.uint64(1))
            while find(index, meta, word) != NOT_THERE:
                word = max(word + np.uint64(1), np.uint64(1))
            insert(index, meta, word, first + i)

    return look_up, add


def _digest() -> str:
    return sha256(b"".join(Path(str(one)).read_bytes() for one in (heap.__file__, __file__))).hexdigest()


look_up, add = _compile(_digest())
