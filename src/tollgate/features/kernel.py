"""`observe`, compiled: read, then update, for every transaction of a batch in arrival order."""

from __future__ import annotations

import math
from hashlib import sha256
from pathlib import Path

import numba
import numpy as np

from tollgate.features.heap import CLOCK, LATE, TOP, borrowed, find, index_key, mix, prefetch, prefetch_slot
from tollgate.features.heap import COUNT as ENTITIES
from tollgate.features.history import advance, event_at, mask_of, push, std, value_key
from tollgate.features.layout import (
    BLOCK_WORDS,
    D_TABLE,
    D_VALUE,
    DISTINCTS,
    DISTINCTS_END,
    EVENT_WORDS,
    EXPIRY,
    FIRST_VALUE,
    FROM_LABELS,
    FROM_VALUES,
    HEAD,
    HORIZON,
    KEY_1,
    KEY_2,
    MEMORIES,
    MEMORIES_END,
    NO_TIME,
    O_A,
    O_B,
    O_C,
    O_KIND,
    O_REGISTER,
    OUT_AGE,
    OUT_EXTREMUM,
    OUT_FIRST,
    OUT_LAG,
    OUT_NEW,
    OUT_SPELL_AGE,
    OUT_STD,
    OUT_SUM,
    OUTPUTS,
    OUTPUTS_END,
    R_KEY,
    RECORD_WORDS,
    SALT,
    SOURCE,
    TAIL,
    VALUES,
    W_OFFSET,
    WATERMARK,
    WINDOWS,
    WINDOWS_END,
)
from tollgate.features.operators import run_rows
from tollgate.features.records import MICROSECONDS, new_record, recall, remember, sweep

OK, FULL = 0, 1
ABSENT = -1  # of a record: the entity is known, but nothing is kept of it yet
HASHES, RECORDS, CLOCKS, SCRATCH_ROWS = range(4)  # rows of scratch; what follows them is room for a sample
LINE_WORDS = 8  # of a cache line
CODE_MASK = np.uint64(2**52 - 1)  # of an entity's key: what a float64 register can hold of it
_SWEPT_PER_ENTITY = 4  # slots looked at for each new entity: garbage stays a fraction of what is alive

_SOURCES = ("heap.py", "history.py", "kernel.py", "layout.py", "operators.py", "records.py")


@numba.njit(error_model="numpy", inline="always")
def read(heap, heap_f, record, table, t, tables, memories, outputs, sample, regs, i):
    """Fill the registers of what the features read from a record whose windows have moved on to time t."""
    last = heap[record + WATERMARK]
    end = tables[table, OUTPUTS_END]
    for o in range(tables[table, OUTPUTS], end):
        kind, register, a = outputs[o, O_KIND], outputs[o, O_REGISTER], outputs[o, O_A]
        if kind == OUT_SUM:
            regs[register, i] = heap_f[record + a]
        elif kind == OUT_STD:
            regs[register, i] = std(heap_f, record, a, outputs[o, O_B], outputs[o, O_C])
        elif kind == OUT_EXTREMUM:
            place = heap[record + a]
            words = tables[table, EVENT_WORDS]
            regs[register, i] = heap_f[event_at(place, words) + outputs[o, O_B]] if place != 0 else math.nan
        elif kind >= OUT_LAG:  # these come last: by themselves, they do not slow down the loop of the others
            recall(heap, heap_f, record, t, o, end, outputs, memories, sample, regs, i)
            break
        elif kind == OUT_FIRST:
            known = last != NO_TIME and t - last < outputs[o, O_B]
            regs[register, i] = (t - heap[record + a]) / MICROSECONDS if known else math.nan
        else:  # what is older than the horizon counts as never seen
            moment = heap[record + a]
            known = moment != NO_TIME and t - moment < outputs[o, O_B]
            if kind == OUT_NEW:
                regs[register, i] = 0.0 if known else 1.0
            elif kind == OUT_AGE:
                regs[register, i] = (t - moment) / MICROSECONDS if known else math.nan
            else:
                regs[register, i] = heap_f[record + a + 1] if known else math.nan


@numba.njit(error_model="numpy", inline="always")
def key_of(keys, table, tables, column):
    """Return the index key of a transaction's entity in a table, or 0 where it has none."""
    first = keys[tables[table, KEY_1], column]
    if first == np.uint64(0):
        return np.uint64(0)
    salt = np.uint64(tables[table, SALT])
    key = mix(first, salt)
    other = tables[table, KEY_2]
    if other >= 0:
        second = keys[other, column]
        if second == np.uint64(0):
            return np.uint64(0)
        key = mix(key ^ mix(second, salt + np.uint64(1)), salt)
    return index_key(key, table)


@numba.njit(error_model="numpy", inline="always")
def _locate(index, heap, meta, keys, table, program, regs, scratch, start, n):
    """Find or make the record of each transaction in one table; 0 where an entity of it is missing.

    In passes of their own, each of which asks for the memory that the next one needs: looking up one entity after the
    other would wait for the memory every time.
    """
    tables, windows, _, _, _, _, _, _, _, memories, _ = program
    for i in range(n):
        key = key_of(keys, table, tables, start + i)
        scratch[HASHES, i] = np.int64(key)
        prefetch_slot(index, meta, key)
    for i in range(n):
        record = np.int64(0)
        key = np.uint64(scratch[HASHES, i])
        if key != np.uint64(0):
            record = find(index, meta, key)
            if record == 0:
                if tables[table, SOURCE] == FROM_LABELS:
                    record = ABSENT
                else:
                    record = new_record(index, heap, meta, table, key, tables, windows, memories)
            else:
                for word in range(0, tables[table, RECORD_WORDS], LINE_WORDS):
                    prefetch(heap, record + word)
        scratch[RECORDS, i] = record
    if tables[table, WINDOWS] != tables[table, WINDOWS_END]:
        _approach(index, heap, meta, table, program, regs, scratch, n)


@numba.njit(error_model="numpy", inline="always")
def _approach(index, heap, meta, table, program, regs, scratch, n):
    """Ask for the events that will enter and leave windows, and for the values that will be told apart."""
    tables, windows, _, _, _, _, stored, _, distincts, _, _ = program
    words = tables[table, EVENT_WORDS]
    bits = regs.view(np.int64)
    for i in range(n):
        record = scratch[RECORDS, i]
        if record <= 0 or heap[record + HEAD] == 0:
            continue
        event = event_at(heap[record + HEAD], words)
        prefetch(heap, event)
        prefetch(heap, event + words)
        for w in range(tables[table, WINDOWS], tables[table, WINDOWS_END]):
            at = record + windows[w, W_OFFSET]
            if heap[at + EXPIRY] <= scratch[CLOCKS, i]:
                event = event_at(heap[at + TAIL], words)
                prefetch(heap, event)
                prefetch(heap, event + words)
    for d in range(tables[table, DISTINCTS], tables[table, DISTINCTS_END]):
        register = stored[tables[table, VALUES] + distincts[d, D_VALUE] - FIRST_VALUE]
        for i in range(n):
            record = scratch[RECORDS, i]
            if record > 0:
                key = value_key(heap[record + R_KEY], bits[register, i], distincts[d, D_TABLE], tables)
                scratch[HASHES, i] = np.int64(key)
                prefetch_slot(index, meta, key)
        for i in range(n):
            if scratch[RECORDS, i] > 0:
                prefetch(heap, find(index, meta, np.uint64(scratch[HASHES, i])))


@numba.njit(error_model="numpy", inline="always")
def nothing(record, table, tables, outputs, regs, i):
    """Give the features of an entity that is missing, or of which no label is known."""
    for o in range(tables[table, OUTPUTS], tables[table, OUTPUTS_END]):
        kind = outputs[o, O_KIND]
        counted = record == ABSENT and kind not in (OUT_AGE, OUT_SPELL_AGE)
        regs[outputs[o, O_REGISTER], i] = 0.0 if counted else math.nan


@numba.njit(error_model="numpy", inline="always")
def _visit(index, heap, heap_f, meta, time_us, keys, program, regs, scratch, start, n):
    """Take n transactions through the history of one kind of entity after the other."""
    tables, _, _, _, _, lanes, _, _, _, memories, outputs = program
    sample = scratch[SCRATCH_ROWS:].reshape(-1).view(np.float64)
    for table in range(tables.shape[0]):
        if tables[table, SOURCE] == FROM_VALUES:
            continue
        from_labels = tables[table, SOURCE] == FROM_LABELS
        has_windows = tables[table, WINDOWS] != tables[table, WINDOWS_END]
        has_memories = tables[table, MEMORIES] != tables[table, MEMORIES_END]
        _locate(index, heap, meta, keys, table, program, regs, scratch, start, n)
        for i in range(n):
            record = scratch[RECORDS, i]
            if record <= 0:
                nothing(record, table, tables, outputs, regs, i)
                continue
            t = max(time_us[start + i], heap[record + WATERMARK], scratch[CLOCKS, i] - tables[table, HORIZON])
            if has_windows:
                advance(heap, heap_f, meta, record, table, t, program)
            read(heap, heap_f, record, table, t, tables, memories, outputs, sample, regs, i)
            if from_labels:  # what has left a window for this reader is gone for the next one too
                heap[record + WATERMARK] = t
                continue
            if t > time_us[start + i]:
                meta[LATE] += 1
            mask = mask_of(table, tables, lanes, regs, i)
            if has_memories:
                remember(heap, heap_f, record, table, t, mask, tables, memories, regs, i)
            if has_windows:
                push(index, heap, heap_f, meta, record, table, t, mask, program, regs, i)
            heap[record + WATERMARK] = t


@numba.njit(error_model="numpy", inline="always")
def _part(words, number):
    """Return one array of a packed program, int64 (rows, columns)."""
    start, rows, columns = words[3 * number], words[3 * number + 1], words[3 * number + 2]
    return words[start : start + rows * columns].reshape((rows, columns))


@numba.njit(error_model="numpy", inline="always")
def unpack(words):
    """Return the row operators before and after the state, zones, codes, results, and what the state is made of.

    They come as one array, since handing over each by itself takes longer than a single event does.
    """
    state = (
        _part(words, 5),
        _part(words, 6),
        _part(words, 7),
        _part(words, 8),
        _part(words, 9),
        _part(words, 10),
        _part(words, 11).reshape(-1),
        _part(words, 12),
        _part(words, 13),
        _part(words, 14),
        _part(words, 15),
    )
    return _part(words, 0), _part(words, 1), _part(words, 2), _part(words, 3), _part(words, 4), state


@numba.njit(error_model="numpy")
def _full(index, heap, meta, rows, tables):
    """Return whether that many rows could need more room than there is."""
    worst = 0
    for table in range(tables.shape[0]):
        worst += tables[table, RECORD_WORDS] + 2 * tables[table, BLOCK_WORDS]
    slots = index.shape[0] // 2  # twice what the last level has
    return meta[TOP] + rows * worst > heap.shape[0] or 4 * (meta[ENTITIES] + rows * tables.shape[0]) > slots


def _compile(sources: str):
    """Return `observe` and `learn`, compiled; the machine code is cached on disk for these sources.

    Numba sees by itself only that the file of the outermost function has changed. What the function closes over
    belongs to the cache's key too, so it closes over the digest of all that is compiled into it.
    """

    @numba.njit(cache=True, error_model="numpy", nogil=True)
    def observe(index, heap, meta, words, time_us, keys, values, regs, scratch, out):
        """Compute the features of n transactions and apply them to the state.

        Args:
            index, heap, meta: The state, int64 each, see `heap`.
            words: The compiled program, int64, see `unpack`.
            time_us: int64 (n,).
            keys: uint64 (E, n).
            values: float64 (C, n).
            regs: float64 (R, chunk), scratch; the registers of constants are already filled.
            scratch: int64 (SCRATCH_ROWS + S, chunk), with S rows of MAX_LAG words or more.
            out: float64 (n, F), written.

        Returns:
            OK, or FULL where the state could outgrow its reserve: then nothing was applied.
        """
        _ = sources
        index, heap, meta, words = borrowed(index), borrowed(heap), borrowed(meta), borrowed(words)
        time_us, keys, values = borrowed(time_us), borrowed(keys), borrowed(values)
        regs, scratch, out = borrowed(regs), borrowed(scratch), borrowed(out)
        heap_f = heap.view(np.float64)
        before, after, zones, codes, results, program = unpack(words)
        total = time_us.shape[0]
        chunk = scratch.shape[1]
        if _full(index, heap, meta, total, program[0]):
            return FULL
        now = values.shape[0]  # the register of the effective time
        for start in range(0, total, chunk):
            n = min(chunk, total - start)
            for c in range(values.shape[0]):
                for i in range(n):
                    regs[c, i] = values[c, start + i]
            clock = meta[CLOCK]
            for i in range(n):
                regs[now, i] = time_us[start + i]
                clock = max(clock, time_us[start + i])
                scratch[CLOCKS, i] = clock
            meta[CLOCK] = clock
            for k in range(codes.shape[0]):
                for i in range(n):
                    key = keys[codes[k, 0], start + i]
                    regs[codes[k, 1], i] = math.nan if key == np.uint64(0) else np.float64(key & CODE_MASK)
            run_rows(before, zones, regs, n)
            entities = meta[ENTITIES]
            _visit(index, heap, heap_f, meta, time_us, keys, program, regs, scratch, start, n)
            if meta[ENTITIES] > entities:
                sweep(index, heap, heap_f, meta, _SWEPT_PER_ENTITY * (meta[ENTITIES] - entities), clock, program)
            run_rows(after, zones, regs, n)
            for i in range(n):
                for f in range(results.shape[0]):
                    out[start + i, f] = regs[results[f, 0], i]
        return OK

    @numba.njit(cache=True, error_model="numpy", nogil=True)
    def learn(index, heap, meta, words, available_us, keys, regs):
        """Apply n labels of fraud, in order of arrival, to the histories that are made of labels.

        Args:
            available_us: When each was known, int64 (n,).
            keys: Of the transactions that they are about, uint64 (E, n).

        Returns:
            OK, or FULL: then nothing was applied.
        """
        _ = sources
        index, heap, meta, words = borrowed(index), borrowed(heap), borrowed(meta), borrowed(words)
        available_us, keys, regs = borrowed(available_us), borrowed(keys), borrowed(regs)
        heap_f = heap.view(np.float64)
        program = unpack(words)[5]
        tables, windows, _, _, _, _, _, _, _, memories, _ = program
        if _full(index, heap, meta, available_us.shape[0], tables):
            return FULL
        for table in range(tables.shape[0]):
            if tables[table, SOURCE] != FROM_LABELS:
                continue
            for i in range(available_us.shape[0]):
                key = key_of(keys, table, tables, i)
                if key == np.uint64(0):
                    continue
                record = find(index, meta, key)
                if record == 0:
                    record = new_record(index, heap, meta, table, key, tables, windows, memories)
                t = max(available_us[i], heap[record + WATERMARK], meta[CLOCK] - tables[table, HORIZON])
                remember(heap, heap_f, record, table, t, np.int64(1), tables, memories, regs, 0)
                if tables[table, WINDOWS] != tables[table, WINDOWS_END]:
                    advance(heap, heap_f, meta, record, table, t, program)
                    push(index, heap, heap_f, meta, record, table, t, np.int64(1), program, regs, 0)
                heap[record + WATERMARK] = t
        return OK

    return observe, learn


def _digest() -> str:
    folder = Path(__file__).parent
    return sha256(b"".join((folder / name).read_bytes() for name in _SOURCES)).hexdigest()


SOURCES_DIGEST = _digest()  # of all that is compiled: another one may lay the state out otherwise
observe, learn = _compile(SOURCES_DIGEST)
