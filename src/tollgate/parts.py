"""A set of files of transactions under one root, such as Parquet by day, read as if it were one file.

Arrival order is the order of the names, folder by folder, numbers by their value (`day=2026-01-09/part-2.parquet`, then
`part-10.parquet`, then `day=2026-01-10`), and within a file the order of its rows. What a folder's name says
(`country=NO`) is a column of its files, where they have none of that name.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tollgate.errors import InputError
from tollgate.files import MOST_TEXTS, SUFFIXES, Chunk, Rejected, TransactionFile
from tollgate.folders import Folder, Found
from tollgate.frame import LabelFields
from tollgate.hashing import category_codes, text_hashes
from tollgate.intake import TransactionReader
from tollgate.schema import TRANSACTION_ID


class SeenIds:
    """The 64-bit keyed hashes of the ids so far: eight bytes each, in sorted runs of growing length."""

    def __init__(self, hashes: NDArray[np.uint64] | None = None) -> None:
        """Begin with the hashes that `hashes` gave, or with none."""
        self._runs: list[NDArray[np.uint64]] = [] if hashes is None or not len(hashes) else [np.sort(hashes)]

    @property
    def hashes(self) -> NDArray[np.uint64]:
        """All of them, uint64 (N,)."""
        return np.concatenate([np.empty(0, dtype=np.uint64), *self._runs])

    def add(self, hashes: NDArray[np.uint64]) -> NDArray[np.bool_]:
        """Return which of N hashes are there already, bool (N,), and add the others."""
        there = np.zeros(len(hashes), dtype=np.bool_)
        for run in self._runs:
            place = np.minimum(np.searchsorted(run, hashes), len(run) - 1)
            there |= run[place] == hashes
        fresh = np.sort(hashes[~there])
        if len(fresh):
            self._runs.append(fresh)
        while len(self._runs) > 1 and len(self._runs[-2]) <= 2 * len(self._runs[-1]):
            self._runs[-2:] = [np.sort(np.concatenate(self._runs[-2:]), kind="stable")]
        return there


class TransactionSet:
    """The files under a root in arrival order; one of them at a time is on this machine."""

    def __init__(
        self, folder: Folder, reader: TransactionReader, labels: LabelFields | None = None, *, sort: bool = False
    ) -> None:
        """List the files, and check the columns of the first.

        Args:
            folder: Where they lie. Files and folders whose names begin with `_` or `.` are not of the set.
            reader: Knows the schema.
            labels: Where to find labels, if they are wanted.
            sort: Read each file in order of the effective time instead of its own.

        Raises:
            InputError: There are none, or the first one cannot be used.
        """
        self.folder = folder
        self.path = folder.url
        self.name = folder.url.rstrip("/").rsplit("/", 1)[-1]
        self.rows: int | None = None
        self.seen = SeenIds()
        self._reader = reader
        self._labels = labels
        self._sort = sort
        self._texts: dict[str, Counter[str]] = {}
        self.parts = parts_of(folder)
        with folder.fetch(self.parts[0].name) as path:
            first = open_part(self.parts[0], path, reader, labels, sort=sort)
        self.unread = first.unread
        self.columns = first.columns

    def chunks(self) -> Iterator[Chunk]:
        """Yield all files in order. An id that came before is rejected, as within one file.

        Raises:
            InputError: A file cannot be read to its end, or lacks a column.
        """
        self.seen = SeenIds()
        for part in self.parts:
            yield from self.read(part)

    def read(self, part: Found) -> Iterator[Chunk]:
        """Yield one of the files, the next one in order."""
        with self.folder.fetch(part.name) as path:
            file = open_part(part, path, self._reader, self._labels, sort=self._sort)
            for name, counts in file.category_counts().items():
                known = self._texts.setdefault(name, Counter())
                known.update(counts)
                self._texts[name] = Counter(dict(known.most_common(2 * MOST_TEXTS)))
            for chunk in file.chunks():
                yield self._unseen(chunk, part.name)

    def _unseen(self, chunk: Chunk, part: str) -> Chunk:
        batch = chunk.batch
        again = self.seen.add(text_hashes(list(batch.ids), self._reader.key))
        rejected = [replace(one, part=part) for one in chunk.rejected]
        if again.any():
            rejected += [
                Rejected(
                    int(chunk.rows[row]), batch.ids[row],
                    InputError("duplicate_id", "this transaction_id came before in the set", column=TRANSACTION_ID),
                    part,
                )
                for row in np.flatnonzero(again).tolist()
            ]  # fmt: skip
            rejected.sort(key=lambda one: one.row)
            good = np.flatnonzero(~again)
            chunk = Chunk(
                batch.take(good),
                chunk.rows[good],
                None if chunk.is_fraud is None else chunk.is_fraud[good],
                None if chunk.available_us is None else chunk.available_us[good],
                (),
                chunk.frame[good],
            )
        return replace(chunk, rejected=tuple(rejected))

    def category_texts(self) -> dict[float, str]:
        """Return the texts of category codes: the most frequent values of each category column so far."""
        texts: dict[float, str] = {}
        for counts in self._texts.values():
            values = [value for value, _ in counts.most_common(MOST_TEXTS)]
            texts |= dict(zip(category_codes(values).tolist(), values, strict=True))
        return texts


def open_part(
    part: Found, path: Path, reader: TransactionReader, labels: LabelFields | None, *, sort: bool
) -> TransactionFile:
    """Return one of the files of a set, which is at `path` now; the arguments are those of `TransactionFile`."""
    constants = dict(piece.split("=", 1) for piece in part.name.split("/")[:-1] if "=" in piece)
    return TransactionFile(path, reader, labels, sort=sort, constants=constants, may_be_empty=True)


def parts_of(folder: Folder) -> list[Found]:
    """Return the files of a set in arrival order.

    Raises:
        InputError: There are none.
    """
    parts = [
        one
        for one in folder.find()
        if one.name.endswith(SUFFIXES) and not any(piece.startswith(("_", ".")) for piece in one.name.split("/"))
    ]
    if not parts:
        raise InputError(
            "no_file",
            f"expected files ending in {', '.join(SUFFIXES)} under {folder.url}, but there are none",
            file=folder.url,
        )
    return parts
