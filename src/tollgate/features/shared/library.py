"""A plan as a library of functions for the server: its tables as Lua literals, before the text that runs them.

The literals are whole numbers that this module writes; nothing of a bundle is executed. The name of the library is a
digest of its text, so that another plan, or another version of this code, has functions and a state of its own.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import resources
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tollgate.features import layout
from tollgate.features.plan import FeaturePlan
from tollgate.features.snapshot import plan_digest
from tollgate.features.tables import State

WHOLE, TIME = 0, 1  # how a word of an answer is kept: as it is, or as a whole number (a time, or a place in a ring)
PREFIX_WORDS = 2  # of a transaction on its way: its id in two halves; then values, time, earliest time and mask
SUFFIX_WORDS = 4
_MASK_BITS = 30  # of each of the two words of a mask: Lua's bit operations are on 32 bits
_EVENT_SHIFT = 4  # words are counted from 1, a mask takes one word more than in memory, and there is an id of two
_MICROSECONDS_PER_MS = 1000
_NAME_DIGITS = 16

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class SharedTable:
    """One kind of entity on the server.

    Attributes:
        number: Its row in the plan's tables.
        inputs: Registers that a transaction brings, int64 (V,).
        words: Places in a record of what an answer holds, int64 (K,); the first word of an answer is its time.
        kinds: For each of the K, `WHOLE` or `TIME`.
        learns: Whether it keeps labels and not transactions.
        horizon_us: How far back its features look.
    """

    number: int
    inputs: Ints
    words: Ints
    kinds: Ints
    learns: bool
    horizon_us: int

    @property
    def sent_words(self) -> int:
        """How many words a transaction takes on its way to the server."""
        return PREFIX_WORDS + len(self.inputs) + SUFFIX_WORDS

    @property
    def answer_words(self) -> int:
        """How many words the server answers."""
        return 1 + len(self.words)


@dataclass(frozen=True, slots=True)
class Library:
    """What the server runs.

    Attributes:
        name: Of the library, and with `_observe` and `_learn` of its functions.
        code: Its text.
        tables: The kinds of entities, in the order in which the functions count them, from 1.
    """

    name: str
    code: str
    tables: tuple[SharedTable, ...]


def library_of(plan: FeaturePlan, repeat_us: int) -> Library:
    """Return the library of a plan.

    Args:
        plan: The features.
        repeat_us: For how long, by the time of its entity, a transaction that comes again is recognised.
    """
    state = plan.program.state
    tables = []
    literals = []
    for number in range(len(state.tables)):
        if state.tables[number, layout.SOURCE] == layout.FROM_VALUES:
            continue
        words, kinds, values = _answers(state, number)
        inputs = _inputs(state, number)
        learns = bool(state.tables[number, layout.SOURCE] == layout.FROM_LABELS)
        horizon_us = int(state.tables[number, layout.HORIZON])
        tables.append(SharedTable(number, inputs, words, kinds, learns, horizon_us))
        known_us = max(horizon_us, repeat_us) if learns else repeat_us  # labels are few, and may come long after
        literals.append(_table(state, number, inputs, (words, values), known_us))
    text = resources.files(__package__).joinpath("history.lua").read_text(encoding="utf-8")
    body = f"local TABLES = {_lua(literals)}\n{text}"
    digest = hashlib.blake2b(f"{plan_digest(plan)}\n{body}".encode(), digest_size=_NAME_DIGITS // 2).hexdigest()
    name = f"tollgate_{digest}"
    return Library(name, f"#!lua name={name}\nlocal NAME = '{name}'\n{body}", tuple(tables))


def _rows(state: State, part: str, number: int, first: int, end: int) -> Ints:
    rows: Ints = getattr(state, part)[state.tables[number, first] : state.tables[number, end]]
    return rows


def _inputs(state: State, number: int) -> Ints:
    """Return the registers that a table keeps values of: first those of its events, then those of its memories."""
    stored = _rows(state, "stored", number, layout.VALUES, layout.VALUES_END).tolist()
    remembered = _rows(state, "memories", number, layout.MEMORIES, layout.MEMORIES_END)[:, layout.M_VALUE].tolist()
    extra = dict.fromkeys(one for one in remembered if one >= 0 and one not in stored)
    return np.array([*stored, *extra], dtype=np.int64)


def _answers(state: State, number: int) -> tuple[Ints, Ints, Ints]:
    """Return which words of a record the features read, their kinds, and for extrema the word of the event, else 0."""
    found: dict[int, tuple[int, int]] = {layout.WATERMARK: (TIME, 0)}
    for output in _rows(state, "outputs", number, layout.OUTPUTS, layout.OUTPUTS_END).tolist():
        for word, kind, value in _read_by(state, output):
            found[word] = (kind, value)
    places = np.array(sorted(found), dtype=np.int64)
    kinds, values = np.array([found[int(place)] for place in places], dtype=np.int64).T
    return places, np.ascontiguousarray(kinds), np.ascontiguousarray(values)


def _read_by(state: State, output: list[int]) -> Iterator[tuple[int, int, int]]:
    kind = output[layout.O_KIND]
    a, b, c = output[layout.O_A], output[layout.O_B], output[layout.O_C]
    match kind:
        case layout.OUT_SUM:
            yield a, WHOLE, 0
        case layout.OUT_STD:
            yield from ((word, WHOLE, 0) for word in (a, b, b + 1, c, c + 1))
        case layout.OUT_EXTREMUM:
            yield a, WHOLE, b
        case layout.OUT_AGE | layout.OUT_NEW | layout.OUT_FIRST:
            yield a, TIME, 0
        case layout.OUT_VALUE:
            yield from ((a, TIME, 0), (a + 1, WHOLE, 0))
        case layout.OUT_SPELL_AGE | layout.OUT_SPELL_COUNT:
            yield from ((a, TIME, 0), (a + 1, TIME, 0), (a + 2, WHOLE, 0))
        case _:
            yield from _ring(state.memories[a])
            yield from _ring(state.memories[b])


def _ring(memory: Ints) -> Iterator[tuple[int, int, int]]:
    at, kind = int(memory[layout.M_OFFSET]), TIME if memory[layout.M_VALUE] < 0 else WHOLE
    yield at + layout.CURSOR, TIME, 0
    for step in range(int(memory[layout.M_STEPS])):
        yield at + layout.FIRST_STEP + step, kind, 0


def _table(state: State, number: int, inputs: Ints, answers: tuple[Ints, Ints], repeat_us: int) -> dict[str, Any]:
    table = state.tables[number]
    first = {name: int(table[column]) for name, column in (
        ("chains", layout.CHAINS), ("distincts", layout.DISTINCTS))}  # fmt: skip
    windows = [
        _window(state, window, first) for window in _rows(state, "windows", number, layout.WINDOWS, layout.WINDOWS_END)
    ]
    words = int(table[layout.RECORD_WORDS])
    windows.append({
        "at": words + 1, "duration": repeat_us, "delay": 0, "ids": 1, "sums": [], "pointers": [], "counters": [],
    })  # fmt: skip
    windows.sort(key=lambda window: window["delay"] + window["duration"])  # the longest last: it frees the events
    stored = int(table[layout.VALUES_END] - table[layout.VALUES])
    chains = _rows(state, "chains", number, layout.CHAINS, layout.CHAINS_END)
    horizon_us = max(int(table[layout.HORIZON]), repeat_us)
    return {
        "source": int(table[layout.SOURCE]),
        "words": words + layout.WINDOW_WORDS,
        "stored": stored,
        "inputs": len(inputs),
        "format": "<" + "d" * (len(inputs) + SUFFIX_WORDS),
        "event_words": layout.FIRST_VALUE - 1 + _EVENT_SHIFT + stored + 2 * len(chains),
        "expire_ms": 2 * horizon_us // _MICROSECONDS_PER_MS,
        "windows": windows,
        "chains": [
            {
                "sign": int(chain[layout.C_SIGN]),
                "value": int(chain[layout.C_VALUE]) + _EVENT_SHIFT,
                "links": int(chain[layout.C_LINKS]) + _EVENT_SHIFT,
                "back": int(chain[layout.C_BACK]) + 1,
                "front": int(chain[layout.C_FRONT]) + 1,
                **_bit(int(chain[layout.C_LANE])),
            }
            for chain in chains
        ],
        "distincts": [
            {
                "value": int(one[layout.D_VALUE]) + _EVENT_SHIFT,
                "longest": int(one[layout.D_LONGEST]),
                "bit_mask": _bit(int(one[layout.D_BIT]))["mask"],
                "newest": _bit(int(one[layout.D_BIT]))["bit"],
                **_bit(int(one[layout.D_LANE])),
            }
            for one in _rows(state, "distincts", number, layout.DISTINCTS, layout.DISTINCTS_END)
        ],
        "memories": [
            {
                "kind": int(one[layout.M_KIND]),
                "value": 0 if one[layout.M_VALUE] < 0 else inputs.tolist().index(one[layout.M_VALUE]) + 1,
                "at": int(one[layout.M_OFFSET]) + 1,
                "horizon": int(one[layout.M_HORIZON]),
                "steps": int(one[layout.M_STEPS]),
                **_bit(max(int(one[layout.M_LANE]), 0)),
            }
            for one in _rows(state, "memories", number, layout.MEMORIES, layout.MEMORIES_END)
        ],
        "reads": [
            {"at": int(word) + 1, "value": int(value) + _EVENT_SHIFT if value else 0}
            for word, value in zip(*answers, strict=True)
        ],
    }


def _window(state: State, window: Ints, first: dict[str, int]) -> dict[str, Any]:
    sums = state.sums[window[layout.W_SUMS] : window[layout.W_SUMS_END]]
    pointers = state.pointers[window[layout.W_POINTERS] : window[layout.W_POINTERS_END]]
    counters = state.counters[window[layout.W_COUNTERS] : window[layout.W_COUNTERS_END]]
    return {
        "at": int(window[layout.W_OFFSET]) + 1,
        "duration": int(window[layout.W_DURATION]),
        "delay": int(window[layout.W_DELAY]),
        "sums": [
            {
                "kind": int(one[layout.S_KIND]),
                "value": int(one[layout.S_VALUE]) + _EVENT_SHIFT,
                "at": int(one[layout.S_OFFSET]) + 1,
                **_bit(int(one[layout.S_LANE])),
            }
            for one in sums
        ],
        "pointers": [
            {"chain": int(one[layout.P_CHAIN]) - first["chains"] + 1, "at": int(one[layout.P_OFFSET]) + 1}
            for one in pointers
        ],
        "counters": [
            {"distinct": int(one[layout.K_DISTINCT]) - first["distincts"] + 1, "at": int(one[layout.K_OFFSET]) + 1}
            for one in counters
        ],
    }


def _bit(lane: int) -> dict[str, int]:
    """Return in which word of an event a lane's bit is, and the bit."""
    return {"mask": 2 + lane // _MASK_BITS, "bit": 1 << (lane % _MASK_BITS)}


def _lua(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name} = {_lua(one)}" for name, one in value.items()) + "}"
    if isinstance(value, list):
        return "{" + ", ".join(_lua(one) for one in value) + "}"
    return f"'{value}'" if isinstance(value, str) else str(int(value))
