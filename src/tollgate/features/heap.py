"""Where feature state lives: one hash index and one word-addressed heap, compiled.

The index maps 64-bit keys to records, by open addressing with linear probing. It grows without a pause: level
L owns the slots [2**L, 2**(L+1)) of one reserved array, and each insert moves a few slots of the old level to
the new one. The heap hands out fixed-size blocks from its top or from free lists. Both arrays are reserved
virtual memory that the operating system backs page by page, so growing copies nothing.
"""

from __future__ import annotations

import mmap
import sys

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from numba.np import arrayobj

# Words of `meta`. FREE and on: two free lists a table, one of event blocks and one of records.
LEVEL, COUNT, CURSOR, SWEPT, TOP, CLOCK, LATE, FREED, FREE = range(9)
FIRST_LEVEL = 10
MAX_TABLES = 62
_MOVED_PER_INSERT = 8  # a level is emptied long before the next one is full
NO_MIGRATION = -1
_SLOT_BYTES = 16
_MAP_NORESERVE = 0x4000  # of Linux; Python's mmap names it from 3.13 on

_MIX_1, _MIX_2 = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_S30, _S27, _S31 = np.uint64(30), np.uint64(27), np.uint64(31)
_TABLE_BITS, _HASH_BITS = np.uint64(6), np.uint64(58)


def reserve(words: int) -> np.ndarray:
    """Return int64 (words,) of zeros that costs memory only where it is touched."""
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    if sys.platform == "linux":
        flags |= _MAP_NORESERVE
    memory = mmap.mmap(-1, words * 8, flags=flags)
    # Small pages on purpose: huge ones (MADV_HUGEPAGE) make a replay an eighth faster, but where memory is fragmented
    # the system stops for tens of milliseconds to find one, in the middle of a decision.
    return np.frombuffer(memory, dtype=np.int64)


@intrinsic
def borrowed(_typing, array):
    """Return a view of an array that the caller keeps alive, without a count of references.

    Counting them costs more than what is done with the arrays: every call and every tuple would count, atomically.
    """

    def generate(context, builder, signature, args):
        kind = context.make_array(signature.args[0])
        source, view = kind(context, builder, args[0]), kind(context, builder)
        arrayobj.populate_array(
            view, data=source.data, shape=source.shape, strides=source.strides, itemsize=source.itemsize, meminfo=None
        )
        return view._getvalue()  # noqa: SLF001  # how Numba's own functions return a struct

    return array(array), generate


@intrinsic
def prefetch(_typing, array, place):
    """Ask the processor to bring `array[place]` into its caches, and do not wait for it."""

    def generate(context, builder, signature, args):
        data = context.make_array(signature.args[0])(context, builder, args[0]).data
        pointer = builder.bitcast(builder.gep(data, [args[1]]), ir.IntType(8).as_pointer())
        word = ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [pointer.type, word, word, word])
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        builder.call(function, [pointer, word(1), word(3), word(1)])  # to write, keep, data
        return context.get_dummy_value()

    return types.void(array, place), generate


def new_meta(tables: int) -> np.ndarray:
    """Return the bookkeeping words of an empty state with that many tables."""
    meta = np.zeros(FREE + 2 * tables, dtype=np.int64)
    meta[LEVEL], meta[CURSOR], meta[TOP] = FIRST_LEVEL, NO_MIGRATION, 1  # word 0 stays unused: 0 means none
    meta[CLOCK] = np.iinfo(np.int64).min
    return meta


def index_bytes(meta: np.ndarray) -> int:
    """Return the most memory that an index with this bookkeeping takes; the levels that it has left keep theirs."""
    return (2 << int(meta[LEVEL])) * _SLOT_BYTES


@numba.njit(inline="always")
def mix(key, salt):
    """Return a well-mixed 64-bit hash of `key` under `salt` (after the finaliser of SplitMix64)."""
    # Numba makes a signed word and an unsigned one a signed one, whose shifts copy the sign.
    z = (np.uint64(key) ^ (np.uint64(key) >> _S30)) * _MIX_1
    z += (np.uint64(salt) + np.uint64(1)) * _GOLDEN
    z = (z ^ (z >> _S27)) * _MIX_2
    return z ^ (z >> _S31)


@numba.njit(inline="always")
def index_key(mixed, table):
    """Return what the index knows an entity by: 58 bits of hash and its table, so that no two tables ever meet."""
    return ((np.uint64(mixed) << _TABLE_BITS) >> _TABLE_BITS) | ((np.uint64(table) + np.uint64(1)) << _HASH_BITS)


@numba.njit(inline="always")
def table_of(word):
    """Return the table of an index key, an int64 word."""
    return np.int64(np.uint64(word) >> _HASH_BITS) - 1


@numba.njit
def _probe(index, level, key):
    """Return the slot of `key` in one level, or the free slot where it belongs."""
    base = np.int64(1) << level
    mask = base - 1
    word = np.int64(key)
    place = word & mask
    while True:
        slot = 2 * (base + place)
        found = index[slot]
        if found == word or found == 0:
            return slot
        place = (place + 1) & mask


@numba.njit(inline="always")
def prefetch_slot(index, meta, key):
    """Bring the slot where `key` most likely is into the caches."""
    size = np.int64(1) << meta[LEVEL]
    prefetch(index, 2 * (size + (np.int64(key) & (size - 1))))


@numba.njit(inline="always")
def find(index, meta, key):
    """Return the record of `key`, or 0."""
    slot = _probe(index, meta[LEVEL], key)
    if index[slot] == 0 and meta[CURSOR] != NO_MIGRATION:
        slot = _probe(index, meta[LEVEL] - 1, key)
    return index[slot + 1] if index[slot] != 0 else np.int64(0)


@numba.njit
def insert(index, meta, key, record):
    """Add `key`, which must not be there, and take a few steps of a growth under way."""
    size = np.int64(1) << meta[LEVEL]
    if meta[COUNT] * 3 >= size * 2 and meta[CURSOR] == NO_MIGRATION:
        meta[LEVEL] += 1
        meta[CURSOR] = 0
        meta[SWEPT] = 0
    slot = _probe(index, meta[LEVEL], key)
    index[slot] = np.int64(key)
    index[slot + 1] = record
    meta[COUNT] += 1
    if meta[CURSOR] != NO_MIGRATION:
        _migrate(index, meta)


@numba.njit
def _migrate(index, meta):
    old = np.int64(1) << (meta[LEVEL] - 1)
    stop = min(meta[CURSOR] + _MOVED_PER_INSERT, old)
    for place in range(meta[CURSOR], stop):
        source = 2 * (old + place)
        if index[source] != 0:
            slot = _probe(index, meta[LEVEL], np.uint64(index[source]))
            index[slot] = index[source]
            index[slot + 1] = index[source + 1]
    meta[CURSOR] = stop if stop < old else NO_MIGRATION


@numba.njit
def remove(index, meta, slot):
    """Empty a slot of the current level and close the gap (Knuth 6.4, algorithm R); no growth may be under way."""
    base = np.int64(1) << meta[LEVEL]
    mask = base - 1
    hole = slot // 2 - base
    place = hole
    while True:
        place = (place + 1) & mask
        at = 2 * (base + place)
        if index[at] == 0:
            break
        home = index[at] & mask
        # What lies at `place` may move into the hole unless its home is cyclically in (hole, place].
        if ((place - home) & mask) >= ((place - hole) & mask):
            gap = 2 * (base + hole)
            index[gap] = index[at]
            index[gap + 1] = index[at + 1]
            hole = place
    gap = 2 * (base + hole)
    index[gap] = 0
    index[gap + 1] = 0
    meta[COUNT] -= 1


@numba.njit(inline="always")
def take(heap, meta, free_list, words):
    """Return a block of `words` words from a free list, or from the top; what is in it is undefined."""
    address = meta[FREE + free_list]
    if address == 0:
        address = meta[TOP]
        meta[TOP] += words
    else:
        meta[FREE + free_list] = heap[address]
    return address


@numba.njit(inline="always")
def give(heap, meta, free_list, address):
    """Put a block on a free list."""
    heap[address] = meta[FREE + free_list]
    meta[FREE + free_list] = address
