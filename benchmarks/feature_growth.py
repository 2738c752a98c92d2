"""How the cost of an event grows with the length of the windows and with the number of entities."""

from __future__ import annotations

import time
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tollgate.duration import DAY_US
from tollgate.features import FeatureEngine, entity, tx
from tollgate.features.plan import compile_plan
from tollgate.schema import Column, Kind, Schema
from tollgate.transaction import Batch

_SCHEMA = Schema(
    {
        "transaction_id": Column(Kind.ID),
        "effective_time": Column(Kind.TIMESTAMP),
        "amount": Column(Kind.MONEY, currency="EUR", required=True),
        "card_id": Column(Kind.ENTITY, required=True),
    }
)
_START_US = 20_000 * DAY_US
_ROWS = 16_384
_ROUNDS = 3  # of which the fastest counts: another process only ever slows a round down
_LINE_WORDS = 8  # 64 bytes
_CARD = entity("card_id")


class EntityGrowth(NamedTuple):
    """The cost of an event with few and with many entities, and what memory itself costs there.

    Attributes:
        few_ns: An event among few entities.
        many_ns: An event among many.
        lines: Cache lines of state that an event of a rarely seen entity touches: index, record, events.
        line_ns: What reading one more line at random costs in a state as large as the larger one.
    """

    few_ns: float
    many_ns: float
    lines: int
    line_ns: float

    @property
    def beyond_misses(self) -> float:
        """The growth without the cost of fetching those lines."""
        return (self.many_ns - self.lines * self.line_ns) / self.few_ns


def _batches(cards: NDArray[np.int64], time_us: NDArray[np.int64], rng: np.random.Generator) -> list[Batch]:
    keys = (cards.astype(np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)  # odd: no two cards share a key
    values = np.stack([time_us.astype(np.float64), rng.integers(1, 100_000, len(cards)).astype(np.float64)])
    whole = Batch(_SCHEMA, range(len(cards)), time_us, keys[None], values)  # type: ignore[arg-type]
    return [whole.take(slice(start, start + _ROWS)) for start in range(0, len(cards), _ROWS)]


def _observe(engine: FeatureEngine, batches: list[Batch]) -> float:
    """Return nanoseconds an event."""
    start = time.perf_counter_ns()
    for batch in batches:
        engine.observe(batch)
    return (time.perf_counter_ns() - start) / sum(len(batch) for batch in batches)


def by_window(rng: np.random.Generator, window: str, events: int, cards: int) -> float:
    """Return what an event costs with every window that long, nanoseconds, once the longest window is full.

    The stream lasts 60 days, so that 30-day windows lose as many events as they win in the half that is timed.
    """
    features = [_CARD.count(over=window), *(
        getattr(_CARD, name)(tx.amount, over=window) for name in ("sum", "mean", "std", "max")
    )]  # fmt: skip
    time_us = _START_US + np.sort(rng.integers(0, 60 * DAY_US, events))
    batches = _batches(rng.integers(0, cards, events), time_us, rng)
    half = max(len(batches) // 2, 1)
    costs = []
    for _ in range(_ROUNDS):
        engine = FeatureEngine(compile_plan(features, _SCHEMA, 100.0))
        _observe(engine, batches[:half])
        costs.append(_observe(engine, batches[half:]))
    return min(costs)


def by_entities(rng: np.random.Generator, few: int, many: int, events: int) -> EntityGrowth:
    """Return what an event of a random card costs where so many cards are known."""
    features = [*_CARD.count(over=["1h", "1d"]), _CARD.sum(tx.amount, over="1d")]
    costs = []
    state_bytes = 0
    for cards in (few, many):
        engine = FeatureEngine(compile_plan(features, _SCHEMA, 100.0))
        for start in range(0, cards, _ROWS):
            numbers = np.arange(start, min(start + _ROWS, cards))
            _observe(engine, _batches(numbers, np.full(len(numbers), _START_US), rng))
        rounds = []
        for number in range(_ROUNDS):
            start_us = _START_US + number * DAY_US // 8
            time_us = start_us + np.sort(rng.integers(0, DAY_US // 8, events))
            rounds.append(_observe(engine, _batches(rng.integers(0, cards, events), time_us, rng)))
        costs.append(min(rounds))
        state_bytes = engine.state_bytes
    return EntityGrowth(*costs, lines=5, line_ns=_line_ns(rng, state_bytes))


def longest_call_ms(rng: np.random.Generator, cards: int, rows: int = 64) -> tuple[float, float]:
    """Return the 99.9th percentile and the longest of all calls that bring `cards` new entities, `rows` a call.

    A hash table that is rehashed at once would stop for seconds at such a size. Of several rounds the best longest one
    counts: a rehash would be in each of them, an interruption by another process is not.
    """
    rounds = [_calls_ms(rng, cards, rows) for _ in range(_ROUNDS)]
    return min(rounds)[0], min(longest for _, longest in rounds)


def _calls_ms(rng: np.random.Generator, cards: int, rows: int) -> tuple[float, float]:
    engine = FeatureEngine(compile_plan([*_CARD.count(over=["1h", "1d"])], _SCHEMA, 100.0))
    spent = []
    for start in range(0, cards, _ROWS):
        (part,) = _batches(np.arange(start, start + _ROWS), np.full(_ROWS, _START_US), rng)
        for batch in [part.take(slice(at, at + rows)) for at in range(0, _ROWS, rows)]:
            begun = time.perf_counter_ns()
            engine.observe(batch)
            spent.append(time.perf_counter_ns() - begun)
    return float(np.percentile(spent, 99.9)) / 1e6, max(spent) / 1e6


def _line_ns(rng: np.random.Generator, state_bytes: int) -> float:
    """Return nanoseconds for reading one cache line at random among so many bytes, beyond one that is in cache."""
    lines = state_bytes // 8 // _LINE_WORDS
    memory = np.zeros(lines * _LINE_WORDS, dtype=np.int64)
    memory[::_LINE_WORDS] = 1
    reads = 1_000_000
    costs = []
    for among in (1_000, lines):
        places = rng.integers(0, among, reads) * _LINE_WORDS
        start = time.perf_counter_ns()
        memory.take(places).sum()
        costs.append((time.perf_counter_ns() - start) / reads)
    return max(costs[1] - costs[0], 0.0)
