"""A feature plan divided into shares that can be computed apart: one for each kind of entity, and what joins them.

What a history says of a transaction depends on the other transactions of the same entity, and on nothing else but the
clock. So each kind of entity gets a plan of its own, whose rows may be spread over machines by that entity's key; what
all kinds say of a row is then put together by the operators that need no history.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from tollgate.features.arrivals import NOT_FRAUD, Arrivals, Times
from tollgate.features.declaration import Expr, nodes
from tollgate.features.engine import DEFAULT_MAX_BYTES, FeatureEngine
from tollgate.features.plan import FeaturePlan, compile_plan
from tollgate.schema import Column, Kind, Schema
from tollgate.transaction import Batch

Floats = NDArray[np.float64]

_HISTORIES = {
    "window", "since_last", "since_first", "last", "is_new", "lag", "since_lag", "median", "mad",
    "fraud_count", "since_fraud", "since_first_fraud", "fraud_spell_count",
}  # fmt: skip
_OF_A_COLUMN = {"last", "lag"}  # they hold what the column holds, a category as well
_PREFIX = "history_"
_JOIN_MAX_BYTES = 2**20  # of state: joining has none


@dataclass(frozen=True, slots=True)
class Share:
    """What one kind of entity is asked.

    Attributes:
        entity: The entity column by whose key rows may be spread: rows of one key must stay together, in order.
        plan: The H histories of it, as features over the same schema.
        places: Which of the joined columns they are, (H,).
        keys: Which entities, and `values` which values of a batch the plan reads; the others may be left out.
    """

    entity: str
    plan: FeaturePlan
    places: tuple[int, ...]
    keys: tuple[int, ...]
    values: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Division:
    """A plan in shares.

    Attributes:
        plan: The whole.
        shares: One for each kind of entity that has a history.
        joined: The features, over the schema and a column for each of the J histories.
    """

    plan: FeaturePlan
    shares: tuple[Share, ...]
    joined: FeaturePlan

    @property
    def histories(self) -> int:
        """How many columns the shares give together."""
        return sum(len(share.places) for share in self.shares)


def divide(plan: FeaturePlan) -> Division:
    """Return the shares of a plan. A pair of entities goes to one of the two, which has a history of its own if any."""
    known: dict[tuple[object, ...], int] = {}
    histories: list[Expr] = []
    for feature in plan.features:
        for one in nodes(feature):
            if one.op in _HISTORIES and one.identity not in known:
                known[one.identity] = len(histories)
                histories.append(one)
    alone = {one.param["entity"][0] for one in histories if len(one.param["entity"]) == 1}
    entities = [_kept_by(one, alone) for one in histories]
    shares = []
    for name in dict.fromkeys(entities):
        places = tuple(place for place, entity in enumerate(entities) if entity == name)
        shares.append(_share(plan, name, places, [histories[place] for place in places]))
    columns = {f"{_PREFIX}{place}": Column(_kind(one, plan.schema)) for place, one in enumerate(histories)}
    schema = Schema({**plan.schema.columns, **columns}, plan.schema.ignore)
    joined = compile_plan([_joined(feature, known) for feature in plan.features], schema, plan.money_scale)
    assert not joined.program.state.tables.size  # else an operator with a history is not in _HISTORIES
    return Division(plan, tuple(shares), joined)


def _kept_by(history: Expr, alone: set[str]) -> str:
    columns: list[str] = sorted(history.param["entity"])  # a pair is the same either way round, and must stay with one
    return next((name for name in columns if name in alone), columns[0])


def _share(plan: FeaturePlan, entity: str, places: tuple[int, ...], histories: list[Expr]) -> Share:
    schema = plan.schema
    named = [one.named(f"{_PREFIX}{place}") for place, one in zip(places, histories, strict=True)]
    read = {one.param["name"] for history in histories for one in nodes(history) if one.op == "column"}
    read |= {name for history in histories for name in history.param["entity"]} | {entity}
    return Share(
        entity,
        compile_plan(named, schema, plan.money_scale),
        places,
        tuple(place for place, name in enumerate(schema.entities) if name in read),
        tuple(place for place, name in enumerate(schema.values) if name in read),
    )


def _kind(history: Expr, schema: Schema) -> Kind:
    of = history
    while of.op in _OF_A_COLUMN:
        of = of.args[0]
    column = schema.columns.get(of.param["name"]) if of.op == "column" else None
    is_category = history.op in _OF_A_COLUMN and column is not None and column.kind is Kind.CATEGORY
    return Kind.CATEGORY if is_category else Kind.NUMBER


def _joined(expr: Expr, known: dict[tuple[object, ...], int]) -> Expr:
    if expr.op in _HISTORIES:
        return Expr("column", params=(("name", f"{_PREFIX}{known[expr.identity]}"),), name=expr.name)
    return replace(expr, args=tuple(_joined(arg, known) for arg in expr.args))


class ShareReplay:
    """Replays the rows of some entities of one kind, in arrival order, as if all the other rows were there.

    They are felt through the clock alone: a late row is applied at most one horizon behind the newest effective time
    of all rows, and a label waits for that time. A row without entities, put before one that is late, tells it.
    """

    def __init__(self, plan: FeaturePlan, max_bytes: int = DEFAULT_MAX_BYTES) -> None:
        """Begin without history.

        Args:
            plan: Of a share.
            max_bytes: The most that the state may take, as for `FeatureEngine`.
        """
        self.engine = FeatureEngine(plan, max_bytes)
        self._arrivals = Arrivals(self.engine)
        self._clock = np.iinfo(np.int64).min

    def observe(self, batch: Batch, clock_us: Times, fraud_known_us: Times | None = None) -> Floats:
        """Return what the histories say of the next N of the rows, float64 (N, H).

        Args:
            batch: The rows.
            clock_us: The newest effective time of all rows up to and with each of them, int64 (N,).
            fraud_known_us: When each became or becomes known as fraud, int64 (N,); `NOT_FRAUD` for the others.

        Raises:
            CapacityError: The state is full.
        """
        if not len(batch):
            return np.empty((0, len(self.engine.plan.names)))
        before = np.concatenate(([self._clock], clock_us[:-1]))
        untold = (batch.time_us < clock_us) & (before < clock_us)
        self._clock = int(clock_us[-1])
        if not untold.any():
            return self._arrivals.observe(batch, fraud_known_us)
        rows = np.repeat(np.arange(len(batch)), 1 + untold)
        tells = np.zeros(len(rows), dtype=np.bool_)
        tells[np.flatnonzero(untold) + np.arange(np.count_nonzero(untold))] = True
        told = batch.take(rows)
        told.time_us[tells] = clock_us[rows[tells]]
        told.keys[:, tells] = 0
        told.values[:, tells] = np.nan
        known = None if fraud_known_us is None else np.where(tells, NOT_FRAUD, fraud_known_us[rows])
        return self._arrivals.observe(told, known)[~tells]


class Joining:
    """Computes the features of rows from what the shares said of them."""

    def __init__(self, division: Division) -> None:
        """Join the shares of `division`."""
        self._engine = FeatureEngine(division.joined, _JOIN_MAX_BYTES)

    def observe(self, batch: Batch, histories: Floats) -> Floats:
        """Return the features of N rows, float64 (N, F).

        Args:
            batch: The rows, in any order.
            histories: What the shares said, float64 (N, J), by their places.
        """
        values = np.concatenate((batch.values, histories.T))
        schema = self._engine.plan.schema
        return self._engine.observe(Batch(schema, batch.ids, batch.time_us, batch.keys, values))
