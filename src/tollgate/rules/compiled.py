"""A rule set, compiled by the feature compiler into one program without state: all rules of a batch in one call.

A rule reads the columns of the transaction, the features of the model as they were computed for it, and its score. What
looks at history (`card.count(over="10m")`) is not computed again but read from the feature that computes the same. So a
rule can use what the plan has, and the features that a rule saw are those that are recorded with the decision.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from tollgate.errors import ConfigError
from tollgate.features import Expr, FeatureEngine, FeaturePlan, entity, tx
from tollgate.features.declaration import nodes
from tollgate.features.expression import Condition, Vocabulary, did_you_mean
from tollgate.features.plan import compile_plan
from tollgate.rules.document import Rule, RuleMode, RuleSet
from tollgate.schema import Column, Kind, Schema
from tollgate.transaction import Batch

SCORE = "score"
_STATE_BYTES = 2**16  # the least that an engine reserves; a program of rules keeps nothing in it
_NEVER = np.iinfo(np.int64).max

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


class Rules:
    """The rules of a set that are not off, ready to run. Not thread-safe: one thread decides.

    Attributes:
        rules: The R rules, in the order of the set.
    """

    def __init__(
        self, rules: Sequence[Rule], plan: FeaturePlan | None, used: Sequence[int], scored: Sequence[bool]
    ) -> None:
        """Make them of what `compile_rules` found: the program, the features that it reads, and who reads the score."""
        self.rules = tuple(rules)
        self._engine = None if plan is None else FeatureEngine(plan, _STATE_BYTES)
        self._used = np.asarray(used, dtype=np.int64)
        self._scored = np.asarray(scored, dtype=np.bool_)
        expires = [rule.expires_us for rule in rules]
        self._expires_us = np.asarray([_NEVER if one is None else one for one in expires], dtype=np.int64)
        self._expire = any(one is not None for one in expires)

    def hold(self, batch: Batch, features: Floats, scores: Floats, now_us: int | NDArray[np.int64]) -> Bools:
        """Return on which of N transactions each of the R rules holds, bool (N, R).

        A comparison with a missing value does not hold, nor does what is made of it. A rule that reads the score does
        not hold where there is none, whatever else it says.

        Args:
            batch: The transactions, of the plan's schema.
            features: Of the plan that the rules were compiled for, float64 (N, F).
            scores: float64 (N,); NaN where there is none.
            now_us: The time, or that of every transaction, int64 (N,), microseconds since 1970-01-01 UTC.
        """
        if self._engine is None:
            return np.zeros((len(batch.time_us), 0), dtype=np.bool_)
        values = np.concatenate([batch.values, features[:, self._used].T, scores[None]])
        schema = self._engine.plan.schema
        result = self._engine.observe(Batch(schema, batch.ids, batch.time_us, batch.keys, values))
        held: Bools = result == 1.0
        if self._scored.any():
            absent = np.isnan(scores)
            if absent.any():
                held &= ~(absent[:, None] & self._scored)
        if self._expire:
            now = now_us if isinstance(now_us, int) else now_us[:, None]
            held &= self._expires_us > now
        return held


class _Names:
    """What the rules over one plan may name, and the columns that stand for its features."""

    def __init__(self, plan: FeaturePlan) -> None:
        self._plan = plan
        prefix = "feature"
        while any(name.startswith(prefix) for name in plan.schema.values):
            prefix = f"_{prefix}"
        self._columns = [f"{prefix}_{place}" for place in range(len(plan.features))]
        self._places = {name: place for place, name in enumerate(self._columns)}
        self.money_scale = plan.money_scale
        self.score = f"{prefix}_{SCORE}"
        self._known: dict[object, int] = {}
        for place, feature in enumerate(plan.features):
            inner = feature.args[0] if feature.op == "category" else feature
            self._known.setdefault(feature.identity, place)
            self._known.setdefault(inner.identity, place)
        self.vocabulary = self._vocabulary()

    def _vocabulary(self) -> Vocabulary:
        schema = self._plan.schema
        kinds = {name: schema.columns[name].kind for name in schema.entities}
        for name in schema.values:
            column = schema.columns.get(name)  # a location's halves are not columns of their own
            kinds[name] = column.kind if column else Kind.NUMBER
        mine = {name: self._kind(place) for place, name in enumerate(self._columns)}
        plain = Vocabulary({}, kinds, kinds)
        truths = {
            name for name, feature in zip(self._columns, self._plan.features, strict=True) if plain.is_truth(feature)
        }
        features = {
            feature.name: _column(column).named(feature.name)
            for column, feature in zip(self._columns, self._plan.features, strict=True)
        }
        entities = {one.name: one for one in map(entity, schema.entities)}
        return Vocabulary(
            {**features, **entities, SCORE: _column(self.score).named(SCORE)}, kinds, {**kinds, **mine},
            frozenset(truths),
        )  # fmt: skip

    def _kind(self, place: int) -> Kind:
        return Kind.CATEGORY if self._plan.categorical[place] else Kind.NUMBER

    def schema(self, used: Sequence[int]) -> Schema:
        """Return the plan's schema, with a column for each feature that is used and one for the score, at its end."""
        more = {self._columns[place]: Column(self._kind(place)) for place in used}
        schema = self._plan.schema
        return Schema({**schema.columns, **more, self.score: Column(Kind.NUMBER)}, schema.ignore)

    def place(self, column: str) -> int | None:
        """Return the place of the feature that a column stands for, if it stands for one."""
        return self._places.get(column)

    def in_words(self, message: str) -> str:
        """Return a message of the compiler with the features' names in place of their columns."""
        for column, name in sorted(zip(self._columns, self._plan.names, strict=True), key=lambda one: -len(one[0])):
            message = message.replace(f"tx.{column}.category()", f"'{name}'").replace(column, name)
        return message

    def resolve(self, condition: Condition) -> Expr:
        """Return the condition with columns of features in place of histories.

        Raises:
            ConfigError: No feature of the plan is such a history.
        """
        return self._resolve(condition, condition.expr, condition.expr)

    def _resolve(self, condition: Condition, expr: Expr, seen: Expr) -> Expr:
        if not any("entity" in one.param for one in nodes(expr)):
            return expr
        place = self._known.get(expr.identity)
        if place is not None:
            return _column(self._columns[place])
        if condition.shows(expr):
            seen = expr  # what stands in the text as such can be pointed at
        if "entity" in expr.param:
            names = self._plan.names
            message = (
                f"no feature of this bundle is '{seen.name}', and a rule reads only what the model does: use one of "
                f"them, or add it to the features file and train{did_you_mean(seen.name, names)}"
            )
            raise condition.error_at(seen, message)
        return replace(expr, args=tuple(self._resolve(condition, arg, seen) for arg in expr.args))


def _column(name: str) -> Expr:
    found: Expr = getattr(tx, name)
    return found


def compile_rules(rule_set: RuleSet, plan: FeaturePlan) -> Rules:
    """Compile the rules for the features of a plan. Those that are off are checked and left out.

    Raises:
        ConfigError: A condition cannot be read or computed; the message names the rule and the place.
    """
    names = _Names(plan)
    exprs = {rule.name: _meaning(names, rule) for rule in rule_set.rules}
    active = [rule for rule in rule_set.rules if rule.mode != RuleMode.OFF]
    if not active:
        return Rules((), None, (), ())
    columns = [_columns([exprs[rule.name]]) for rule in active]
    program, used = _program([exprs[rule.name] for rule in active], names)
    return Rules(active, program, used, [names.score in one for one in columns])


def _meaning(names: _Names, rule: Rule) -> Expr:
    """Return what a rule means, under its name; it is compiled by itself once, so that an error names it."""
    try:
        expr = names.resolve(Condition(rule.when, names.vocabulary)).named(rule.name)
        _program([expr], names)
    except ConfigError as error:
        message = names.in_words(error.message.removeprefix(f"feature '{rule.name}': "))
        raise ConfigError("bad_rule", f"rule '{rule.name}', when: {message}", column=rule.name) from None
    return expr


def _columns(exprs: Sequence[Expr]) -> set[str]:
    """Return the columns that some expressions read."""
    return {node.param["name"] for expr in exprs for node in nodes(expr) if node.op == "column"}


def _program(exprs: Sequence[Expr], names: _Names) -> tuple[FeaturePlan, list[int]]:
    """Return a program without state for some expressions, and the places of the features that it reads, in order."""
    used = sorted(place for column in _columns(exprs) if (place := names.place(column)) is not None)
    return compile_plan(exprs, names.schema(used), names.money_scale), used
