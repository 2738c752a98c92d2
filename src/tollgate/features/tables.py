"""What is kept of each kind of entity, gathered feature by feature and then laid out for the kernel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tollgate.errors import ConfigError
from tollgate.features import layout
from tollgate.features.heap import MAX_TABLES
from tollgate.features.layout import NONE

MAX_LANES = 60  # bits of an event's mask: different (where, value) pairs of one entity, and its distinct values

_FROM_RINGS = {layout.OUT_LAG, layout.OUT_LAG_AGE, layout.OUT_MEDIAN, layout.OUT_MAD}

Ints = NDArray[np.int64]
Span = tuple[int, int]  # a window: its delay and its duration, in microseconds
Lane = tuple[int, int]  # registers of a condition and of a value, or NONE


class State(NamedTuple):
    """The compiled tables; see `layout` for the columns of each array."""

    tables: Ints
    windows: Ints
    sums: Ints
    pointers: Ints
    counters: Ints
    lanes: Ints
    stored: Ints
    chains: Ints
    distincts: Ints
    memories: Ints
    outputs: Ints


@dataclass(slots=True)
class Kept:
    """What one window keeps, each with the lane and the stored value it is of."""

    sums: list[tuple[int, int, int]] = field(default_factory=list)  # kind, stored value, lane
    pointers: list[int] = field(default_factory=list)  # chain
    counters: list[int] = field(default_factory=list)  # distinct


@dataclass(slots=True)
class Table:
    """One kind of entity: by which keys it is known, and what is kept of it."""

    keys: tuple[int, ...]
    source: int = layout.FROM_TRANSACTIONS
    windows: dict[Span, Kept] = field(default_factory=dict)
    lanes: list[Lane] = field(default_factory=list)
    stored: list[int] = field(default_factory=list)  # registers whose values an event keeps
    chains: list[tuple[int, int, int]] = field(default_factory=list)  # sign, stored value, lane
    distincts: list[tuple[int, int]] = field(default_factory=list)  # lane, stored value
    memories: list[tuple[int, int, int, int]] = field(default_factory=list)  # kind, lane, value register, horizon
    rings: dict[int, int] = field(default_factory=dict)  # value register, NONE for times: steps
    outputs: list[tuple[int, int, Any]] = field(default_factory=list)  # kind, register, what it reads
    horizon_us: int = 0

    def lane(self, where: int, value: int) -> int:
        """Return the lane of events that fulfil a condition and have a value."""
        lane = _place(self.lanes, (where, value))
        if len(self.lanes) + len(self.distincts) > MAX_LANES:
            raise ConfigError("bad_feature", f"one entity has at most {MAX_LANES} different (value, where) pairs")
        return lane

    def window(self, span: Span) -> Kept:
        """Return what is kept of a window."""
        self.see(sum(span))
        return self.windows.setdefault(span, Kept())

    def see(self, horizon_us: int) -> None:
        """Take note of how far back a feature looks."""
        self.horizon_us = max(self.horizon_us, horizon_us)

    def add_sum(self, span: Span, kind: int, where: int, value: int) -> tuple[str, Span, int]:
        """Keep a count, a sum or a sum of squares; return where it is found."""
        stored = NONE if kind == layout.COUNT else _place(self.stored, value)
        return ("sums", span, _place(self.window(span).sums, (kind, stored, self.lane(where, value))))

    def add_extremum(self, span: Span, sign: int, where: int, value: int) -> tuple[str, Span, int]:
        """Keep a minimum (sign -1) or maximum (1)."""
        chain = _place(self.chains, (sign, _place(self.stored, value), self.lane(where, value)))
        return ("pointers", span, _place(self.window(span).pointers, chain))

    def add_distinct(self, span: Span, where: int, value: int) -> tuple[str, Span, int]:
        """Keep how many different values there are."""
        distinct = _place(self.distincts, (self.lane(where, value), _place(self.stored, value)))
        return ("counters", span, _place(self.window(span).counters, distinct))

    def add_memory(self, kind: int, lane: int, value: int, horizon_us: int) -> tuple[str, int]:
        """Keep the time, and the value, of the last event of a lane, the time of the first, or a spell."""
        return ("memories", _place(self.memories, (kind, lane, value, 0 if kind == layout.LAST else horizon_us)))

    def add_ring(self, value: int, steps: int) -> None:
        """Keep the times of the last events, and their values.

        Raises:
            ConfigError: The steps are not 1 to `MAX_LAG`; the kernel relies on it.
        """
        check_steps(steps)
        for ring in {NONE, value}:
            self.rings[ring] = max(steps, self.rings.get(ring, 0))


def check_steps(steps: int) -> None:
    """Raise ConfigError where a feature looks back over less than one transaction or more than `MAX_LAG`."""
    if isinstance(steps, bool) or not isinstance(steps, int) or not 1 <= steps <= layout.MAX_LAG:
        raise ConfigError(
            "bad_feature",
            f"expected to look back over the last 1 to {layout.MAX_LAG} transactions, but got {steps!r}; "
            "what lies further back is for a window (over=...)",
        )


def _place(known: list[Any], one: Any) -> int:
    if one not in known:
        known.append(one)
    return known.index(one)


def lay_out(entities: Sequence[Table]) -> State:
    """Return the tables as the kernel reads them."""
    values = sum(len(table.distincts) for table in entities)
    if len(entities) + values > MAX_TABLES:
        raise ConfigError(
            "bad_feature", f"a feature list has at most {MAX_TABLES} different entities and distinct values"
        )
    arrays: dict[str, list[Any]] = {name: [] for name in State._fields}
    pairs: list[tuple[int, ...]] = []
    for number, table in enumerate(entities):
        _lay_out_table(number, table, len(entities), arrays, pairs)
    arrays["tables"] += pairs
    columns = {
        "tables": layout.TABLE_COLUMNS, "windows": layout.WINDOW_COLUMNS, "sums": layout.SUM_COLUMNS,
        "pointers": layout.POINTER_COLUMNS, "counters": layout.COUNTER_COLUMNS, "lanes": layout.LANE_COLUMNS,
        "chains": layout.CHAIN_COLUMNS, "distincts": layout.DISTINCT_COLUMNS, "memories": layout.MEMORY_COLUMNS,
        "outputs": layout.OUTPUT_COLUMNS,
    }  # fmt: skip
    return State(
        **{name: matrix(rows, columns[name]) for name, rows in arrays.items() if name in columns},
        stored=np.asarray(arrays["stored"], dtype=np.int64),
    )


def _lay_out_table(
    number: int, table: Table, entities: int, arrays: dict[str, list[Any]], pairs: list[tuple[int, ...]]
) -> None:
    parts = ("windows", "lanes", "stored", "memories", "chains", "distincts", "outputs")
    starts = {name: len(arrays[name]) for name in parts}
    spans = sorted(table.windows, key=lambda span: (sum(span), span))  # the longest last: it frees the events
    places = _Places(table, spans, starts["memories"])
    links = layout.FIRST_VALUE + len(table.stored)
    for span in spans:
        kept = table.windows[span]
        ends = []
        rows: tuple[tuple[str, list[tuple[int, ...]]], ...] = (
            ("sums", [
                (kind, NONE if value == NONE else layout.FIRST_VALUE + value, lane, places.at["sums", span, place])
                for place, (kind, value, lane) in enumerate(kept.sums)
            ]),
            ("pointers", [
                (starts["chains"] + chain, places.at["pointers", span, place])
                for place, chain in enumerate(kept.pointers)
            ]),
            ("counters", [
                (starts["distincts"] + distinct, places.at["counters", span, place])
                for place, distinct in enumerate(kept.counters)
            ]),
        )  # fmt: skip
        for name, one in rows:
            ends += [len(arrays[name]), len(arrays[name]) + len(one)]
            arrays[name] += one
        delay, duration = span
        arrays["windows"].append((duration, delay, places.at["window", span], *ends))
    arrays["lanes"] += table.lanes
    arrays["stored"] += table.stored
    for place, (kind, lane, value, horizon) in enumerate(table.memories):
        arrays["memories"].append((kind, lane, value, places.at["memories", place], horizon, 0))
    for value, steps in table.rings.items():
        arrays["memories"].append((layout.RING, 0, value, places.at["ring", value], 0, steps))
    for c, (sign, value, lane) in enumerate(table.chains):
        front = max((span for span in spans if c in table.windows[span].pointers), key=spans.index)
        pointer = places.at["pointers", front, table.windows[front].pointers.index(c)]
        arrays["chains"].append((sign, layout.FIRST_VALUE + value, lane, links + 2 * c, places.at["chain", c], pointer))
    for d, (lane, value) in enumerate(table.distincts):
        longest = max(span[1] for span in spans if d in table.windows[span].counters)
        pairs.append(_pair_table(entities + len(pairs), table.horizon_us))
        arrays["distincts"].append(
            (lane, layout.FIRST_VALUE + value, len(table.lanes) + d, entities + len(pairs) - 1, longest)
        )
    for kind, register, reads in sorted(table.outputs, key=lambda output: output[0] >= layout.OUT_LAG):
        arrays["outputs"].append((kind, register, *places.output(kind, reads)))
    event = links + 2 * len(table.chains)
    key_1, key_2 = (*table.keys, NONE)[:2]
    ranges = {name: (starts[name], len(arrays[name])) for name in parts}
    arrays["tables"].append((
        key_1, key_2, 2 * number, table.source, table.horizon_us, places.words, event, 1 + event * layout.EVENTS,
        *ranges["windows"], *ranges["lanes"], *ranges["stored"], *ranges["memories"], *ranges["chains"],
        *ranges["distincts"], *ranges["outputs"],
    ))  # fmt: skip


def _pair_table(number: int, horizon_us: int) -> tuple[int, ...]:
    """Return the table of the values that one distinct count has seen: a record has no more than its first words."""
    return (
        NONE, NONE, 2 * number, layout.FROM_VALUES, horizon_us, layout.FIRST_WORD, 0, 0, *(0,) * 14,
    )  # fmt: skip


class _Places:
    """Where in a record each kept thing lies."""

    def __init__(self, table: Table, spans: Sequence[Span], first_memory: int) -> None:
        first_ring = first_memory + len(table.memories)
        self._table = table
        self._rings = {value: first_ring + place for place, value in enumerate(table.rings)}
        self.words = layout.FIRST_WORD
        self.at: dict[tuple[Any, ...], int] = {}
        for span in spans:  # together, since they are looked at together
            self._take(("window", span), layout.DELAYED_WORDS if span[0] else layout.WINDOW_WORDS)
        for span in spans:
            kept = table.windows[span]
            for place, (kind, _, _) in enumerate(kept.sums):
                words = layout.SUM_WORDS if kind > layout.WHOLE else layout.COUNT_WORDS
                self._take(("sums", span, place), words)
            for place in range(len(kept.pointers)):
                self._take(("pointers", span, place), layout.POINTER_WORDS)
            for place in range(len(kept.counters)):
                self._take(("counters", span, place), layout.COUNT_WORDS)
        for place in range(len(table.chains)):
            self._take(("chain", place), layout.POINTER_WORDS)
        for place, (kind, *_) in enumerate(table.memories):
            self._take(("memories", place), layout.SPELL_WORDS if kind == layout.SPELL else layout.MEMORY_WORDS)
        for value, steps in table.rings.items():
            self._take(("ring", value), layout.FIRST_STEP + steps)

    def _take(self, what: tuple[Any, ...], words: int) -> None:
        self.at[what] = self.words
        self.words += words

    def output(self, kind: int, reads: Any) -> tuple[int, int, int, int]:
        """Return the four operands of an output."""
        if kind == layout.OUT_SUM:
            return self.at[reads], 0, 0, 0
        if kind == layout.OUT_STD:
            count, total, squares = reads
            return self.at[count], self.at[total], self.at[squares], 0
        if kind in _FROM_RINGS:
            value, steps, horizon = reads
            return self._rings[NONE], self._rings[value], steps, horizon
        if kind == layout.OUT_EXTREMUM:
            span, place = reads[1:]
            chain = self._table.windows[span].pointers[place]
            return self.at[reads], layout.FIRST_VALUE + self._table.chains[chain][1], 0, 0
        memory, horizon = reads
        return (layout.WATERMARK if memory is None else self.at[memory]), horizon, 0, 0


def matrix(rows: Sequence[tuple[int, ...]], columns: int) -> Ints:
    """Return rows as an int64 matrix, also where there is none."""
    return np.asarray(rows, dtype=np.int64).reshape(-1, columns)
