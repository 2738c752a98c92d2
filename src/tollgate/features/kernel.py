"""`observe`, compiled: read, then update, for every transaction of a batch in arrival order.

A record is the state of one entity: `[watermark, head, (tail, expiry) per window, n per count, (high, low) per sum]`.
Its events lie in chained blocks of `EVENTS` events: `[next, (time, lane mask, values...) per event]`. Each window has a
tail, the oldest event still in it, and `expiry`, the time at which that event leaves; so an event is touched once when
it comes and once per window when it goes, however long the window.

Sums are double-double (error-free transformations of Knuth and Dekker): adding a value and later taking it away
again leaves nothing behind, where a plain float would drift. Whole numbers below 2**53 are summed exactly.
"""

from __future__ import annotations

import math
from hashlib import sha256
from pathlib import Path

import numba
import numpy as np

from tollgate.features.heap import (
    COUNT,
    LATE,
    TOP,
    allocate,
    find,
    give_block,
    index_key,
    insert,
    mix,
    take_block,
)
from tollgate.features.operators import run_rows

EVENTS = 8  # events a block; a position is block * EVENTS + place
SHIFT, PLACE = 3, EVENTS - 1
NEVER = np.iinfo(np.int64).max
NO_TIME = np.iinfo(np.int64).min
MICROSECONDS = 1_000_000.0

# Words of a record.
WATERMARK, HEAD, FIRST_WINDOW = 0, 1, 2
WINDOW_WORDS, COUNT_WORDS, SUM_WORDS = 2, 1, 2

# Columns of `tables`.
KEY_1, KEY_2, SALT, WINDOWS, WINDOWS_END, SUMS, SUMS_END, LANES, LANES_END = range(9)
VALUES, VALUES_END, OUTPUTS, OUTPUTS_END, RECORD_WORDS, EVENT_WORDS, BLOCK_WORDS = range(9, 16)
TABLE_COLUMNS = 16
# Columns of `windows`, `sums`, `lanes` and `outputs`.
W_DURATION, W_OFFSET, W_SUMS, W_SUMS_END, WINDOW_COLUMNS = range(5)
S_VALUE, S_LANE, S_OFFSET, SUM_COLUMNS = range(4)
L_WHERE, L_VALUE, LANE_COLUMNS = range(3)
O_KIND, O_REGISTER, O_PARAMETER, OUTPUT_COLUMNS = range(4)
# Kinds of output.
OUT_SUM, OUT_SINCE_LAST, OUT_IS_NEW = range(3)

OK, FULL = 0, 1


@numba.njit(error_model="numpy", inline="always")
def _accumulate(heap_f, at, value):
    """Add `value` to the double-double at `at`."""
    high, low = heap_f[at], heap_f[at + 1]
    total = high + value
    part = total - high
    low += (high - (total - part)) + (value - part)
    heap_f[at] = total + low
    heap_f[at + 1] = low - (heap_f[at] - total)


@numba.njit(error_model="numpy", inline="always")
def _event(position, words):
    """Return the address of the event at a position, where an event has that many words."""
    return (position >> SHIFT) + 1 + (position & PLACE) * words


@numba.njit(error_model="numpy", inline="always")
def _apply(heap, heap_f, record, w, windows, sums, at, sign):
    """Add one event to a window's sums, or with sign -1 take it away."""
    mask = heap[at + 1]
    for s in range(windows[w, W_SUMS], windows[w, W_SUMS_END]):
        if (mask >> sums[s, S_LANE]) & 1:
            if sums[s, S_VALUE] < 0:  # a count: whole and small, so a plain sum is exact
                heap_f[record + sums[s, S_OFFSET]] += sign
            else:
                _accumulate(heap_f, record + sums[s, S_OFFSET], sign * heap_f[at + sums[s, S_VALUE]])


@numba.njit(error_model="numpy", inline="always")
def _expire(heap, heap_f, meta, record, table, t, tables, windows, sums):
    """Move every window of the record on to time t, and free the blocks that no window needs."""
    head = heap[record + HEAD]
    last = tables[table, WINDOWS_END] - 1  # the longest window: the plan sorts them
    words = tables[table, EVENT_WORDS]
    for w in range(tables[table, WINDOWS], tables[table, WINDOWS_END]):
        at = record + windows[w, W_OFFSET]
        if heap[at + 1] > t:
            continue
        tail, duration = heap[at], windows[w, W_DURATION]
        expiry = heap[at + 1]
        while expiry <= t:
            _apply(heap, heap_f, record, w, windows, sums, _event(tail, words), -1.0)
            tail += 1
            if tail & PLACE == 0:
                block = (tail >> SHIFT) - 1
                tail = heap[block] << SHIFT
                if w == last:
                    give_block(heap, meta, table, block)
            expiry = heap[_event(tail, words)] + duration if tail != head else NEVER
        heap[at], heap[at + 1] = tail, expiry
        if expiry == NEVER:  # empty: nothing may be left of what was rounded
            for s in range(windows[w, W_SUMS], windows[w, W_SUMS_END]):
                heap_f[record + sums[s, S_OFFSET]] = 0.0
                if sums[s, S_VALUE] >= 0:
                    heap_f[record + sums[s, S_OFFSET] + 1] = 0.0


@numba.njit(error_model="numpy", inline="always")
def _read(heap, heap_f, record, table, t, tables, outputs, regs, i):
    last = heap[record + WATERMARK]
    for o in range(tables[table, OUTPUTS], tables[table, OUTPUTS_END]):
        kind, register, parameter = outputs[o, O_KIND], outputs[o, O_REGISTER], outputs[o, O_PARAMETER]
        if kind == OUT_SUM:
            regs[register, i] = heap_f[record + parameter]
        else:  # parameter is the horizon: what is older counts as never seen
            known = last != NO_TIME and t - last < parameter
            if kind == OUT_IS_NEW:
                regs[register, i] = 0.0 if known else 1.0
            else:
                regs[register, i] = (t - last) / MICROSECONDS if known else math.nan


@numba.njit(error_model="numpy", inline="always")
def _push(heap, heap_f, meta, record, table, t, tables, windows, sums, lanes, stored, regs, i):
    """Append the transaction to the record's events and to all its windows."""
    head = heap[record + HEAD]
    if head == 0:
        head = take_block(heap, meta, table, tables[table, BLOCK_WORDS]) << SHIFT
    event = _event(head, tables[table, EVENT_WORDS])
    heap[event] = t
    mask = np.int64(0)
    first = tables[table, LANES]
    for lane in range(first, tables[table, LANES_END]):
        where, value = lanes[lane, L_WHERE], lanes[lane, L_VALUE]
        holds = where < 0 or (regs[where, i] != 0.0 and not math.isnan(regs[where, i]))
        if holds and (value < 0 or not math.isnan(regs[value, i])):
            mask |= np.int64(1) << (lane - first)
    heap[event + 1] = mask
    for v in range(tables[table, VALUES], tables[table, VALUES_END]):
        heap_f[event + 2 + v - tables[table, VALUES]] = regs[stored[v], i]
    for w in range(tables[table, WINDOWS], tables[table, WINDOWS_END]):
        _apply(heap, heap_f, record, w, windows, sums, event, 1.0)
        at = record + windows[w, W_OFFSET]
        if heap[at + 1] == NEVER:
            heap[at], heap[at + 1] = head, t + windows[w, W_DURATION]
    head += 1
    if head & PLACE == 0:
        block = (head >> SHIFT) - 1
        heap[block] = take_block(heap, meta, table, tables[table, BLOCK_WORDS])
        head = heap[block] << SHIFT
    heap[record + HEAD] = head


@numba.njit(error_model="numpy", inline="always")
def _locate(index, heap, meta, keys, table, tables, windows, records, start, n):
    """Find or make the record of each transaction in one table; 0 where an entity of it is missing.

    A pass of its own, so that the processor overlaps the cache misses of many rows.
    """
    salt = np.uint64(tables[table, SALT])
    for i in range(n):
        key = keys[tables[table, KEY_1], start + i]
        other = tables[table, KEY_2]
        if key == 0 or (other >= 0 and keys[other, start + i] == 0):
            records[i] = 0
            continue
        key = mix(key, salt)
        if other >= 0:
            key = mix(key ^ mix(keys[other, start + i], salt + np.uint64(1)), salt)
        key = index_key(key, table)
        record = find(index, meta, key)
        if record == 0:
            record = allocate(meta, tables[table, RECORD_WORDS])
            heap[record + WATERMARK] = NO_TIME
            for w in range(tables[table, WINDOWS], tables[table, WINDOWS_END]):
                heap[record + windows[w, W_OFFSET] + 1] = NEVER
            insert(index, meta, key, record)
        records[i] = record


@numba.njit(error_model="numpy", inline="always")
def _visit(index, heap, heap_f, meta, time_us, keys, program, regs, records, start, n):
    """Take n transactions through the state of every table, each table on its own."""
    tables, windows, sums, lanes, stored, outputs = program
    for table in range(tables.shape[0]):
        _locate(index, heap, meta, keys, table, tables, windows, records, start, n)
        for i in range(n):
            record = records[i]
            if record == 0:
                for o in range(tables[table, OUTPUTS], tables[table, OUTPUTS_END]):
                    regs[outputs[o, O_REGISTER], i] = math.nan
                continue
            t = time_us[start + i]
            if t < heap[record + WATERMARK]:
                t = heap[record + WATERMARK]
                meta[LATE] += 1
            _expire(heap, heap_f, meta, record, table, t, tables, windows, sums)
            _read(heap, heap_f, record, table, t, tables, outputs, regs, i)
            if tables[table, WINDOWS] != tables[table, WINDOWS_END]:
                _push(heap, heap_f, meta, record, table, t, tables, windows, sums, lanes, stored, regs, i)
            heap[record + WATERMARK] = t


def _compile(sources: str):
    """Return `observe`, compiled; the machine code is cached on disk for these sources.

    Numba sees by itself only that the file of the outermost function has changed. What the function closes over
    belongs to the cache's key too, so it closes over the digest of all that is compiled into it.
    """

    @numba.njit(cache=True, error_model="numpy", nogil=True)
    def observe(index, heap, heap_f, meta, time_us, keys, values, before, program, after, results, regs, records, out):
        """Compute the features of n transactions and apply them to the state.

        Args:
            index, heap, meta: The state, int64 each, see `heap`; `heap_f` is `heap` seen as float64.
            time_us: int64 (n,).
            keys: uint64 (E, n).
            values: float64 (C, n).
            before: int64 (K, 4), row operators that the state reads; `after`: those that read the state.
            program: The tables, windows, sums, lanes, stored values and outputs, see the constants above.
            results: int64 (F,), the register of each feature.
            regs: float64 (R, chunk), scratch; the registers of constants are already filled.
            records: int64 (chunk,), scratch.
            out: float64 (n, F), written.

        Returns:
            OK, or FULL where the state could outgrow its reserve: then nothing was applied.
        """
        _ = sources
        tables = program[0]
        total = time_us.shape[0]
        chunk = records.shape[0]
        worst = 0
        for table in range(tables.shape[0]):
            worst += tables[table, RECORD_WORDS] + 2 * tables[table, BLOCK_WORDS]
        slots = index.shape[0] // 2  # twice what the last level has
        if meta[TOP] + total * worst > heap.shape[0] or 4 * (meta[COUNT] + total * tables.shape[0]) > slots:
            return FULL
        clock = values.shape[0]  # the register of the effective time
        for start in range(0, total, chunk):
            n = min(chunk, total - start)
            for c in range(values.shape[0]):
                for i in range(n):
                    regs[c, i] = values[c, start + i]
            for i in range(n):
                regs[clock, i] = time_us[start + i]
            run_rows(before, regs, n)
            _visit(index, heap, heap_f, meta, time_us, keys, program, regs, records, start, n)
            run_rows(after, regs, n)
            for f in range(results.shape[0]):
                source = results[f]
                for i in range(n):
                    out[start + i, f] = regs[source, i]
        return OK

    return observe


def _sources() -> str:
    folder = Path(__file__).parent
    texts = [(folder / name).read_bytes() for name in ("heap.py", "kernel.py", "operators.py")]
    return sha256(b"".join(texts)).hexdigest()


observe = _compile(_sources())
