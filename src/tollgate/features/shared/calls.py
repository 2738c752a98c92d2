"""What goes over the wire: calls of one length, made for a whole batch at once as rows of bytes.

A client library packs one command after the other in Python, which costs more than the server needs to run it.
"""

from __future__ import annotations

from binascii import crc_hqx
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tollgate.features.shared.library import Library

SLOTS = 16_384  # of a cluster
_KEY_DIGITS = 16

Bytes = NDArray[np.uint8]
Ints = NDArray[np.int64]


class Calls(NamedTuple):
    """M calls, to be answered one by one.

    Attributes:
        tags: The hash tags of their keys, uint8 (M, T).
        rows: Each as the server reads it, uint8 (M, L).
    """

    tags: Bytes
    rows: Bytes

    def slots(self) -> Ints:
        """Return the slots of the keys in a cluster, int64 (M,)."""
        length, tags = self.tags.shape[1], self.tags.tobytes()
        starts = range(0, len(tags), length)
        return np.array([crc_hqx(tags[start : start + length], 0) % SLOTS for start in starts], dtype=np.int64)


class Caller:
    """Makes the calls of one function for the entities of one table."""

    def __init__(self, library: Library, function: str, place: int, space: str) -> None:
        """Prepare what all calls share.

        Args:
            library: Where the function is.
            function: `observe` or `learn`.
            place: Of the table in the library, from 0.
            space: What the keys begin with.
        """
        key_start = f"{space}:{{"
        words = library.tables[place].sent_words
        before = command_head("FCALL", f"{library.name}_{function}", "1", length=6)
        before += f"${len(key_start) + _KEY_DIGITS + 1}\r\n{key_start}".encode()
        between = b"}\r\n" + bulk(str(place + 1).encode()) + f"${8 * words}\r\n".encode()
        template = before + bytes(_KEY_DIGITS) + between + bytes(8 * words) + b"\r\n"
        self._template = np.frombuffer(template, dtype=np.uint8)
        self._key = slice(len(before), len(before) + _KEY_DIGITS)
        start = len(before) + _KEY_DIGITS + len(between)
        self._words = slice(start, start + 8 * words)

    def calls(self, keys: NDArray[np.uint64], sent: NDArray[np.float64]) -> Calls:
        """Return the calls for M entities, uint64 (M,), and what each is told, float64 (M, W)."""
        rows = np.repeat(self._template[None], len(keys), axis=0)
        digits = _hex(keys)
        rows[:, self._key] = digits
        rows[:, self._words] = np.ascontiguousarray(sent, dtype="<f8").view(np.uint8)
        return Calls(digits, rows)


def one_call(slot_of: bytes, *words: bytes) -> Calls:
    """Return a single call of a command; `slot_of` is the hash tag of its key."""
    text = command_head(length=len(words)) + b"".join(bulk(word) for word in words)
    digits = np.frombuffer(slot_of, dtype=np.uint8)[None]
    return Calls(digits, np.frombuffer(text, dtype=np.uint8)[None])


def command_head(*words: str, length: int) -> bytes:
    """Return the beginning of a command of that many words, with its first ones."""
    return f"*{length}\r\n".encode() + b"".join(bulk(word.encode()) for word in words)


def bulk(word: bytes) -> bytes:
    """Return one word of a command."""
    return b"$%d\r\n%b\r\n" % (len(word), word)


def _hex(keys: NDArray[np.uint64]) -> Bytes:
    shifts = np.arange(4 * (_KEY_DIGITS - 1), -1, -4, dtype=np.uint64)
    nibbles = (keys[:, None] >> shifts & np.uint64(15)).astype(np.uint8)
    digits: Bytes = np.frombuffer(b"0123456789abcdef", dtype=np.uint8)[nibbles]
    return digits
