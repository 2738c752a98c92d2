"""Rows of numbers that grow: in memory, and beyond a limit in a file that is read as it is needed."""

from __future__ import annotations

import tempfile
from typing import Any

import numpy as np
from numpy.typing import NDArray


class Spool:
    """Collects arrays of equal width and gives them as one."""

    def __init__(self, width: int, dtype: type[np.generic], max_bytes: int) -> None:
        """Make an empty one.

        Args:
            width: Columns of a row.
            dtype: Of a value.
            max_bytes: More goes to a file where the system keeps such files (TMPDIR); it is gone when nothing uses the
                rows any more.
        """
        self._width = width
        self._dtype = np.dtype(dtype)
        self._max_bytes = max_bytes
        self._parts: list[NDArray[Any]] = []
        self._file: Any = None
        self._rows = 0

    def append(self, rows: NDArray[Any]) -> None:
        """Add rows, (n, width)."""
        part = np.ascontiguousarray(rows, dtype=self._dtype)
        assert part.shape[1:] == (self._width,)
        self._rows += len(part)
        if self._file is None and self._rows * self._width * self._dtype.itemsize > self._max_bytes:
            self._file = tempfile.TemporaryFile()  # noqa: SIM115 -- lives as long as the rows
            for earlier in self._parts:
                self._file.write(earlier.tobytes())
            self._parts.clear()
        if self._file is None:
            self._parts.append(part)
        else:
            self._file.write(part.tobytes())

    def rows(self) -> NDArray[Any]:
        """Return all rows, (N, width): an array, or a view of the file not to be written to. It takes no more."""
        if self._file is None:
            return np.concatenate([np.empty((0, self._width), self._dtype), *self._parts])
        with self._file:  # mapped, the rows are there until nothing uses them
            self._file.flush()
            # PyTorch warns of memory that it may not write to, hence "r+".
            return np.memmap(self._file, self._dtype, "r+", shape=(self._rows, self._width))
