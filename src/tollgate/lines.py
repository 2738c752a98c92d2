"""Texts of JSON, one a line: kept together as they were written, and cut only for whoever wants one of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import NamedTuple, overload

import numpy as np
from numpy.typing import NDArray

_FEED = ord("\n")


class Joined(NamedTuple):
    """N texts one after the other.

    Attributes:
        data: The texts.
        lengths: In bytes, int64 (N,).
    """

    data: bytes
    lengths: NDArray[np.int64]


class Lines(Sequence[bytes]):
    """N texts, none of which holds a line feed: in JSON there is always another way to write it."""

    def __init__(self, data: bytes) -> None:
        """Hold texts, each followed by a line feed."""
        self._data = data

    def __len__(self) -> int:
        return len(self.joined.lengths)

    @overload
    def __getitem__(self, place: int) -> bytes: ...

    @overload
    def __getitem__(self, place: slice) -> list[bytes]: ...

    def __getitem__(self, place: int | slice) -> bytes | list[bytes]:
        """Return one text, or a list of some."""
        return self._texts[place]

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._texts)

    @cached_property
    def _texts(self) -> list[bytes]:
        return self._data.split(b"\n")[:-1]

    @cached_property
    def joined(self) -> Joined:
        """The texts without the line feeds."""
        ends = np.flatnonzero(np.frombuffer(self._data, dtype=np.uint8) == _FEED)
        lengths = ends.copy()
        lengths[1:] -= ends[:-1] + 1
        return Joined(self._data.replace(b"\n", b""), lengths)


def joined(texts: Sequence[bytes]) -> Joined:
    """Return texts as one."""
    if isinstance(texts, Lines):
        return texts.joined
    return Joined(b"".join(texts), np.fromiter(map(len, texts), dtype=np.int64, count=len(texts)))
