"""The feature language as text: `(tx.amount > 500) & (card.count(over="10m") >= 5)` becomes an expression.

What comes is text that somebody may change while the server runs, so none of it is executed: Python's own parser makes
a tree of it, and of that tree only what is named here is understood. `and`, `or`, `not` and `in` may be written too,
which a features file cannot have: there Python itself would take the truth of an expression.
"""

from __future__ import annotations

import ast
import difflib
import inspect
import math
import operator
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from tollgate.errors import ConfigError
from tollgate.features.declaration import (
    Expr,
    LocalTime,
    Transaction,
    constant,
    cos,
    haversine_km,
    log1p,
    row,
    sin,
    tx,
)
from tollgate.features.entities import Entity, entity
from tollgate.schema import Kind

MAX_CHARACTERS = 2000
MAX_DEPTH = 40  # of brackets and operators in each other
MAX_NODES = 400
_SHOWN_CHARACTERS = 60  # of the place of an error
_LISTED_NAMES = 12
_CLOCKS = ("hour_of_day", "day_of_week")

Value = Any  # an Expr, a plain number or text, an Entity, the Transaction, a LocalTime, a list or a callable of these

_FUNCTIONS: dict[str, Callable[..., Value]] = {
    "abs": operator.abs, "cos": cos, "entity": entity, "haversine_km": haversine_km, "log1p": log1p, "sin": sin,
}  # fmt: skip
_METHODS: dict[type, tuple[str, ...]] = {
    Entity: tuple(name for name, one in vars(Entity).items() if callable(one) and not name.startswith("_")),
    Expr: ("category", "clip", "fill", "is_missing"),
    LocalTime: (),
    Transaction: ("local",),
}
_FIELDS: dict[type, tuple[str, ...]] = {LocalTime: _CLOCKS}
_ARITHMETIC: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
}  # fmt: skip
_LOGIC: dict[type[ast.AST], str] = {ast.BitAnd: "and", ast.BitOr: "or", ast.And: "and", ast.Or: "or"}
_COMPARISONS: dict[type[ast.cmpop], str] = {
    ast.Lt: "lt", ast.LtE: "le", ast.Gt: "gt", ast.GtE: "ge", ast.Eq: "eq", ast.NotEq: "ne",
}  # fmt: skip
_TRUTHS = frozenset({*_COMPARISONS.values(), "and", "or", "not", "is_missing", "is_new"})


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """What a text may name.

    Attributes:
        names: What a bare word stands for: `card`, `score`, a feature.
        columns: Kinds of the columns that `tx` has.
        kinds: Kinds of all columns that an expression of `names` may read; more than `columns` has.
        truths: Columns of these that are 0 or 1.
    """

    names: Mapping[str, Value]
    columns: Mapping[str, Kind]
    kinds: Mapping[str, Kind]
    truths: frozenset[str] = frozenset()

    def is_truth(self, value: Value) -> bool:
        """Whether a value is 0 or 1: a condition, and not an amount."""
        if not isinstance(value, Expr):
            return isinstance(value, bool)
        name = value.param["name"] if value.op == "column" else ""
        return value.op in _TRUTHS or name in self.truths or self.kinds.get(name) is Kind.FLAG

    def is_category(self, value: Expr) -> bool:
        """Whether a value is a category, which a text may be compared with."""
        if value.op in ("category", "last", "lag"):
            return self.is_category(value.args[0])
        return value.op == "column" and self.kinds.get(value.param["name"]) is Kind.CATEGORY


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return the end of a sentence about an unknown name: what is near to it, else what there is."""
    known = sorted(known)
    close = difflib.get_close_matches(name, known, n=3)
    if close:
        return f"; did you mean {' or '.join(repr(one) for one in close)}?"
    more = f" and {len(known) - _LISTED_NAMES} more" if len(known) > _LISTED_NAMES else ""
    return f"; there are: {', '.join(known[:_LISTED_NAMES]) or 'none'}{more}"


class Condition:
    """A condition, read from text.

    Attributes:
        text: As it was written.
        expr: What it means.
    """

    def __init__(self, text: str, vocabulary: Vocabulary) -> None:
        """Read it.

        Raises:
            ConfigError: It is too long, is not written in the language, or names what is not known. The message says
                where.
        """
        self.text = text.strip().replace("\n", " ")
        self._vocabulary = vocabulary
        self._places: dict[int, tuple[ast.expr, Expr]] = {}  # by the identity of an Expr, which is kept alive with it
        self._nodes = 0
        tree = self._tree()
        value = self._read(tree, 0)
        if not vocabulary.is_truth(value) or not isinstance(value, Expr):
            raise self._error(tree, "expected a condition, which holds or does not, such as tx.amount > 500")
        self.expr = value

    def shows(self, expr: Expr) -> bool:
        """Whether a part of the expression stands in the text as such, and is not what a method made."""
        return id(expr) in self._places

    def error_at(self, expr: Expr, message: str) -> ConfigError:
        """Return an error about a part of the expression that the text `shows`."""
        return self._error(self._places[id(expr)][0], message)

    def _tree(self) -> ast.expr:
        if not 0 < len(self.text) <= MAX_CHARACTERS:
            raise ConfigError(
                "bad_expression", f"expected 1 to {MAX_CHARACTERS} characters of a condition, got {len(self.text)}"
            )
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")  # what Python only warns of, such as "\d", is a mistake here too
                return ast.parse(self.text, mode="eval").body
        except SyntaxError as error:
            where = f" at character {error.offset}" if error.offset else ""
            raise ConfigError("bad_expression", f"it cannot be read{where}: {error.msg}") from None
        except (ValueError, RecursionError, MemoryError) as error:
            raise ConfigError("bad_expression", f"it cannot be read: {error or 'too deep'}") from None

    def _error(self, node: ast.expr, message: str) -> ConfigError:
        lead = self.text.encode()[: node.col_offset].decode()  # Python counts bytes
        shown = ast.get_source_segment(self.text, node) or ""
        if len(shown) > _SHOWN_CHARACTERS:
            shown = shown[: _SHOWN_CHARACTERS - 3] + "..."
        return ConfigError("bad_expression", f"at character {len(lead) + 1}, '{shown}': {message}")

    def _read(self, node: ast.expr, depth: int) -> Value:
        self._nodes += 1
        if depth > MAX_DEPTH or self._nodes > MAX_NODES:
            raise self._error(
                node, f"expected at most {MAX_NODES} parts, {MAX_DEPTH} in each other; make two rules of it"
            )
        if isinstance(node, ast.Constant):
            return self._constant(node, node.value)
        value = self._build(node, partial(self._read, depth=depth + 1))
        if isinstance(value, Expr):
            self._places.setdefault(id(value), (node, value))
        return value

    def _build(self, node: ast.expr, read: Callable[[ast.expr], Value]) -> Value:
        match node:
            case ast.Name(id=name):
                return self._name(node, name)
            case ast.Attribute(value=owner, attr=name):
                return self._attribute(node, read(owner), name)
            case ast.Call():
                return self._call(node, read)
            case ast.Subscript(value=owner, slice=place):
                return self._step(node, read(owner), read(place))
            case ast.UnaryOp(op=op, operand=operand):
                return self._unary(node, op, read(operand))
            case ast.BinOp(left=left, op=ast.BitAnd() | ast.BitOr() as logic, right=right):
                return self._logic(logic, [left, right], read)
            case ast.BinOp(left=left, op=op, right=right):
                return self._arithmetic(node, op, read(left), read(right))
            case ast.BoolOp(op=logic, values=values):
                return self._logic(logic, values, read)
            case ast.Compare():
                return self._comparison(node, read)
        raise self._error(node, "this is not part of the language of rules and features; see docs/policy.md")

    def _constant(self, node: ast.expr, value: object) -> Value:
        if isinstance(value, str | bool):
            return value
        if isinstance(value, int | float):
            try:
                if math.isfinite(float(value)):
                    return value
            except OverflowError:
                pass
        raise self._error(node, "expected a finite number, a text, True or False")

    def _name(self, node: ast.expr, name: str) -> Value:
        if name == "tx":
            return tx
        known = {**_FUNCTIONS, **self._vocabulary.names}
        if name not in known:
            hint = did_you_mean(name, ["tx", *known])
            if name in self._vocabulary.columns:
                hint = f"; did you mean 'tx.{name}'?"
            raise self._error(node, f"there is no '{name}'{hint}")
        return known[name]

    def _attribute(self, node: ast.expr, owner: Value, name: str) -> Value:
        kind = type(owner)
        columns = self._vocabulary.columns
        if kind is Transaction and (name in columns or name in _CLOCKS):
            return getattr(owner, name)
        if name in (*_METHODS.get(kind, ()), *_FIELDS.get(kind, ())):
            is_asked = name == "is_missing" and owner.op != "category" and self._vocabulary.is_category(owner)
            return getattr(owner.category() if is_asked else owner, name)
        known = [*_METHODS.get(kind, ()), *_FIELDS.get(kind, ())]
        if kind is Transaction:
            known += [*columns, *_CLOCKS]
            raise self._error(node, f"the schema has no value column '{name}'{did_you_mean(name, known)}")
        if not known:
            raise self._error(node, f"it has no '{name}'")
        raise self._error(node, f"there is no '{name}' of it{did_you_mean(name, known)}")

    def _call(self, node: ast.Call, read: Callable[[ast.expr], Value]) -> Value:
        function = read(node.func)
        if isinstance(function, Expr | Entity | Transaction) or not callable(function):
            raise self._error(node.func, "this cannot be called")
        if any(isinstance(one, ast.Starred) for one in node.args) or any(one.arg is None for one in node.keywords):
            raise self._error(node, "expected plain arguments, without a *")
        arguments = [read(one) for one in node.args]
        if function in _FUNCTIONS.values():  # they are of features; a plain number is one that is always the same
            arguments = [constant(one) if isinstance(one, int | float) else one for one in arguments]
        named = {str(one.arg): read(one.value) for one in node.keywords}
        try:
            return function(*arguments, **named)
        except ConfigError as error:
            raise self._error(node, error.message) from None
        except (TypeError, AttributeError, ValueError, OverflowError):
            wanted = ", ".join(inspect.signature(function).parameters) if inspect.isroutine(function) else ""
            raise self._error(node, f"it takes other arguments: {wanted}") from None

    def _step(self, node: ast.expr, owner: Value, place: Value) -> Value:
        if not isinstance(owner, list) or type(place) is not int or not 0 <= place < len(owner):
            raise self._error(node, "expected one step of a list, such as card.lag(tx.amount, last=2)[0]")
        return owner[place]

    def _number(self, node: ast.expr, value: Value) -> Value:
        if isinstance(value, Expr | int | float):
            return value
        raise self._error(node, f"expected numbers here, but got {_in_words(value)}")

    def _unary(self, node: ast.expr, op: ast.unaryop, value: Value) -> Value:
        if isinstance(op, ast.Not | ast.Invert):
            return row("not", self._truth(node, value))
        number = self._number(node, value)
        return -number if isinstance(op, ast.USub) else number

    def _arithmetic(self, node: ast.expr, op: ast.operator, left: Value, right: Value) -> Value:
        compute = _ARITHMETIC.get(type(op))
        if compute is None:
            raise self._error(node, "expected one of the operators + - * / & |")
        try:  # of two plain numbers it is the number, as it is in a features file
            return self._constant_or_expr(node, compute(self._number(node, left), self._number(node, right)))
        except (ZeroDivisionError, OverflowError) as error:
            raise self._error(node, str(error)) from None

    def _constant_or_expr(self, node: ast.expr, value: Value) -> Value:
        return value if isinstance(value, Expr) else self._constant(node, value)

    def _truth(self, node: ast.expr, value: Value) -> Expr:
        if not self._vocabulary.is_truth(value):
            raise self._error(
                node,
                f"expected conditions on both sides of & | ~ and or not, but got {_in_words(value)}; put brackets "
                "around each comparison: (tx.amount > 500) & (tx.hour_of_day < 6)",
            )
        return value if isinstance(value, Expr) else constant(value)

    def _logic(self, op: ast.AST, parts: Sequence[ast.expr], read: Callable[[ast.expr], Value]) -> Expr:
        return _fold(_LOGIC[type(op)], [self._truth(part, read(part)) for part in parts])

    def _comparison(self, node: ast.Compare, read: Callable[[ast.expr], Value]) -> Expr:
        if any(
            isinstance(one, ast.BinOp) and isinstance(one.op, ast.BitAnd | ast.BitOr)
            for one in (node.left, *node.comparators)
        ):
            raise self._error(
                node,
                "& and | bind before a comparison does; put brackets around each comparison: "
                "(tx.amount > 500) & (tx.hour_of_day < 6)",
            )
        parts = []
        left = read(node.left)
        for op, place in zip(node.ops, node.comparators, strict=True):
            if isinstance(op, ast.In | ast.NotIn):
                found = self._among(node, left, place, read)
                parts.append(row("not", found) if isinstance(op, ast.NotIn) else found)
                left = None  # what follows cannot be compared with a list
                continue
            right = read(place)
            parts.append(self._compare(node, op, left, right))
            left = right
        return _fold("and", parts)

    def _compare(self, node: ast.expr, op: ast.cmpop, left: Value, right: Value) -> Expr:
        name = _COMPARISONS.get(type(op))
        if name is None:
            raise self._error(node, "expected one of the comparisons < <= > >= == != in")
        sides = [left, right]
        exprs = [one for one in sides if isinstance(one, Expr)]
        if not exprs or not all(isinstance(one, Expr | int | float | str) for one in sides):
            raise self._error(
                node, f"expected a value and a number or text, but got {_in_words(left)} and {_in_words(right)}"
            )
        text = next((one for one in sides if isinstance(one, str)), None)
        if text is not None and (name not in ("eq", "ne") or not self._vocabulary.is_category(exprs[0])):
            raise self._error(
                node,
                "a text can be compared (== or !=) with a category column only; single cards, devices and the like "
                "belong on a list: tollgate lists add",
            )
        return row(name, left, right)

    def _among(self, node: ast.expr, left: Value, place: ast.expr, read: Callable[[ast.expr], Value]) -> Expr:
        if not isinstance(place, ast.Tuple | ast.List) or not place.elts:
            raise self._error(place, 'expected what it is compared with in brackets: tx.country in ("FR", "DE")')
        return _fold("or", [self._compare(node, ast.Eq(), left, read(one)) for one in place.elts])


def _fold(op: str, parts: Sequence[Expr]) -> Expr:
    """Return all parts joined, as a tree that is no deeper than it must be: the compiler goes down it."""
    if len(parts) == 1:
        return parts[0]
    half = len(parts) // 2
    return row(op, _fold(op, parts[:half]), _fold(op, parts[half:]))


def _in_words(value: Value) -> str:
    match value:
        case bool() | int() | float():
            return f"the number {value!r}"
        case str():
            return f"the text {value!r}"
        case Expr():
            return f"the value '{value.name}'"
        case Entity():
            return f"the entity '{value.name}', which has a history but is no value by itself"
        case list():
            return "a list of features; choose one, such as [0]"
        case Transaction():
            return "the transaction itself; name a column of it, such as tx.amount"
    return "what is no value by itself"
