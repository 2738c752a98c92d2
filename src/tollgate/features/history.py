"""The histories of entities, compiled: events enter windows, leave them, and what is kept moves along.

Each event is touched once when it enters a window and once when it leaves, however long the window is:

- Counts and sums are added to and taken from. Money is a whole number of minor units, and a plain sum of whole numbers
  is exact below 2**53 (90 trillion euros in a window). Other sums, and squares, are double-double (error-free
  transformations of Knuth, Dekker and Veltkamp, 106 bits): adding a value and later taking it away again leaves nothing
  behind, where a plain float would drift, and `std` keeps its precision.
- Minimum and maximum follow a chain of the events that no newer one surpasses (a monotonic queue). The chain is one
  for all windows of a value; each window points into it.
- Distinct values are counted by marking, in each lane, the newest event of every value: a window holds as many
  distinct values as marked events.
"""

from __future__ import annotations

import math

import numba
import numpy as np

from tollgate.features.heap import (
    find,
    give,
    index_key,
    insert,
    mix,
    take,
)
from tollgate.features.layout import (
    BLOCK_WORDS,
    C_BACK,
    C_FRONT,
    C_LANE,
    C_LINKS,
    C_SIGN,
    C_VALUE,
    CHAINS,
    CHAINS_END,
    COUNT,
    D_BIT,
    D_LANE,
    D_LONGEST,
    D_TABLE,
    D_VALUE,
    DISTINCTS,
    DISTINCTS_END,
    ENTRY,
    ENTRY_TIME,
    EVENT_MASK,
    EVENT_TIME,
    EVENT_WORDS,
    EXPIRY,
    FIRST_VALUE,
    HEAD,
    K_DISTINCT,
    K_OFFSET,
    L_VALUE,
    L_WHERE,
    LANES,
    LANES_END,
    NEVER,
    NEXT,
    NO_TIME,
    P_CHAIN,
    P_OFFSET,
    PLACE,
    PREVIOUS,
    R_KEY,
    RECORD_WORDS,
    S_KIND,
    S_LANE,
    S_OFFSET,
    S_VALUE,
    SALT,
    SHIFT,
    SQUARE,
    TAIL,
    VALUES,
    VALUES_END,
    W_COUNTERS,
    W_COUNTERS_END,
    W_DELAY,
    W_DURATION,
    W_OFFSET,
    W_POINTERS,
    W_POINTERS_END,
    W_SUMS,
    W_SUMS_END,
    WATERMARK,
    WHOLE,
    WINDOWS,
    WINDOWS_END,
)

_SPLITTER = 134_217_729.0  # 2**27 + 1: splits a float64 into two halves that multiply exactly


@numba.njit(error_model="numpy", inline="always")
def product_error(a, b, product):
    """Return what `product`, the rounded a * b, lacks (Dekker 1971)."""
    x = _SPLITTER * a
    a_high = x - (x - a)
    a_low = a - a_high
    y = _SPLITTER * b
    b_high = y - (y - b)
    b_low = b - b_high
    return a_low * b_low - (((product - a_high * b_high) - a_low * b_high) - a_high * b_low)


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
def std(heap_f, record, count, total, squares):
    """Return the sample standard deviation from exact sums, cancelling in double-double."""
    n = heap_f[record + count]
    if n < 2.0:
        return math.nan
    high, low = heap_f[record + total], heap_f[record + total + 1]
    product = high * high
    error = product_error(high, high, product) + 2.0 * high * low
    share = product / n
    back = share * n
    rest = ((product - back) - product_error(share, n, back) + error) / n  # total**2 / n is share + rest
    spread = (heap_f[record + squares] - share) + (heap_f[record + squares + 1] - rest)
    return math.sqrt(max(spread, 0.0) / (n - 1.0))


@numba.njit(error_model="numpy", inline="always")
def event_at(position, words):
    """Return the address of the event at a position, where an event has that many words."""
    return (position >> SHIFT) + 1 + (position & PLACE) * words


@numba.njit(error_model="numpy", inline="always")
def _apply(heap, heap_f, record, w, windows, sums, event, sign):
    """Add one event to a window's sums, or with sign -1 take it away."""
    mask = heap[event + EVENT_MASK]
    for s in range(windows[w, W_SUMS], windows[w, W_SUMS_END]):
        if (mask >> sums[s, S_LANE]) & 1:
            at = record + sums[s, S_OFFSET]
            kind = sums[s, S_KIND]
            if kind == COUNT:
                heap_f[at] += sign
            elif kind == WHOLE:  # a plain sum of whole numbers is exact
                heap_f[at] += sign * heap_f[event + sums[s, S_VALUE]]
            else:
                value = heap_f[event + sums[s, S_VALUE]]
                if kind == SQUARE:
                    square = value * value
                    _accumulate(heap_f, at, sign * square)
                    _accumulate(heap_f, at, sign * product_error(value, value, square))
                else:
                    _accumulate(heap_f, at, sign * value)


@numba.njit(error_model="numpy", inline="always")
def _leave(heap, heap_f, record, w, position, event, program):
    """Take the oldest event out of a window."""
    _, windows, sums, pointers, counters, _, _, chains, distincts, _, _ = program
    _apply(heap, heap_f, record, w, windows, sums, event, -1.0)
    for p in range(windows[w, W_POINTERS], windows[w, W_POINTERS_END]):
        at = record + pointers[p, P_OFFSET]
        if heap[at] == position:
            chain = pointers[p, P_CHAIN]
            is_back = heap[record + chains[chain, C_BACK]] == position
            heap[at] = 0 if is_back else heap[event + chains[chain, C_LINKS] + NEXT]
    mask = heap[event + EVENT_MASK]
    for k in range(windows[w, W_COUNTERS], windows[w, W_COUNTERS_END]):
        if (mask >> distincts[counters[k, K_DISTINCT], D_BIT]) & 1:
            heap_f[record + counters[k, K_OFFSET]] -= 1.0


@numba.njit(error_model="numpy", inline="always")
def _step(heap, position):
    """Return the position after one; whether a block was left is seen by its place being 0."""
    position += 1
    if position & PLACE == 0:
        position = heap[(position >> SHIFT) - 1] << SHIFT
    return position


@numba.njit(error_model="numpy", inline="always")
def _enter(heap, heap_f, record, w, t, head, words, windows, sums):
    """Let the events that are old enough into a window with a delay."""
    at = record + windows[w, W_OFFSET]
    while heap[at + ENTRY_TIME] <= t:
        position = heap[at + ENTRY]
        event = event_at(position, words)
        _apply(heap, heap_f, record, w, windows, sums, event, 1.0)
        if heap[at + EXPIRY] == NEVER:
            heap[at + TAIL] = position
            heap[at + EXPIRY] = heap[event + EVENT_TIME] + windows[w, W_DELAY] + windows[w, W_DURATION]
        position = _step(heap, position)
        heap[at + ENTRY] = position
        if position == head:
            heap[at + ENTRY_TIME] = NEVER
        else:
            heap[at + ENTRY_TIME] = heap[event_at(position, words) + EVENT_TIME] + windows[w, W_DELAY]


@numba.njit(error_model="numpy", inline="always")
def advance(heap, heap_f, meta, record, table, t, program):
    """Move every window of a record on to time t, and free the blocks that no window needs."""
    tables, windows, sums, _, _, _, _, _, _, _, _ = program
    head = heap[record + HEAD]
    last = tables[table, WINDOWS_END] - 1  # the longest window
    words = tables[table, EVENT_WORDS]
    for w in range(tables[table, WINDOWS], tables[table, WINDOWS_END]):
        at = record + windows[w, W_OFFSET]
        delay = windows[w, W_DELAY]
        if delay > 0 and heap[at + ENTRY_TIME] <= t:
            _enter(heap, heap_f, record, w, t, head, words, windows, sums)
        expiry = heap[at + EXPIRY]
        if expiry > t:
            continue
        end = heap[at + ENTRY] if delay > 0 else head
        length = delay + windows[w, W_DURATION]
        position = heap[at + TAIL]
        while expiry <= t:
            _leave(heap, heap_f, record, w, position, event_at(position, words), program)
            block = position >> SHIFT
            position = _step(heap, position)
            if w == last and position >> SHIFT != block:
                give(heap, meta, table, block)
            expiry = heap[event_at(position, words) + EVENT_TIME] + length if position != end else NEVER
        heap[at + TAIL], heap[at + EXPIRY] = position, expiry
        if expiry == NEVER:  # empty: nothing may be left of what was rounded
            for s in range(windows[w, W_SUMS], windows[w, W_SUMS_END]):
                heap_f[record + sums[s, S_OFFSET]] = 0.0
                if sums[s, S_KIND] > WHOLE:
                    heap_f[record + sums[s, S_OFFSET] + 1] = 0.0


@numba.njit(error_model="numpy", inline="always")
def mask_of(table, tables, lanes, regs, i):
    """Return the lanes of its table that transaction i is in, a bit each."""
    mask = np.int64(0)
    first = tables[table, LANES]
    for lane in range(first, tables[table, LANES_END]):
        where, value = lanes[lane, L_WHERE], lanes[lane, L_VALUE]
        holds = where < 0 or (regs[where, i] != 0.0 and not math.isnan(regs[where, i]))
        if holds and (value < 0 or not math.isnan(regs[value, i])):
            mask |= np.int64(1) << (lane - first)
    return mask


@numba.njit(error_model="numpy", inline="always")
def _chain(heap, heap_f, record, c, position, event, words, chains):
    """Put an event at the back of a chain of extrema, taking out those that it surpasses or equals."""
    sign, value, links = chains[c, C_SIGN], chains[c, C_VALUE], chains[c, C_LINKS]
    front = heap[record + chains[c, C_FRONT]]
    before = np.int64(0)
    if front != 0:
        place = heap[record + chains[c, C_BACK]]
        while True:
            other = event_at(place, words)
            if sign * heap_f[other + value] > sign * heap_f[event + value]:
                before = place
                heap[other + links + NEXT] = position
                break
            if place == front:
                break
            place = heap[other + links + PREVIOUS]
    heap[event + links + PREVIOUS] = before
    heap[record + chains[c, C_BACK]] = position


@numba.njit(error_model="numpy", inline="always")
def value_key(entity, value, table, tables):
    """Return the index key of one of the values that are told apart in the history of an entity; all int64 words."""
    return index_key(
        mix(np.uint64(entity) ^ mix(np.uint64(value), np.uint64(1)), np.uint64(tables[table, SALT])), table
    )


@numba.njit(error_model="numpy", inline="always")
def _newest_before(index, heap, meta, record, d, t, position, event, words, program):
    """Mark an event as the newest of its value; return when the one before it was, or NO_TIME.

    Only one that still lies in the longest window is looked at: an older one may be gone.
    """
    tables, _, _, _, _, _, _, _, distincts, _, _ = program
    values = distincts[d, D_TABLE]
    bit = np.int64(1) << distincts[d, D_BIT]
    key = value_key(heap[record + R_KEY], heap[event + distincts[d, D_VALUE]], values, tables)
    known = find(index, meta, key)
    before = NO_TIME
    if known == 0:
        known = take(heap, meta, tables.shape[0] + values, tables[values, RECORD_WORDS])
        heap[known + R_KEY] = np.int64(key)
        insert(index, meta, key, known)
    elif heap[known + WATERMARK] + distincts[d, D_LONGEST] > t:
        before = heap[known + WATERMARK]
        heap[event_at(heap[known + HEAD], words) + EVENT_MASK] &= ~bit
    heap[known + WATERMARK] = t
    heap[known + HEAD] = position
    heap[event + EVENT_MASK] |= bit
    return before


@numba.njit(error_model="numpy", inline="always")
def push(index, heap, heap_f, meta, record, table, t, mask, program, regs, i):
    """Append the transaction to the record's events and let it into all windows without a delay."""
    tables, windows, sums, pointers, counters, _, stored, chains, distincts, _, _ = program
    words = tables[table, EVENT_WORDS]
    head = heap[record + HEAD]
    if head == 0:
        block = take(heap, meta, table, tables[table, BLOCK_WORDS])
        head = block << SHIFT
    event = event_at(head, words)
    heap[event + EVENT_TIME] = t
    heap[event + EVENT_MASK] = mask
    for v in range(tables[table, VALUES], tables[table, VALUES_END]):
        heap_f[event + FIRST_VALUE + v - tables[table, VALUES]] = regs[stored[v], i]
    for c in range(tables[table, CHAINS], tables[table, CHAINS_END]):
        if (mask >> chains[c, C_LANE]) & 1:
            _chain(heap, heap_f, record, c, head, event, words, chains)
    for w in range(tables[table, WINDOWS], tables[table, WINDOWS_END]):
        at = record + windows[w, W_OFFSET]
        if windows[w, W_DELAY] > 0:
            if heap[at + ENTRY_TIME] == NEVER:
                heap[at + ENTRY], heap[at + ENTRY_TIME] = head, t + windows[w, W_DELAY]
            continue
        _apply(heap, heap_f, record, w, windows, sums, event, 1.0)
        if heap[at + EXPIRY] == NEVER:
            heap[at + TAIL], heap[at + EXPIRY] = head, t + windows[w, W_DURATION]
        for p in range(windows[w, W_POINTERS], windows[w, W_POINTERS_END]):
            c = pointers[p, P_CHAIN]
            if (mask >> chains[c, C_LANE]) & 1:
                best = heap[record + pointers[p, P_OFFSET]]
                value = chains[c, C_SIGN] * heap_f[event + chains[c, C_VALUE]]
                if best == 0 or chains[c, C_SIGN] * heap_f[event_at(best, words) + chains[c, C_VALUE]] <= value:
                    heap[record + pointers[p, P_OFFSET]] = head
    for d in range(tables[table, DISTINCTS], tables[table, DISTINCTS_END]):
        if (mask >> distincts[d, D_LANE]) & 1:
            before = _newest_before(index, heap, meta, record, d, t, head, event, words, program)
            for w in range(tables[table, WINDOWS], tables[table, WINDOWS_END]):
                if before != NO_TIME and before + windows[w, W_DURATION] > t:
                    continue  # the value was in this window already
                for k in range(windows[w, W_COUNTERS], windows[w, W_COUNTERS_END]):
                    if counters[k, K_DISTINCT] == d:
                        heap_f[record + counters[k, K_OFFSET]] += 1.0
    head += 1
    if head & PLACE == 0:
        block = (head >> SHIFT) - 1
        heap[block] = take(heap, meta, table, tables[table, BLOCK_WORDS])
        head = heap[block] << SHIFT
    heap[record + HEAD] = head
