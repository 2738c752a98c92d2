"""A feature list, compiled for one schema into the flat program that the kernel runs."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tollgate.duration import SECOND_US
from tollgate.errors import ConfigError
from tollgate.features import kernel
from tollgate.features.aggregates import AGGREGATES, Window
from tollgate.features.declaration import Expr, constant, from_data, to_data
from tollgate.features.heap import MAX_TABLES
from tollgate.features.operators import ROW_OPERATORS
from tollgate.hashing import category_code
from tollgate.schema import EFFECTIVE_TIME, Kind, Schema

MAX_LANES = 63  # bits of an event's mask: different (value, where) pairs of one entity
_NONE = -1

Ints = NDArray[np.int64]


class Program(NamedTuple):
    """What the kernel runs; see the constants of `kernel` for the columns of each array."""

    before: Ints  # (K, 4) row operators that the state reads
    state: tuple[Ints, Ints, Ints, Ints, Ints, Ints]  # tables, windows, sums, lanes, stored values, outputs
    after: Ints  # (K, 4) row operators that read the state
    results: Ints  # (F,) the register of each feature
    constants: tuple[tuple[int, float], ...]  # registers that never change
    registers: int


@dataclass(frozen=True, slots=True)
class FeaturePlan:
    """Features over one schema, ready to run.

    Attributes:
        features: The expressions, in order.
        schema: The schema that they were compiled for.
        money_scale: Minor units in one unit of the base currency.
        program: The compiled form.
    """

    features: tuple[Expr, ...]
    schema: Schema
    money_scale: float
    program: Program

    @property
    def names(self) -> tuple[str, ...]:
        """The F names, in order."""
        return tuple(feature.name for feature in self.features)

    @property
    def categorical(self) -> tuple[bool, ...]:
        """Which features are category codes."""
        return tuple(feature.op == "category" for feature in self.features)

    def to_data(self) -> list[dict[str, Any]]:
        """Return the features as plain data (JSON)."""
        return [to_data(feature) for feature in self.features]


def compile_plan(features: Sequence[Expr], schema: Schema, money_scale: float) -> FeaturePlan:
    """Compile `features` for `schema`.

    Raises:
        ConfigError: A name is used twice, a column does not exist or is of another kind, or an expression is not one
            that can be computed; the message names the feature.
    """
    compiler = _Compiler(schema, money_scale)
    seen: set[str] = set()
    results = []
    for place, feature in enumerate(features):
        if not isinstance(feature, Expr):
            raise ConfigError("bad_feature", f"expected a feature at place {place}, but got {feature!r}")
        if feature.name in seen:
            raise ConfigError("bad_feature", f"two features are called '{feature.name}'; use .named(...)")
        seen.add(feature.name)
        try:
            results.append(compiler.register(feature))
        except ConfigError as error:
            raise ConfigError(error.code, f"feature '{feature.name}': {error.message}", column=feature.name) from None
    if not results:
        raise ConfigError("bad_feature", "expected at least one feature, but the list is empty")
    return FeaturePlan(tuple(features), schema, money_scale, compiler.program(results))


def plan_from_data(data: Sequence[dict[str, Any]], schema: Schema, money_scale: float) -> FeaturePlan:
    """Return the plan of the features that `FeaturePlan.to_data` wrote."""
    return compile_plan([from_data(one) for one in data], schema, money_scale)


@dataclass(slots=True)
class _Table:
    """The state of one entity while it is laid out."""

    keys: tuple[int, ...]
    lanes: list[tuple[int, int]] = field(default_factory=list)  # (where, value) registers
    stored: list[int] = field(default_factory=list)  # registers whose values an event keeps
    sums: dict[int, list[tuple[int, int]]] = field(default_factory=dict)  # window -> (stored value, lane)
    outputs: list[tuple[int, int, Any]] = field(default_factory=list)  # kind, register, sum or horizon


class _Compiler:
    """Gives every distinct expression one register, and every entity one table."""

    def __init__(self, schema: Schema, money_scale: float) -> None:
        self._schema = schema
        self._money_scale = money_scale
        self._columns = {name: place for place, name in enumerate(schema.values)}
        self._clock = len(self._columns)
        self._count = self._clock + 1
        self._known: dict[tuple[Any, ...], int] = {}
        self._constants: dict[int, float] = {}
        self._stateful: set[int] = set()
        self._before: list[tuple[int, int, int, int]] = []
        self._after: list[tuple[int, int, int, int]] = []
        self._tables: dict[tuple[int, ...], _Table] = {}

    def register(self, expr: Expr) -> int:
        """Return the register that will hold `expr`."""
        identity = expr.identity
        if identity not in self._known:
            self._known[identity] = self._build(expr)
        return self._known[identity]

    def _new(self) -> int:
        self._count += 1
        return self._count - 1

    def _build(self, expr: Expr) -> int:
        match expr.op:
            case "clock":
                return self._clock
            case "register":  # an aggregate's sum, already placed
                return int(expr.param["index"])
            case "constant":
                return self._constant(expr.param["value"])
            case "column":
                return self._column(expr.param["name"])
            case "category":
                return self._category(expr.args[0])
            case "window":
                return self._window(expr)
            case "since_last" | "is_new":
                kind = kernel.OUT_IS_NEW if expr.op == "is_new" else kernel.OUT_SINCE_LAST
                return self._output(self._table(expr.param["entity"]), kind, expr.param["within_us"])
        return self._row(expr)

    def _constant(self, value: object) -> int:
        if isinstance(value, str):
            raise ConfigError("bad_feature", f"the text {value!r} can only be compared (== or !=) with a category")
        register = self._new()
        self._constants[register] = float(value)  # type: ignore[arg-type]
        return register

    def _raw(self, name: str) -> int:
        if name not in self._columns:
            close = difflib.get_close_matches(name, self._columns, n=1)
            hint = f"; did you mean '{close[0]}'?" if close else f"; there are: {', '.join(self._columns)}"
            raise ConfigError("bad_feature", f"the schema has no value column '{name}'{hint}")
        return self._columns[name]

    def _column(self, name: str) -> int:
        raw = self._clock if name == EFFECTIVE_TIME else self._raw(name)
        column = self._schema.columns.get(name)  # a location's halves are not columns of their own
        kind = column.kind if column else Kind.NUMBER
        if kind is Kind.CATEGORY:
            raise ConfigError("bad_feature", f"'{name}' is a category; use tx.{name}.category() or compare it")
        scale = {Kind.MONEY: self._money_scale, Kind.TIMESTAMP: float(SECOND_US)}.get(kind, 1.0)
        return raw if scale == 1.0 else self._emit("div", raw, self.register(constant(scale)))

    def _category(self, expr: Expr) -> int:
        name = expr.param.get("name", "") if expr.op == "column" else ""
        if name not in self._columns or self._schema.columns[name].kind is not Kind.CATEGORY:
            raise ConfigError("bad_feature", "expected a category column of the schema before .category()")
        return self._columns[name]

    def _row(self, expr: Expr) -> int:
        operator = ROW_OPERATORS.get(expr.op)
        if operator is None or len(expr.args) != operator.arity:
            raise ConfigError("bad_feature", f"expected a known operator, but got '{expr.op}'")
        texts = [a for a in expr.args if a.op == "constant" and isinstance(a.param["value"], str)]
        if expr.op in ("eq", "ne") and len(texts) == 1:
            other = expr.args[0] if expr.args[1] is texts[0] else expr.args[1]
            code = constant(category_code(texts[0].param["value"]))
            return self._emit(expr.op, self._category(other), self.register(code))
        return self._emit(expr.op, *(self.register(arg) for arg in expr.args))

    def _emit(self, op: str, a: int, b: int | None = None) -> int:
        register = self._new()
        b = a if b is None else b
        stateful = bool({a, b} & self._stateful)
        if stateful:
            self._stateful.add(register)
        (self._after if stateful else self._before).append((ROW_OPERATORS[op].code, register, a, b))
        return register

    def _table(self, columns: tuple[str, ...]) -> _Table:
        entities = self._schema.entities
        for name in columns:
            if name not in entities:
                raise ConfigError(
                    "bad_feature",
                    f"the schema has no entity '{name}'; there are: {', '.join(entities) or 'none'}",
                )
        keys = tuple(sorted(entities.index(name) for name in columns))  # a pair is the same either way round
        if keys not in self._tables and len(self._tables) == MAX_TABLES:
            raise ConfigError("bad_feature", f"a feature list has at most {MAX_TABLES} different entities and pairs")
        return self._tables.setdefault(keys, _Table(keys))

    def _output(self, table: _Table, kind: int, parameter: Any) -> int:
        register = self._new()
        self._stateful.add(register)
        table.outputs.append((kind, register, parameter))
        return register

    def _window(self, expr: Expr) -> int:
        param = expr.param
        aggregate = AGGREGATES.get(param["aggregate"])
        if aggregate is None:
            raise ConfigError("bad_feature", f"expected an aggregate of {sorted(AGGREGATES)}, got {param['aggregate']}")
        table, duration = self._table(param["entity"]), param["over_us"]
        where = self.register(expr.args[-1]) if param["where"] else _NONE
        value = expr.args[0] if len(expr.args) > int(param["where"]) else None
        column = value.param["name"] if value is not None and value.op == "column" else ""
        money = self._is_money(column)

        def read(expr: Expr | None, *, summed: bool) -> Expr:
            register = _NONE if expr is None else self._raw(expr.param["name"]) if money else self.register(expr)
            if {register, where} & self._stateful:
                raise ConfigError("bad_feature", "a window cannot look at a feature that reads history itself")
            if not summed and money and self._schema.columns[column].required:
                register = _NONE  # never missing: the plain count of events serves
            identity = ("sum", table.keys, duration, where, register, summed)
            if identity not in self._known:
                cell = _add_sum(table, duration, where, register, summed=summed)
                self._known[identity] = self._output(table, kernel.OUT_SUM, cell)
            return Expr("register", params=(("index", self._known[identity]),))

        window = Window(
            sum_of=lambda of: read(of, summed=True),
            count_of=lambda of: read(of, summed=False),
            value=value,
            scale=self._money_scale if money else 1.0,
        )
        return self.register(aggregate(window))

    def _is_money(self, name: str) -> bool:
        column = self._schema.columns.get(name)
        return column is not None and column.kind is Kind.MONEY

    def program(self, results: list[int]) -> Program:
        """Lay the tables out and return the compiled program."""
        return Program(
            before=_matrix(self._before, 4),
            state=_lay_out(list(self._tables.values())),
            after=_matrix(self._after, 4),
            results=np.asarray(results, dtype=np.int64),
            constants=tuple(self._constants.items()),
            registers=self._count,
        )


def _add_sum(table: _Table, duration: int, where: int, value: int, *, summed: bool) -> tuple[int, int]:
    """Return (window, place in it) of a running sum, or of a count of the events that have the value."""
    lane = (where, value)
    if lane not in table.lanes:
        if len(table.lanes) == MAX_LANES:
            raise ConfigError("bad_feature", f"one entity has at most {MAX_LANES} different (value, where) pairs")
        table.lanes.append(lane)
    if summed and value not in table.stored:
        table.stored.append(value)
    sums = table.sums.setdefault(duration, [])
    sums.append((table.stored.index(value) if summed else _NONE, table.lanes.index(lane)))
    return duration, len(sums) - 1


def _lay_out(entities: list[_Table]) -> tuple[Ints, Ints, Ints, Ints, Ints, Ints]:
    tables: list[tuple[int, ...]] = []
    windows: list[tuple[int, ...]] = []
    sums: list[tuple[int, ...]] = []
    lanes: list[tuple[int, ...]] = []
    stored: list[int] = []
    outputs: list[tuple[int, ...]] = []
    for salt, table in enumerate(entities):
        offset = kernel.FIRST_WINDOW
        first = (len(windows), len(sums), len(lanes), len(stored), len(outputs))
        durations = sorted(table.sums)  # the longest last: it frees the events
        tails = {duration: offset + kernel.WINDOW_WORDS * place for place, duration in enumerate(durations)}
        offset += kernel.WINDOW_WORDS * len(durations)
        offsets: dict[tuple[int, int], int] = {}
        for duration in durations:
            start = len(sums)
            for place, (value, lane) in enumerate(table.sums[duration]):
                offsets[duration, place] = offset
                sums.append((_NONE if value == _NONE else 2 + value, lane, offset))
                offset += kernel.COUNT_WORDS if value == _NONE else kernel.SUM_WORDS
            windows.append((duration, tails[duration], start, len(sums)))
        lanes += table.lanes
        stored += table.stored
        for kind, register, parameter in table.outputs:
            outputs.append((kind, register, offsets[parameter] if kind == kernel.OUT_SUM else parameter))
        event = 2 + len(table.stored)
        block = 1 + event * kernel.EVENTS
        key_1, key_2 = (*table.keys, _NONE)[:2]
        tables.append((
            key_1, key_2, 2 * salt, first[0], len(windows), first[1], len(sums), first[2], len(lanes),
            first[3], len(stored), first[4], len(outputs), offset, event, block,
        ))  # fmt: skip
    return (
        _matrix(tables, kernel.TABLE_COLUMNS),
        _matrix(windows, kernel.WINDOW_COLUMNS),
        _matrix(sums, kernel.SUM_COLUMNS),
        _matrix(lanes, kernel.LANE_COLUMNS),
        np.asarray(stored, dtype=np.int64),
        _matrix(outputs, kernel.OUTPUT_COLUMNS),
    )


def _matrix(rows: Sequence[tuple[int, ...]], columns: int) -> Ints:
    return np.asarray(rows, dtype=np.int64).reshape(-1, columns)
