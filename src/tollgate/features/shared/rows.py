"""What the client computes of a batch, compiled: before it asks the server, and with its answers.

The row operators, the lanes of a transaction and all that is read from a record are the functions of the kernel: what
differs from the engine in memory is only where a record comes from.
"""

from __future__ import annotations

import math
from hashlib import sha256
from pathlib import Path

import numba
import numpy as np

from tollgate.features.history import mask_of
from tollgate.features.kernel import ABSENT, CODE_MASK, SOURCES_DIGEST, key_of, nothing, read, unpack
from tollgate.features.layout import HORIZON, NO_TIME
from tollgate.features.operators import run_rows
from tollgate.features.shared.library import TIME

LANE_BITS = 30  # of each word of a mask on its way
_LOW = np.int64((1 << LANE_BITS) - 1)


def _compile(sources: str):
    """Return `begin`, `ask`, `take` and `end`; their machine code is cached on disk for these sources."""

    @numba.njit(cache=True, error_model="numpy", nogil=True)
    def begin(words, time_us, keys, values, regs):
        """Fill the registers of n transactions up to what reads history.

        Args:
            words: The packed program, int64.
            time_us: int64 (n,).
            keys: uint64 (E, n).
            values: float64 (C, n).
            regs: float64 (R, n); the registers of constants are already filled.
        """
        _ = sources
        before, _, zones, codes, _, _ = unpack(words)
        n = time_us.shape[0]
        now = values.shape[0]
        for i in range(n):
            for c in range(now):
                regs[c, i] = values[c, i]
            regs[now, i] = time_us[i]
            for k in range(codes.shape[0]):
                key = keys[codes[k, 0], i]
                regs[codes[k, 1], i] = math.nan if key == np.uint64(0) else np.float64(key & CODE_MASK)
        run_rows(before, zones, regs, n)

    @numba.njit(cache=True, error_model="numpy", nogil=True)
    def ask(words, table, inputs, keys, time_us, clocks, regs, found, sent):
        """Write what the server is told of n transactions and one table.

        Args:
            words: The packed program, int64.
            table: Its row.
            inputs: Registers that the table keeps, int64 (V,).
            keys: uint64 (E, n).
            time_us: int64 (n,).
            clocks: The newest time that the engine has seen at each, int64 (n,).
            regs: float64 (R, n).
            found: uint64 (n,), written: the key of each entity, 0 where it is missing.
            sent: float64 (n, 6 + V), written but for the first two words of each row, the id.
        """
        _ = sources
        state = unpack(words)[5]
        tables, lanes = state[0], state[5]
        horizon = tables[table, HORIZON]
        after = 2 + inputs.shape[0]
        for i in range(time_us.shape[0]):
            found[i] = key_of(keys, table, tables, i)
            mask = mask_of(table, tables, lanes, regs, i)
            for v in range(inputs.shape[0]):
                sent[i, 2 + v] = regs[inputs[v], i]
            sent[i, after] = time_us[i]
            sent[i, after + 1] = clocks[i] - horizon
            sent[i, after + 2] = mask & _LOW
            sent[i, after + 3] = mask >> LANE_BITS

    @numba.njit(cache=True, error_model="numpy", nogil=True)
    def take(words, table, places, kinds, status, answers, time_us, regs, heap, sample):
        """Read the features of one table from what the server answered; return how many transactions were late.

        Args:
            words: The packed program, int64, in which an extremum is read as a sum is.
            table: Its row.
            places: Word of a record of each word of an answer but the first, int64 (K,).
            kinds: How each is kept, int64 (K,).
            status: int64 (n,): 1 answered, ABSENT nothing is kept of the entity, 0 there is no entity.
            answers: float64 (n, 1 + K).
            time_us: int64 (n,).
            regs: float64 (R, n), written.
            heap: int64, room for one record.
            sample: float64, room for the steps of a ring.
        """
        _ = sources
        state = unpack(words)[5]
        tables, memories, outputs = state[0], state[9], state[10]
        heap_f = heap.view(np.float64)
        late = 0
        for i in range(time_us.shape[0]):
            if status[i] != 1:
                nothing(np.int64(ABSENT if status[i] == ABSENT else 0), table, tables, outputs, regs, i)
                continue
            for k in range(places.shape[0]):
                word = answers[i, 1 + k]
                if kinds[k] == TIME:
                    heap[places[k]] = NO_TIME if word == -math.inf else np.int64(word)
                else:
                    heap_f[places[k]] = math.nan if math.isnan(word) else word
            t = np.int64(answers[i, 0])
            if t > time_us[i]:
                late += 1
            read(heap, heap_f, np.int64(0), table, t, tables, memories, outputs, sample, regs, i)
        return late

    @numba.njit(cache=True, error_model="numpy", nogil=True)
    def end(words, regs, out):
        """Run the row operators that read history, and write the features, float64 (n, F)."""
        _ = sources
        _, after, zones, _, results, _ = unpack(words)
        run_rows(after, zones, regs, out.shape[0])
        for i in range(out.shape[0]):
            for f in range(results.shape[0]):
                out[i, f] = regs[results[f, 0], i]

    return begin, ask, take, end


begin, ask, take, end = _compile(SOURCES_DIGEST + sha256(Path(__file__).read_bytes()).hexdigest())
