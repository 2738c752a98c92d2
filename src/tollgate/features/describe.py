"""What a feature plan costs, as figures: of each feature by itself, and of each kind of entity in all."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from tollgate.duration import format_duration
from tollgate.features import layout
from tollgate.features.compiler import Compiler
from tollgate.features.declaration import Expr, nodes
from tollgate.features.plan import FeaturePlan
from tollgate.features.tables import State, lay_out
from tollgate.schema import Schema

WORD_BYTES = 8
SLOT_BYTES = 16  # of the index
INDEX_BYTES = (24, 48)  # an entity: it is between one third and two thirds full


class FeatureCost(NamedTuple):
    """What one feature needs, computed as if it were the only one.

    Attributes:
        name: Of the feature.
        entities: Whose histories it reads: `card`, or `card x merchant` for a pair.
        windows: How far it looks, such as `1h`, `7d delay 14d`, `within 90d`, or `last 32 within 90d`.
        needs: What is kept for it, in words.
        steps: Elementary operations for each transaction: row operators, windows moved on, sums updated, memories.
        entity_words: Words of eight bytes in the record of each entity, without the three that every record has.
        event_words: Words in each event, without the two that every event has.
    """

    name: str
    entities: tuple[str, ...]
    windows: tuple[str, ...]
    needs: tuple[str, ...]
    steps: int
    entity_words: int
    event_words: int


class EntityCost(NamedTuple):
    """What the whole plan keeps of one kind of entity; what features share is counted once.

    Attributes:
        name: Of the entity, and of whose events it keeps.
        record_bytes: Of each entity that was seen.
        event_bytes: Of each event in the longest window; 0 where no event is kept.
        block_bytes: The unit in which events take memory: an entity with windows has at least one.
        windows: From the shortest to the longest.
        horizon: How far back any feature looks; after twice that an idle entity is freed.
    """

    name: str
    record_bytes: int
    event_bytes: int
    block_bytes: int
    windows: tuple[str, ...]
    horizon: str


def describe_features(plan: FeaturePlan) -> list[FeatureCost]:
    """Return what each feature needs, in the order of the plan."""
    return [_feature(feature, plan) for feature in plan.features]


def describe_entities(plan: FeaturePlan) -> list[EntityCost]:
    """Return what is kept of each kind of entity, labels and distinct values being kinds of their own."""
    state = plan.program.state
    return [_entity(number, state, plan.schema) for number in range(len(state.tables))]


def entity_name(columns: tuple[str, ...]) -> str:
    """Return how an entity is called: `card`, or `card x merchant` for a pair."""
    return " x ".join(column.removesuffix("_id") for column in columns)


def span_text(duration_us: int, delay_us: int = 0) -> str:
    """Return a window as people write it: `1h`, or `7d delay 14d`."""
    text = format_duration(duration_us)
    return f"{text} delay {format_duration(delay_us)}" if delay_us else text


def _feature(feature: Expr, plan: FeaturePlan) -> FeatureCost:
    compiler = Compiler(plan.schema, plan.money_scale)
    compiler.register(feature)
    state = lay_out(list(compiler.tables.values()))
    tables = state.tables[state.tables[:, layout.SOURCE] != layout.FROM_VALUES]
    events = tables[tables[:, layout.WINDOWS] != tables[:, layout.WINDOWS_END]]
    kept = len(state.sums) + len(state.pointers) + len(state.counters)
    return FeatureCost(
        name=feature.name,
        entities=_unique(entity_name(one.param["entity"]) for one in nodes(feature) if "entity" in one.param),
        windows=_unique(_looks(one) for one in nodes(feature) if "entity" in one.param),
        needs=_unique(_needs(one) for one in nodes(feature) if "entity" in one.param) or ("this transaction",),
        # What enters a window leaves it again, so all that is kept of it is touched twice. A median sorts its values.
        steps=len(compiler.before) + len(compiler.after) + len(state.windows) + 2 * kept
        + len(state.memories) + len(state.outputs) + sum(one.param.get("last", 0) for one in nodes(feature)),
        entity_words=int((tables[:, layout.RECORD_WORDS] - layout.FIRST_WORD).sum()),
        event_words=int((events[:, layout.EVENT_WORDS] - layout.FIRST_VALUE).sum()),
    )  # fmt: skip


def _looks(expr: Expr) -> str:
    param = expr.param
    if "within_us" in param:
        few = f"last {param['last']} " if "last" in param else ""
        return f"{few}within {format_duration(param['within_us'])}"
    return span_text(param["over_us"], param.get("delay_us", 0))


def _needs(expr: Expr) -> str:
    value = expr.args[0].name if expr.args else ""
    match expr.op:
        case "window":
            kept = {
                "count": "count", "sum": f"sum of {value}", "mean": f"count and sum of {value}",
                "std": f"count, sum and sum of squares of {value}", "min": f"queue of minima of {value}",
                "max": f"queue of maxima of {value}", "distinct": f"newest event of each {value}",
            }  # fmt: skip
            return kept[expr.param["aggregate"]]
        case "fraud_count":
            return "labels of fraud"
        case "since_fraud":
            return "time of the last label of fraud"
        case "since_first_fraud" | "fraud_spell_count":
            return "spell of labels of fraud"
        case "lag" | "median" | "mad":
            return f"ring of {value}"
        case "since_lag":
            return "ring of times"
        case "last":
            return f"last {value}"
        case "since_first":
            return "time of the first event"
        case "since_last" if expr.param["where"]:
            return f"time of the last event where {value}"
    return "time of the last event"


def _entity(number: int, state: State, schema: Schema) -> EntityCost:
    table = state.tables[number]
    first, end = int(table[layout.WINDOWS]), int(table[layout.WINDOWS_END])
    spans = state.windows[first:end, [layout.W_DURATION, layout.W_DELAY]].tolist()
    return EntityCost(
        name=_table_name(number, state, schema),
        record_bytes=int(table[layout.RECORD_WORDS]) * WORD_BYTES,
        event_bytes=int(table[layout.EVENT_WORDS]) * WORD_BYTES if spans else 0,
        block_bytes=int(table[layout.BLOCK_WORDS]) * WORD_BYTES if spans else 0,
        windows=tuple(span_text(duration, delay) for duration, delay in spans),
        horizon=format_duration(int(table[layout.HORIZON])),
    )


def _table_name(number: int, state: State, schema: Schema) -> str:
    table = state.tables[number]
    if table[layout.SOURCE] == layout.FROM_VALUES:
        (distinct,) = (state.distincts[:, layout.D_TABLE] == number).nonzero()[0]
        owner = (state.tables[:, layout.DISTINCTS] <= distinct) & (distinct < state.tables[:, layout.DISTINCTS_END])
        return f"distinct values of {_table_name(int(owner.argmax()), state, schema)}"
    keys = [int(key) for key in (table[layout.KEY_1], table[layout.KEY_2]) if key != layout.NONE]
    name = entity_name(tuple(schema.entities[key] for key in keys))
    return f"{name} (labels)" if table[layout.SOURCE] == layout.FROM_LABELS else name


def _unique(texts: Iterator[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(texts))
