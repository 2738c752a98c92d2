"""The words of a record and the columns of a compiled program: what the plan writes and the kernel reads.

A record is the state of one entity. It begins with its key in the index, its watermark and the position at which its
next event goes; then come the words of its windows, sums, pointers, counters and memories, as the plan placed them.

Events lie in chained blocks of `EVENTS`: `[next, event, event, ...]`, an event being `[time, mask, values, links]`.
A position is `block * EVENTS + place`; 0 is none.
"""

from __future__ import annotations

import numpy as np

EVENTS = 8  # events a block; with fewer an entity of one event is smaller, and long histories are slower
SHIFT, PLACE = 3, EVENTS - 1
NEVER = np.iinfo(np.int64).max
NO_TIME = np.iinfo(np.int64).min
NONE = -1
MAX_LAG = 64  # steps back that a ring may hold: every entity that was seen pays for all of them

# Words of a record.
R_KEY, WATERMARK, HEAD, FIRST_WORD = range(4)
# Words that each part of a record takes.
WINDOW_WORDS, DELAYED_WORDS, COUNT_WORDS, SUM_WORDS, POINTER_WORDS, MEMORY_WORDS, SPELL_WORDS = 2, 4, 1, 2, 1, 2, 3
# Words of a window: the oldest event in it, when that one leaves, and with a delay who enters next, and when.
TAIL, EXPIRY, ENTRY, ENTRY_TIME = range(4)
# Words of an event before its values, and of its links in a chain of extrema.
EVENT_TIME, EVENT_MASK, FIRST_VALUE = range(3)
PREVIOUS, NEXT = range(2)
# Words of a spell: when its last event was, when its first was, and how many it has. Of a ring: where the next goes.
SPELL_LAST, SPELL_FIRST, SPELL_COUNT = range(3)
CURSOR, FIRST_STEP = range(2)

# Tables: one a kind of entity. SOURCE tells whose events it keeps. Ranges are places in the other arrays.
(
    KEY_1, KEY_2, SALT, SOURCE, HORIZON, RECORD_WORDS, EVENT_WORDS, BLOCK_WORDS,
    WINDOWS, WINDOWS_END, LANES, LANES_END, VALUES, VALUES_END, MEMORIES, MEMORIES_END,
    CHAINS, CHAINS_END, DISTINCTS, DISTINCTS_END, OUTPUTS, OUTPUTS_END, TABLE_COLUMNS,
) = range(23)  # fmt: skip
FROM_TRANSACTIONS, FROM_LABELS, FROM_VALUES = range(3)

# Windows, from the shortest to the longest, and what is kept for each.
(
    W_DURATION, W_DELAY, W_OFFSET, W_SUMS, W_SUMS_END, W_POINTERS, W_POINTERS_END, W_COUNTERS, W_COUNTERS_END,
    WINDOW_COLUMNS,
) = range(10)  # fmt: skip
S_KIND, S_VALUE, S_LANE, S_OFFSET, SUM_COLUMNS = range(5)
COUNT, WHOLE, SUM, SQUARE = range(4)  # the first two are sums of whole numbers, one word each
P_CHAIN, P_OFFSET, POINTER_COLUMNS = range(3)
K_DISTINCT, K_OFFSET, COUNTER_COLUMNS = range(3)

# What an event is to a table: a lane holds where its condition is true and its value is there.
L_WHERE, L_VALUE, LANE_COLUMNS = range(3)
# Chains of extrema, one a value, lane and direction; distinct values, one a value and lane.
C_SIGN, C_VALUE, C_LANE, C_LINKS, C_BACK, C_FRONT, CHAIN_COLUMNS = range(7)
D_LANE, D_VALUE, D_BIT, D_TABLE, D_LONGEST, DISTINCT_COLUMNS = range(6)
# Memories: the time and the value of the last event of a lane, the time of the first one, a spell of events without a
# pause, or a ring of the last times (without a value) or values, one step for every event.
M_KIND, M_LANE, M_VALUE, M_OFFSET, M_HORIZON, M_STEPS, MEMORY_COLUMNS = range(7)
LAST, FIRST, SPELL, RING = range(4)

# What a feature reads from a record. Those from OUT_LAG on are of rings and spells, and come last.
O_KIND, O_REGISTER, O_A, O_B, O_C, O_D, OUTPUT_COLUMNS = range(7)
(
    OUT_SUM, OUT_STD, OUT_EXTREMUM, OUT_AGE, OUT_NEW, OUT_VALUE, OUT_FIRST,
    OUT_LAG, OUT_LAG_AGE, OUT_SPELL_AGE, OUT_SPELL_COUNT, OUT_MEDIAN, OUT_MAD,
) = range(13)  # fmt: skip

# Row operators: code, destination and up to four arguments.
OP_CODE, OP_OUT, OP_A, OP_B, OP_C, OP_D, OP_COLUMNS = range(7)
