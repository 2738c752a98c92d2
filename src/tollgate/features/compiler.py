"""Gives every distinct expression one register, and every kind of entity one table."""

from __future__ import annotations

import difflib
from typing import Any

from tollgate.duration import SECOND_US
from tollgate.errors import ConfigError
from tollgate.features import layout
from tollgate.features.aggregates import AGGREGATES, Window
from tollgate.features.declaration import Expr, constant
from tollgate.features.layout import NONE
from tollgate.features.operators import ROW_OPERATORS
from tollgate.features.tables import Span, Table
from tollgate.hashing import category_code
from tollgate.schema import EFFECTIVE_TIME, Kind, Schema

_RECENCY = {
    "since_last": layout.OUT_AGE,
    "is_new": layout.OUT_NEW,
    "last": layout.OUT_VALUE,
    "since_first": layout.OUT_FIRST,
}
_FRAUDS = {
    "since_fraud": (layout.LAST, layout.OUT_AGE),
    "since_first_fraud": (layout.SPELL, layout.OUT_SPELL_AGE),
    "fraud_spell_count": (layout.SPELL, layout.OUT_SPELL_COUNT),
}


class Compiler:
    """Turns expressions into operators over registers and tables of state."""

    def __init__(self, schema: Schema, money_scale: float) -> None:
        self._schema = schema
        self._money_scale = money_scale
        self._columns = {name: place for place, name in enumerate(schema.values)}
        self._clock = len(self._columns)
        self.registers = self._clock + 1
        self._known: dict[tuple[Any, ...], int] = {}
        self._stateful: set[int] = set()
        self.constants: dict[int, float] = {}
        self.zones: list[str] = []
        self.codes: list[tuple[int, int]] = []
        self.before: list[tuple[int, ...]] = []
        self.after: list[tuple[int, ...]] = []
        self.tables: dict[tuple[int, tuple[int, ...]], Table] = {}

    def register(self, expr: Expr) -> int:
        """Return the register that will hold `expr`."""
        identity = expr.identity
        if identity not in self._known:
            self._known[identity] = self._build(expr)
        return self._known[identity]

    def _new(self) -> int:
        self.registers += 1
        return self.registers - 1

    def _build(self, expr: Expr) -> int:
        match expr.op:
            case "clock":
                return self._clock
            case "register":  # what a window keeps, already placed
                return int(expr.param["index"])
            case "constant":
                return self._constant(expr.param["value"])
            case "column":
                return self._column(expr.param["name"])
            case "category":
                return self._category(expr.args[0])
            case "local_time":
                return self._local_time(expr)
        return self._history(expr) if "entity" in expr.param else self._row(expr)

    def _history(self, expr: Expr) -> int:
        match expr.op:
            case "window":
                return self._window(expr)
            case "lag" | "since_lag":
                return self._lag(expr)
            case "median" | "mad":
                return self._spread(expr)
            case "fraud_count":
                return self._fraud_count(expr)
            case op if op in _FRAUDS:
                return self._frauds(expr)
            case op if op in _RECENCY:
                return self._recency(expr)
        return self._row(expr)

    def _constant(self, value: object) -> int:
        if isinstance(value, str):
            raise ConfigError("bad_feature", f"the text {value!r} can only be compared (== or !=) with a category")
        register = self._new()
        self.constants[register] = float(value)  # type: ignore[arg-type]
        return register

    def _raw(self, name: str) -> int:
        if name not in self._columns:
            known = [*self._columns, *self._schema.entities]
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean '{close[0]}'?" if close else f"; there are: {', '.join(known)}"
            raise ConfigError("bad_feature", f"the schema has no value column '{name}'{hint}")
        return self._columns[name]

    def _kind(self, expr: Expr) -> Kind | None:
        """Return the kind of a column, or of the column that a memory holds."""
        if expr.op in ("last", "lag"):
            return self._kind(expr.args[0])
        name = expr.param["name"] if expr.op == "column" else ""
        column = self._schema.columns.get(name)
        return column.kind if column else None

    def _column(self, name: str) -> int:
        column = self._schema.columns.get(name)  # a location's halves are not columns of their own
        kind = column.kind if column else Kind.NUMBER
        if kind is Kind.ENTITY:
            raise ConfigError("bad_feature", f"'{name}' is an entity: it has a history, but is no value by itself")
        raw = self._clock if name == EFFECTIVE_TIME else self._raw(name)
        if kind is Kind.CATEGORY:
            raise ConfigError("bad_feature", f"'{name}' is a category; use tx.{name}.category() or compare it")
        return self._scaled(raw, {Kind.MONEY: self._money_scale, Kind.TIMESTAMP: float(SECOND_US)}.get(kind, 1.0))

    def _scaled(self, register: int, scale: float) -> int:
        return register if scale == 1.0 else self._emit("div", register, self.register(constant(scale)))

    def _any(self, expr: Expr) -> int:
        """Return the register of a value that is only compared or told apart: an entity or a category will do."""
        kind = self._kind(expr)
        if expr.op == "column" and kind is Kind.CATEGORY:
            return self._raw(expr.param["name"])
        if expr.op == "column" and kind is Kind.ENTITY:
            return self._code(expr.param["name"])
        return self.register(expr)

    def _code(self, name: str) -> int:
        identity = ("code", name)
        if identity not in self._known:
            self._known[identity] = self._new()
            self.codes.append((self._schema.entities.index(name), self._known[identity]))
        return self._known[identity]

    def _category(self, expr: Expr) -> int:
        if self._kind(expr) is not Kind.CATEGORY:
            raise ConfigError("bad_feature", "expected a category column of the schema before .category()")
        return self._any(expr)

    def _row(self, expr: Expr) -> int:
        operator = ROW_OPERATORS.get(expr.op)
        if operator is None or len(expr.args) != operator.arity:
            raise ConfigError("bad_feature", f"expected a known operator, but got '{expr.op}'")
        if expr.op not in ("eq", "ne"):
            return self._emit(expr.op, *(self.register(arg) for arg in expr.args))
        texts = [arg for arg in expr.args if arg.op == "constant" and isinstance(arg.param["value"], str)]
        if len(texts) == 1:
            other = expr.args[0] if expr.args[1] is texts[0] else expr.args[1]
            code = constant(category_code(texts[0].param["value"]))
            return self._emit(expr.op, self._category(other), self.register(code))
        return self._emit(expr.op, *(self._any(arg) for arg in expr.args))

    def _emit(self, op: str, *args: int) -> int:
        register = self._new()
        stateful = not self._stateful.isdisjoint(args)
        if stateful:
            self._stateful.add(register)
        padded = (*args, *(args[-1],) * (4 - len(args)))
        (self.after if stateful else self.before).append((ROW_OPERATORS[op].code, register, *padded))
        return register

    def _local_time(self, expr: Expr) -> int:
        zone = expr.param["zone"]
        if zone not in self.zones:
            self.zones.append(zone)
        register, clock = self._new(), self.register(expr.args[0])
        self.before.append((ROW_OPERATORS["local_time"].code, register, clock, self.zones.index(zone), 0, 0))
        return register

    def table(self, columns: tuple[str, ...], source: int = layout.FROM_TRANSACTIONS) -> Table:
        """Return the table of an entity, made on first use."""
        entities = self._schema.entities
        for name in columns:
            if name not in entities:
                raise ConfigError(
                    "bad_feature", f"the schema has no entity '{name}'; there are: {', '.join(entities) or 'none'}"
                )
        keys = tuple(sorted(entities.index(name) for name in columns))  # a pair is the same either way round
        return self.tables.setdefault((source, keys), Table(keys, source))

    def output(self, table: Table, kind: int, reads: Any) -> int:
        """Return the register of something read from a record."""
        identity = ("output", id(table), kind, reads)
        if identity not in self._known:
            register = self._known[identity] = self._new()
            self._stateful.add(register)
            table.outputs.append((kind, register, reads))
        return self._known[identity]

    def _recency(self, expr: Expr) -> int:
        param, kind = expr.param, _RECENCY[expr.op]
        table, horizon = self.table(param["entity"]), param["within_us"]
        table.see(horizon)
        where = self.fresh(self.register(expr.args[-1])) if param["where"] else NONE
        value = self.fresh(self._any(expr.args[0])) if expr.op == "last" else NONE
        if kind == layout.OUT_FIRST:
            return self.output(table, kind, (table.add_memory(layout.FIRST, 0, NONE, horizon), horizon))
        if where == value == NONE:
            return self.output(table, kind, (None, horizon))  # the watermark remembers it already
        memory = table.add_memory(layout.LAST, table.lane(where, value), value, horizon)
        return self.output(table, kind, (memory, horizon))

    def _lag(self, expr: Expr) -> int:
        param, of = expr.param, expr.args[0] if expr.args else None
        table, horizon = self.table(param["entity"]), param["within_us"]
        table.see(horizon)
        if of is None:
            table.add_ring(NONE, param["step"])
            return self.output(table, layout.OUT_LAG_AGE, (NONE, param["step"], horizon))
        money = self._is_money(of)  # in minor units, so that a median shares the ring
        value = self.value(of) if money else self.fresh(self._any(of))
        table.add_ring(value, param["step"])
        lag = self.output(table, layout.OUT_LAG, (value, param["step"], horizon))
        return self._scaled(lag, self._money_scale if money else 1.0)

    def _spread(self, expr: Expr) -> int:
        param, of = expr.param, expr.args[0]
        table, horizon = self.table(param["entity"]), param["within_us"]
        table.see(horizon)
        value = self.value(of)
        table.add_ring(value, param["last"])
        kind = layout.OUT_MEDIAN if expr.op == "median" else layout.OUT_MAD
        spread = self.output(table, kind, (value, param["last"], horizon))
        return self._scaled(spread, self._money_scale if self._is_money(of) else 1.0)

    def fresh(self, register: int) -> int:
        """Return a register that what is kept may depend on.

        Raises:
            ConfigError: It reads history: the state would depend on itself.
        """
        if register in self._stateful:
            raise ConfigError("bad_feature", "a history cannot look at a feature that reads history itself")
        return register

    def _window(self, expr: Expr) -> int:
        param = expr.param
        aggregate = AGGREGATES.get(param["aggregate"])
        if aggregate is None:
            raise ConfigError("bad_feature", f"expected an aggregate of {sorted(AGGREGATES)}, got {param['aggregate']}")
        value = expr.args[0] if len(expr.args) > int(param["where"]) else None
        money = value is not None and self._is_money(value) and param["aggregate"] != "distinct"
        keep = _Keep(
            self,
            self.table(param["entity"]),
            (param["delay_us"], param["over_us"]),
            self.fresh(self.register(expr.args[-1])) if param["where"] else NONE,
        )
        scale = self._money_scale if money else 1.0
        return self.register(aggregate(Window(keep, value, scale, delayed=param["delay_us"] > 0)))

    def _fraud_count(self, expr: Expr) -> int:
        table = self.table(expr.param["entity"], layout.FROM_LABELS)
        span = (0, expr.param["over_us"])
        return self.output(table, layout.OUT_SUM, table.add_sum(span, layout.COUNT, NONE, NONE))

    def _frauds(self, expr: Expr) -> int:
        kind, output = _FRAUDS[expr.op]
        table, horizon = self.table(expr.param["entity"], layout.FROM_LABELS), expr.param["within_us"]
        table.see(horizon)
        return self.output(table, output, (table.add_memory(kind, table.lane(NONE, NONE), NONE, horizon), horizon))

    def _is_money(self, expr: Expr) -> bool:
        return expr.op == "column" and self._kind(expr) is Kind.MONEY

    def value(self, expr: Expr, *, distinct: bool = False) -> int:
        """Return the register of a value that is kept to be computed with: money in whole minor units."""
        if self._is_money(expr):
            return self._raw(expr.param["name"])
        return self.fresh(self._any(expr) if distinct else self.register(expr))

    def is_whole(self, expr: Expr) -> bool:
        """Whether what is stored of a value is always a whole number: money in minor units, a flag."""
        return self._kind(expr) in (Kind.MONEY, Kind.FLAG)

    def is_always_there(self, expr: Expr) -> bool:
        """Whether a value can never be missing: then the plain count of events serves for it."""
        return expr.op == "column" and expr.param["name"] in self._schema.columns and (
            self._schema.columns[expr.param["name"]].required
        )  # fmt: skip


class _Keep:
    """What one window of one entity keeps, as `aggregates.Keep` asks for it."""

    def __init__(self, compiler: Compiler, table: Table, span: Span, where: int) -> None:
        self._compiler = compiler
        self._table = table
        self._span = span
        self._where = where

    def _read(self, kind: int, reads: Any) -> Expr:
        return Expr("register", params=(("index", self._compiler.output(self._table, kind, reads)),))

    def _sum(self, kind: int, value: Expr | None) -> tuple[str, Span, int]:
        absent = value is None or (kind == layout.COUNT and self._compiler.is_always_there(value))
        register = NONE if value is None or absent else self._compiler.value(value)
        return self._table.add_sum(self._span, kind, self._where, register)

    def count(self, value: Expr | None) -> Expr:
        return self._read(layout.OUT_SUM, self._sum(layout.COUNT, value))

    def sum(self, value: Expr) -> Expr:
        kind = layout.WHOLE if self._compiler.is_whole(value) else layout.SUM
        return self._read(layout.OUT_SUM, self._sum(kind, value))

    def std(self, value: Expr) -> Expr:
        kinds = (layout.COUNT, layout.SUM, layout.SQUARE)
        return self._read(layout.OUT_STD, tuple(self._sum(kind, value) for kind in kinds))

    def extremum(self, value: Expr, sign: int) -> Expr:
        register = self._compiler.value(value)
        reads = self._table.add_extremum(self._span, sign, self._where, register)
        return self._read(layout.OUT_EXTREMUM, reads)

    def distinct(self, value: Expr) -> Expr:
        register = self._compiler.value(value, distinct=True)
        return self._read(layout.OUT_SUM, self._table.add_distinct(self._span, self._where, register))
