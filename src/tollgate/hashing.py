"""How texts become numbers: under a secret key for entities, under a public one for categories.

No raw card number is held in feature state: an entity is known by its 64-bit SipHash-2-4 (Aumasson and Bernstein,
"SipHash: a fast short-input PRF", 2012) under a secret, of which feature state keeps 58 bits: among ten million
entities of a kind, two are taken for one with probability 0.0002. The features do not depend on the key otherwise.
All texts of a batch are hashed in one compiled call.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

MISSING_KEY = 0
_CATEGORY_SHIFT = 12  # leaves 52 bits: float64 holds every such whole number exactly
_KEY_BYTES = 16
_PERSON = b"tollgate entity"  # the secret serves more than one purpose; each derives a key of its own
_SEPARATOR = "\0"

Hashes = NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class HashKey:
    """A key of SipHash.

    Attributes:
        words: Its two halves, uint64 (2,).
    """

    words: Hashes

    @classmethod
    def of(cls, secret: bytes) -> HashKey:
        """Return the key that is derived from a secret of 16 to 64 bytes."""
        return cls.raw(blake2b(digest_size=_KEY_BYTES, key=secret, person=_PERSON).digest())

    @classmethod
    def raw(cls, key: bytes) -> HashKey:
        """Return the key that is these 16 bytes."""
        return cls(np.frombuffer(key, dtype="<u8").astype(np.uint64))


_PUBLIC = HashKey.raw(b"tollgatecategory")


class Packed(NamedTuple):
    """N texts one after the other, each followed by one byte that is not part of it.

    Attributes:
        data: Their UTF-8, uint8.
        ends: Where each ends in `data`, int64 (N,).
    """

    data: NDArray[np.uint8]
    ends: NDArray[np.int64]


def pack(texts: Sequence[str]) -> Packed:
    """Return texts as compiled code reads them."""
    # Half of a surrogate pair is no text, but it must not end a batch.
    data = np.frombuffer((_SEPARATOR.join(texts) + _SEPARATOR).encode("utf-8", "surrogatepass"), dtype=np.uint8)
    ends = (data == 0).nonzero()[0]
    if len(ends) != len(texts):  # a text holds the separator itself, or there are no texts
        lengths = np.array([len(text.encode("utf-8", "surrogatepass")) + 1 for text in texts], dtype=np.int64)
        ends = np.cumsum(lengths) - 1
    return Packed(data, ends)


def text_hashes(texts: Sequence[str], key: HashKey) -> Hashes:
    """Return the keys of N entity ids, uint64 (N,); none is 0, which stands for a missing one."""
    out = np.empty(len(texts), dtype=np.uint64)
    hash_packed(*pack(texts), 0, key.words, out)
    return out


def category_codes(texts: Sequence[str]) -> NDArray[np.float64]:
    """Return the codes of N categories, float64 (N,): whole numbers below 2**52, the same everywhere and always."""
    return packed_codes(pack(texts), 0, len(texts))


def packed_codes(packed: Packed, first: int, count: int) -> NDArray[np.float64]:
    """Return the codes of `count` packed texts from number `first` on, as `category_codes` does."""
    out = np.empty(count, dtype=np.uint64)
    hash_packed(*packed, first, _PUBLIC.words, out)
    return (out >> np.uint64(_CATEGORY_SHIFT)).astype(np.float64)


def entity_key(text: str, key: HashKey) -> int:
    """Return the non-zero 64-bit key of one entity id, as `text_hashes` does."""
    return int(text_hashes([text], key)[0])


def category_code(text: str) -> float:
    """Return the code of one category, as `category_codes` does."""
    return float(category_codes([text])[0])


@numba.njit(error_model="numpy", inline="always")
def _rotate(x: np.uint64, bits: int) -> np.uint64:
    return (x << np.uint64(bits)) | (x >> np.uint64(64 - bits))


@numba.njit(error_model="numpy", inline="always")
def _round(
    v0: np.uint64, v1: np.uint64, v2: np.uint64, v3: np.uint64
) -> tuple[np.uint64, np.uint64, np.uint64, np.uint64]:
    v0 += v1
    v2 += v3
    v1 = _rotate(v1, 13) ^ v0
    v3 = _rotate(v3, 16) ^ v2
    v0 = _rotate(v0, 32)
    v2 += v1
    v0 += v3
    v1 = _rotate(v1, 17) ^ v2
    v3 = _rotate(v3, 21) ^ v0
    v2 = _rotate(v2, 32)
    return v0, v1, v2, v3


@numba.njit(cache=True, error_model="numpy")
def hash_packed(
    data: NDArray[np.uint8], ends: NDArray[np.int64], first: int, key: NDArray[np.uint64], out: NDArray[np.uint64]
) -> None:
    """Write SipHash-2-4 of packed texts, from number `first` on, into `out`, uint64 (n,); 1 where it is 0."""
    start = ends[first - 1] + 1 if first else 0
    for i in range(out.shape[0]):
        end = ends[first + i]
        v0 = key[0] ^ np.uint64(0x736F6D6570736575)
        v1 = key[1] ^ np.uint64(0x646F72616E646F6D)
        v2 = key[0] ^ np.uint64(0x6C7967656E657261)
        v3 = key[1] ^ np.uint64(0x7465646279746573)
        length = end - start
        whole = start + (length & ~7)
        for at in range(start, whole, 8):
            word = np.uint64(0)
            for b in range(8):
                word |= np.uint64(data[at + b]) << np.uint64(8 * b)
            v3 ^= word
            v0, v1, v2, v3 = _round(v0, v1, v2, v3)
            v0, v1, v2, v3 = _round(v0, v1, v2, v3)
            v0 ^= word
        word = np.uint64(length & 0xFF) << np.uint64(56)
        for b in range(end - whole):
            word |= np.uint64(data[whole + b]) << np.uint64(8 * b)
        v3 ^= word
        v0, v1, v2, v3 = _round(v0, v1, v2, v3)
        v0, v1, v2, v3 = _round(v0, v1, v2, v3)
        v0 ^= word
        v2 ^= np.uint64(0xFF)
        for _ in range(4):
            v0, v1, v2, v3 = _round(v0, v1, v2, v3)
        digest = v0 ^ v1 ^ v2 ^ v3
        out[i] = digest if digest != np.uint64(0) else np.uint64(1)
        start = end + 1
