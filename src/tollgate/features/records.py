"""Records of entities, compiled: how one begins, and how one that no feature can see any more is freed."""

from __future__ import annotations

import numba
import numpy as np

from tollgate.features.heap import COUNT as ENTITIES
from tollgate.features.heap import (
    CURSOR,
    FREED,
    LEVEL,
    NO_MIGRATION,
    SWEPT,
    give,
    insert,
    remove,
    table_of,
    take,
)
from tollgate.features.history import advance
from tollgate.features.layout import (
    ENTRY_TIME,
    EXPIRY,
    HEAD,
    HORIZON,
    M_OFFSET,
    MEMORIES,
    MEMORIES_END,
    NEVER,
    NO_TIME,
    R_KEY,
    RECORD_WORDS,
    SHIFT,
    W_DELAY,
    W_OFFSET,
    WATERMARK,
    WINDOWS,
    WINDOWS_END,
)


@numba.njit(error_model="numpy", inline="always")
def new_record(index, heap, meta, table, key, tables, windows, memories):
    """Return a new record of an entity without history."""
    words = tables[table, RECORD_WORDS]
    record = take(heap, meta, tables.shape[0] + table, words)
    for word in range(words):
        heap[record + word] = 0
    heap[record + R_KEY] = np.int64(key)
    heap[record + WATERMARK] = NO_TIME
    for w in range(tables[table, WINDOWS], tables[table, WINDOWS_END]):
        heap[record + windows[w, W_OFFSET] + EXPIRY] = NEVER
        if windows[w, W_DELAY] > 0:
            heap[record + windows[w, W_OFFSET] + ENTRY_TIME] = NEVER
    for m in range(tables[table, MEMORIES], tables[table, MEMORIES_END]):
        heap[record + memories[m, M_OFFSET]] = NO_TIME
    insert(index, meta, key, record)
    return record


@numba.njit(error_model="numpy")
def sweep(index, heap, heap_f, meta, slots, clock, program):
    """Look at the next slots of the index, and free the entities that no feature can see any more.

    An entity is idle when twice its horizon has passed: whatever comes is applied at most one horizon behind the
    clock, and looks at most one horizon back from there.
    """
    tables = program[0]
    for _ in range(slots):
        if meta[CURSOR] != NO_MIGRATION or meta[ENTITIES] == 0:
            return
        size = np.int64(1) << meta[LEVEL]
        if meta[SWEPT] >= size:
            meta[SWEPT] = 0
        slot = 2 * (size + meta[SWEPT])
        if index[slot] == 0:
            meta[SWEPT] += 1
            continue
        record, table = index[slot + 1], table_of(index[slot])
        if heap[record + WATERMARK] > clock - 2 * tables[table, HORIZON]:
            meta[SWEPT] += 1
            continue
        if tables[table, WINDOWS] != tables[table, WINDOWS_END]:
            advance(heap, heap_f, meta, record, table, clock, program)
            give(heap, meta, table, heap[record + HEAD] >> SHIFT)
        give(heap, meta, tables.shape[0] + table, record)
        remove(index, meta, slot)  # what moved into the slot is looked at next
        meta[FREED] += 1
