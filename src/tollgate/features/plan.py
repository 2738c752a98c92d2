"""A feature list, compiled for one schema into the flat program that the kernel runs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from tollgate.errors import ConfigError
from tollgate.features import layout
from tollgate.features.compiler import Compiler
from tollgate.features.declaration import Expr, from_data, nodes, to_data
from tollgate.features.tables import Ints, State, lay_out, matrix
from tollgate.features.zones import zone_table
from tollgate.schema import Schema


class Program(NamedTuple):
    """What the kernel runs; see `layout` for the columns of each array."""

    before: Ints  # row operators that the state reads
    state: State
    after: Ints  # row operators that read the state
    zones: Ints
    codes: Ints
    results: Ints  # (F,) the register of each feature
    constants: tuple[tuple[int, float], ...]  # registers that never change
    registers: int

    def pack(self) -> Ints:
        """Return all arrays in one, int64: start, rows and columns of each, then their words; see `kernel.unpack`."""
        parts = [self.before, self.after, self.zones, self.codes, self.results, *self.state]
        matrices = [part[:, None] if part.ndim == 1 else part for part in parts]
        start = 3 * len(matrices)
        header: list[int] = []
        for one in matrices:
            header += [start, *one.shape]
            start += one.size
        return np.concatenate([np.asarray(header, dtype=np.int64), *(one.reshape(-1) for one in matrices)])


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

    @property
    def back(self) -> tuple[int, ...]:
        """How many transactions back each of the F features looks: the largest step of its lags, 0 without any."""
        return tuple(max(one.param.get("step", 0) for one in nodes(feature)) for feature in self.features)

    @property
    def learns(self) -> bool:
        """Whether a feature moves when labels arrive."""
        return bool((self.program.state.tables[:, layout.SOURCE] == layout.FROM_LABELS).any())

    def select(self, keep: Iterable[bool]) -> FeaturePlan:
        """Return the plan of some of the features, one answer for each of the F."""
        kept = [feature for feature, is_kept in zip(self.features, keep, strict=True) if is_kept]
        return self if len(kept) == len(self.features) else compile_plan(kept, self.schema, self.money_scale)

    def to_data(self) -> list[dict[str, Any]]:
        """Return the features as plain data (JSON)."""
        return [to_data(feature) for feature in self.features]


def compile_plan(features: Sequence[Expr], schema: Schema, money_scale: float) -> FeaturePlan:
    """Compile `features` for `schema`.

    Raises:
        ConfigError: A name is used twice, a column does not exist or is of another kind, or an expression is not one
            that can be computed; the message names the feature.
    """
    compiler = Compiler(schema, money_scale)
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
    program = Program(
        before=matrix(compiler.before, layout.OP_COLUMNS),
        state=lay_out(list(compiler.tables.values())),
        after=matrix(compiler.after, layout.OP_COLUMNS),
        zones=zone_table(compiler.zones),
        codes=matrix(compiler.codes, 2),
        results=np.asarray(results, dtype=np.int64),
        constants=tuple(compiler.constants.items()),
        registers=compiler.registers,
    )
    return FeaturePlan(tuple(features), schema, money_scale, program)


def plan_from_data(data: Sequence[dict[str, Any]], schema: Schema, money_scale: float) -> FeaturePlan:
    """Return the plan of the features that `FeaturePlan.to_data` wrote."""
    return compile_plan([from_data(one) for one in data], schema, money_scale)
