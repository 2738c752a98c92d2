"""The state of a feature engine as a file, so that a start need not replay the whole ledger.

A snapshot is: a magic word, the format and the length of the header; the header (JSON); the BLAKE2b digest of all that;
then the arrays as little-endian words: bookkeeping, index, heap, waiting labels; then the BLAKE2b digest of all before.
It is written beside its place and moved there when it is durable, so a crash leaves the old one.

A snapshot is a cache of the ledger: whatever is wrong with one, it is refused and the state is rebuilt.
The digests find damage, not malice: who may write the file may write the ledger as well.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import struct
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from tollgate.durable import replacing
from tollgate.errors import SnapshotError
from tollgate.features.arrivals import Waiting
from tollgate.features.engine import DEFAULT_MAX_BYTES, FeatureEngine
from tollgate.features.heap import CURSOR, FIRST_LEVEL, LEVEL, NO_MIGRATION, TOP
from tollgate.features.kernel import SOURCES_DIGEST
from tollgate.features.plan import FeaturePlan

FORMAT = 2  # one more with each change that an older Tollgate would misread
_MAGIC = b"TOLLGATE"
_PREFIX = struct.Struct("<8sII")  # magic, format, bytes of the header
_MAX_HEADER_BYTES = 1 << 20
_DIGEST_BYTES = 32
_MAX_LEVEL = 62  # of the index: a word has no room for more
_WORD_BYTES = 8
_SLOT_WORDS = 2
_LABEL_WORDS = 2  # of a label that waits, beside its keys: when it is due, and after which transaction it came
_PART_BYTES = 16 << 20  # written, read and digested at a time
# What gives the words of the state their meaning: after a change in any of them, an old state may mean something else.

Words = NDArray[np.int64]


class Restored(NamedTuple):
    """What a snapshot held.

    Attributes:
        engine: With the state that it had.
        position: In the ledger, as it was given to `save`: where to go on.
        waiting: Labels that no feature knew yet, for `Arrivals`; None where none were saved.
    """

    engine: FeatureEngine
    position: int
    waiting: Waiting | None


class _Header(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    plan: str
    key_check: str
    position: int
    observed: int
    meta_words: int
    index_start: int  # the first word of the index that is in use
    index_words: int
    heap_words: int
    waiting: int | None  # labels; null where none were saved
    entities: int
    clock_us: int
    newest: int  # label that came, waiting or not


def save(
    engine: FeatureEngine, path: Path, position: int, *, waiting: Waiting | None = None, key_check: bytes = b""
) -> None:
    """Write the state of an engine to `path`, whole or not at all. Nothing may be observed meanwhile.

    Entities are known by hashes under a secret key that is not in the file. A later process must hash with the same
    key, else it will find none of them; `key_check` makes that an error.

    Args:
        engine: Whose state.
        path: Where to; an older snapshot there is replaced once this one is durable.
        position: What the caller must know to go on from here, such as the last row of the ledger that was observed.
        waiting: `Arrivals.pending`, where labels are fed through it.
        key_check: Something that only the same hash key gives, such as a keyed hash of a constant text.

    Raises:
        SnapshotError: It could not be written; an older snapshot is still there.
    """
    index, heap, meta = engine.arrays
    start, end = _index_range(meta)
    pending = waiting or Waiting.none(0)
    header = _Header(
        plan=plan_digest(engine.plan),
        key_check=key_check.hex(),
        position=position,
        observed=engine.observed,
        meta_words=meta.size,
        index_start=start,
        index_words=end - start,
        heap_words=int(meta[TOP]),
        waiting=None if waiting is None else len(pending.due_us),
        entities=len(pending.keys),
        clock_us=pending.clock_us,
        newest=pending.newest,
    )
    keys = np.ascontiguousarray(pending.keys).view(np.int64).reshape(-1)
    arrays = (meta, index[start:end], heap[: header.heap_words], pending.due_us, pending.after, keys)
    try:
        with replacing(path) as file:
            _write(file, header, arrays)
    except OSError as error:
        raise SnapshotError(
            "cannot_save",
            f"expected to write a snapshot of {engine.state_bytes} bytes of state to {path}, but: {error.strerror}; "
            "make room or name another place. Nothing is lost: the state can be rebuilt from the ledger",
            file=str(path),
        ) from error


def restore(plan: FeaturePlan, path: Path, max_bytes: int = DEFAULT_MAX_BYTES, *, key_check: bytes = b"") -> Restored:
    """Return an engine with the state that was saved at `path`; from there it gives the bits of one that never stopped.

    Args:
        plan: The features; they must be those of the engine that was saved, over the same schema.
        path: The snapshot.
        max_bytes: The most that the state may take, as for `FeatureEngine`.
        key_check: As it was given to `save`.

    Raises:
        SnapshotError: There is none, it is damaged or cut short, of another format, plan or hash key, or does not fit
            into `max_bytes`. The state must then be rebuilt from the ledger.
    """
    try:
        with path.open("rb") as file:
            return _read(_Input(file, path), plan, max_bytes, key_check)
    except FileNotFoundError:
        raise _refused(path, "no_snapshot", "a snapshot", "there is none") from None
    except OSError as error:
        raise _refused(path, "unreadable_snapshot", "a snapshot", f"it cannot be read: {error.strerror}") from error


def plan_digest(plan: FeaturePlan) -> str:
    """Return what tells apart plans whose states mean different things, in hex.

    It covers the compiled program with its constants and zones, the columns of the schema, the currency's scale, and
    the code that keeps the state. The names of features are not in it: a state survives a renaming.
    """
    digest = hashlib.blake2b(digest_size=_DIGEST_BYTES)
    program = plan.program
    digest.update(program.pack().astype("<i8").tobytes())
    digest.update(repr((program.constants, program.registers, plan.money_scale)).encode())
    digest.update(msgspec.json.encode(plan.schema.columns))
    digest.update(SOURCES_DIGEST.encode())
    return digest.hexdigest()


def _index_range(meta: Words) -> tuple[int, int]:
    """Return which words of the index are in use: its level, and the one before while that is being emptied."""
    level = int(meta[LEVEL])
    oldest = level if meta[CURSOR] == NO_MIGRATION else level - 1
    return _SLOT_WORDS << oldest, _SLOT_WORDS << (level + 1)


def _write(file: BinaryIO, header: _Header, arrays: Sequence[Words]) -> None:
    digest = hashlib.blake2b(digest_size=_DIGEST_BYTES)

    def put(data: bytes | memoryview) -> None:
        digest.update(data)
        file.write(data)

    text = msgspec.json.encode(header)
    put(_PREFIX.pack(_MAGIC, FORMAT, len(text)) + text)
    put(digest.digest())
    for array in arrays:
        for part in _parts(np.ascontiguousarray(array if sys.byteorder == "little" else array.byteswap())):
            put(part)
    file.write(digest.digest())


def _parts(array: Words) -> list[memoryview]:
    """Return a contiguous array as bytes, in parts of bounded size."""
    if not array.size:
        return []
    data = array.data.cast("B")
    return [data[at : at + _PART_BYTES] for at in range(0, len(data), _PART_BYTES)]


class _Input:
    """A snapshot being read: all that was read so far is in the digest."""

    def __init__(self, file: BinaryIO, path: Path) -> None:
        self._file = file
        self._digest = hashlib.blake2b(digest_size=_DIGEST_BYTES)
        self.path = path
        self.size = os.fstat(file.fileno()).st_size

    def take(self, size: int) -> bytes:
        data = self._file.read(size)
        if len(data) != size:
            raise self.damaged(f"{self.size} bytes, which is too short")
        self._digest.update(data)
        return data

    def fill(self, array: Words) -> None:
        for part in _parts(array):
            if self._file.readinto(part) != len(part):  # type: ignore[attr-defined]
                raise self.damaged(f"{self.size} bytes, which is too short")
            self._digest.update(part)
        if sys.byteorder != "little":
            array.byteswap(inplace=True)

    def verify(self, what: str) -> None:
        expected = self._digest.copy().digest()
        if not hmac.compare_digest(self.take(_DIGEST_BYTES), expected):
            raise self.damaged(f"other bytes than were written ({what})")

    def damaged(self, got: str) -> SnapshotError:
        return _refused(self.path, "damaged_snapshot", "a snapshot as it was written", f"it has {got}")


def _read(source: _Input, plan: FeaturePlan, max_bytes: int, key_check: bytes) -> Restored:
    header = _read_header(source)
    path = source.path
    if header.plan != plan_digest(plan):
        raise _refused(
            path, "other_plan", f"a snapshot of the plan {plan_digest(plan)[:12]}", f"it is of {header.plan[:12]}"
        )
    if not hmac.compare_digest(header.key_check, key_check.hex()):
        raise _refused(
            path, "other_hash_key", "a snapshot under the hash key of this process", "it was made under another"
        )
    engine = FeatureEngine(plan, max_bytes)
    index, heap, meta = engine.arrays
    end = header.index_start + header.index_words
    if end > index.size or header.heap_words > heap.size:
        words = max(4 * end, header.heap_words + end)
        raise _refused(
            path, "snapshot_too_large", f"state of at most {max_bytes} bytes", f"it holds {words * _WORD_BYTES}"
        )
    if header.meta_words != meta.size:
        raise source.damaged(f"{header.meta_words} words of bookkeeping instead of {meta.size}")
    source.fill(meta)
    known = FIRST_LEVEL <= int(meta[LEVEL]) < _MAX_LEVEL and _index_range(meta) == (header.index_start, end)
    if not known or meta[TOP] != header.heap_words:
        raise source.damaged("bookkeeping that contradicts its header")
    source.fill(index[header.index_start : end])
    source.fill(heap[: header.heap_words])
    waiting = _read_waiting(source, header)
    source.verify("its last digest")
    engine.observed = header.observed
    return Restored(engine, header.position, waiting)


def _read_header(source: _Input) -> _Header:
    magic, version, size = _PREFIX.unpack(source.take(_PREFIX.size))
    if magic != _MAGIC:
        raise source.damaged(f"the first bytes {magic!r} instead of {_MAGIC!r}")
    if version != FORMAT:
        raise _refused(source.path, "other_format", f"a snapshot of format {FORMAT}", f"it is of format {version}")
    if size > _MAX_HEADER_BYTES:
        raise source.damaged(f"a header of {size} bytes")
    text = source.take(size)
    source.verify("the digest of its header")
    try:
        header = msgspec.json.decode(text, type=_Header)
    except msgspec.DecodeError as error:
        raise source.damaged(f"a header that cannot be read ({error})") from error
    labels = (header.waiting or 0) * (_LABEL_WORDS + header.entities)
    words = header.meta_words + header.index_words + header.heap_words + labels
    expected = _PREFIX.size + size + 2 * _DIGEST_BYTES + words * _WORD_BYTES
    if source.size != expected:
        raise source.damaged(f"{source.size} bytes instead of {expected}")
    return header


def _read_waiting(source: _Input, header: _Header) -> Waiting | None:
    if header.waiting is None:
        return None
    due, after = np.empty(header.waiting, dtype=np.int64), np.empty(header.waiting, dtype=np.int64)
    keys = np.empty(header.entities * header.waiting, dtype=np.int64)
    for array in (due, after, keys):
        source.fill(array)
    words = keys.view(np.uint64).reshape(header.entities, header.waiting)
    return Waiting(header.clock_us, header.newest, due, after, words)


def _refused(path: Path, code: str, expected: str, got: str) -> SnapshotError:
    return SnapshotError(
        code, f"{path}: expected {expected}, but {got}; rebuild the state from the ledger", file=str(path)
    )
