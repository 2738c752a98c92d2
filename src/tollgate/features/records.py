"""Records of entities, compiled: how one begins, what it remembers, and how one that no feature can see is freed.

Windows are kept in `history`; here is what is kept of single events: the last one, the first one, a spell of events
without a long pause, and a ring of the last few.
"""

from __future__ import annotations

import math

import numba
import numpy as np

from tollgate.features.heap import COUNT as ENTITIES
from tollgate.features.heap import CURSOR as GROWTH
from tollgate.features.heap import (
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
    CURSOR,
    ENTRY_TIME,
    EXPIRY,
    FIRST,
    FIRST_STEP,
    HEAD,
    HORIZON,
    LAST,
    M_HORIZON,
    M_KIND,
    M_LANE,
    M_OFFSET,
    M_STEPS,
    M_VALUE,
    MEMORIES,
    MEMORIES_END,
    NEVER,
    NO_TIME,
    O_A,
    O_B,
    O_C,
    O_D,
    O_KIND,
    O_REGISTER,
    OUT_LAG,
    OUT_LAG_AGE,
    OUT_MAD,
    OUT_MEDIAN,
    OUT_SPELL_AGE,
    R_KEY,
    RECORD_WORDS,
    RING,
    SHIFT,
    SPELL_COUNT,
    SPELL_FIRST,
    SPELL_LAST,
    W_DELAY,
    W_OFFSET,
    WATERMARK,
    WINDOWS,
    WINDOWS_END,
)

MICROSECONDS = 1_000_000.0


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
        at = record + memories[m, M_OFFSET]
        if memories[m, M_KIND] != RING:
            heap[at] = NO_TIME
        elif memories[m, M_VALUE] < 0:  # no step was taken yet; the values beside it are not looked at
            for step in range(memories[m, M_STEPS]):
                heap[at + FIRST_STEP + step] = NO_TIME
    insert(index, meta, key, record)
    return record


@numba.njit(error_model="numpy", inline="always")
def remember(heap, heap_f, record, table, t, mask, tables, memories, regs, i):
    """Keep the time and the value of an event, where a feature will ask for them."""
    for m in range(tables[table, MEMORIES], tables[table, MEMORIES_END]):
        at = record + memories[m, M_OFFSET]
        kind = memories[m, M_KIND]
        if kind == LAST:
            if (mask >> memories[m, M_LANE]) & 1:
                heap[at] = t
                if memories[m, M_VALUE] >= 0:
                    heap_f[at + 1] = regs[memories[m, M_VALUE], i]
        elif kind == FIRST:
            last = heap[record + WATERMARK]
            if last == NO_TIME or t - last >= memories[m, M_HORIZON]:
                heap[at] = t
        elif kind == RING:
            place = heap[at + CURSOR]
            if memories[m, M_VALUE] >= 0:
                heap_f[at + FIRST_STEP + place] = regs[memories[m, M_VALUE], i]
            else:
                heap[at + FIRST_STEP + place] = t
            place += 1
            heap[at + CURSOR] = place if place < memories[m, M_STEPS] else 0
        else:
            _extend(heap, heap_f, at, t, memories[m, M_HORIZON])


@numba.njit(error_model="numpy", inline="always")
def _extend(heap, heap_f, at, t, pause):
    """Add an event to a spell, or begin a new one; the record's watermark will not do, since readers move it too."""
    last = heap[at + SPELL_LAST]
    if last == NO_TIME or t - last >= pause:
        heap[at + SPELL_FIRST] = t
        heap_f[at + SPELL_COUNT] = 0.0
    heap_f[at + SPELL_COUNT] += 1.0
    heap[at + SPELL_LAST] = t


@numba.njit(error_model="numpy", inline="always")
def _back(heap, record, m, step, memories):
    """Return the address of the step-th last entry of a ring."""
    at = record + memories[m, M_OFFSET]
    place = heap[at + CURSOR] - step
    return at + FIRST_STEP + (place if place >= 0 else place + memories[m, M_STEPS])


@numba.njit(error_model="numpy", inline="always")
def _step_or_spell(heap, heap_f, record, t, o, outputs, memories):
    """Return what an output reads from a ring or a spell: a value or microseconds, missing where it is too old."""
    kind = outputs[o, O_KIND]
    if kind in (OUT_LAG, OUT_LAG_AGE):
        step = outputs[o, O_C]
        moment = heap[_back(heap, record, outputs[o, O_A], step, memories)]
        if moment == NO_TIME or t - moment >= outputs[o, O_D]:
            return math.nan
        if kind == OUT_LAG_AGE:
            return (t - moment) / MICROSECONDS
        return heap_f[_back(heap, record, outputs[o, O_B], step, memories)]
    at = record + outputs[o, O_A]
    last = heap[at + SPELL_LAST]
    known = last != NO_TIME and t - last < outputs[o, O_B]
    if kind == OUT_SPELL_AGE:
        return (t - heap[at + SPELL_FIRST]) / MICROSECONDS if known else math.nan
    return heap_f[at + SPELL_COUNT] if known else 0.0


@numba.njit(error_model="numpy", inline="always")
def _is_same(outputs, one, other):
    """Return whether two outputs are of the same sample."""
    same = True
    for operand in range(O_A, O_D + 1):
        same = same and outputs[one, operand] == outputs[other, operand]
    return same


@numba.njit(error_model="numpy")
def _gather(heap, heap_f, record, t, o, outputs, memories, sample):
    """Put the values of the last steps that are there into `sample`, sorted; return how many there are."""
    count = 0
    for step in range(1, outputs[o, O_C] + 1):
        moment = heap[_back(heap, record, outputs[o, O_A], step, memories)]
        if moment == NO_TIME or t - moment >= outputs[o, O_D]:
            break  # and so are all before it
        value = heap_f[_back(heap, record, outputs[o, O_B], step, memories)]
        if math.isnan(value):
            continue
        place = count
        while place > 0 and sample[place - 1] > value:
            sample[place] = sample[place - 1]
            place -= 1
        sample[place] = value
        count += 1
    return count


@numba.njit(error_model="numpy")
def recall(heap, heap_f, record, t, first, end, outputs, memories, sample, regs, i):
    """Read the outputs from `first` on, which are those of rings and spells."""
    held, count = -1, 0  # the output whose sample is at hand, and how many values it has
    for o in range(first, end):
        kind, register = outputs[o, O_KIND], outputs[o, O_REGISTER]
        if kind < OUT_MEDIAN:
            regs[register, i] = _step_or_spell(heap, heap_f, record, t, o, outputs, memories)
            continue
        if held < 0 or not _is_same(outputs, held, o):
            held, count = o, _gather(heap, heap_f, record, t, o, outputs, memories, sample)
        regs[register, i] = deviation(sample, count) if kind == OUT_MAD else median(sample, count)


@numba.njit(error_model="numpy")
def median(sample, count):
    """Return the median of a sorted sample, missing where it is empty."""
    half = count // 2
    if count == 0:
        return math.nan
    return sample[half] if count % 2 else (sample[half - 1] + sample[half]) / 2.0


@numba.njit(error_model="numpy")
def deviation(sample, count):
    """Return the median of the absolute deviations of a sorted sample from its median.

    The smallest deviation not yet taken is always at one of the two ends of what was taken around the median.
    """
    middle = median(sample, count)
    above = count // 2
    below = above - 1
    last = before = math.nan
    for _ in range(count // 2 + 1 if count > 0 else 0):
        before = last
        if above >= count or (below >= 0 and middle - sample[below] < sample[above] - middle):
            last = middle - sample[below]
            below -= 1
        else:
            last = sample[above] - middle
            above += 1
    return last if count % 2 else (before + last) / 2.0


@numba.njit(error_model="numpy")
def sweep(index, heap, heap_f, meta, slots, clock, program):
    """Look at the next slots of the index, and free the entities that no feature can see any more.

    An entity is idle when twice its horizon has passed: whatever comes is applied at most one horizon behind the
    clock, and looks at most one horizon back from there.
    """
    tables = program[0]
    for _ in range(slots):
        if meta[GROWTH] != NO_MIGRATION or meta[ENTITIES] == 0:
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
