"""A feature's value in words, for the person who looks at a held payment, and which features say the same thing."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from tollgate.duration import DAY_US, HOUR_US, MINUTE_US, SECOND_US
from tollgate.features.declaration import Expr, nodes
from tollgate.features.operators import ROW_OPERATORS
from tollgate.features.prose import formula
from tollgate.schema import Kind, Schema

MAX_CONDITION = 40  # characters of a `where`; a longer one is left to the feature's name

_LARGEST_LOG = 700.0  # above it `expm1` overflows
_REACHES = {"over_us", "delay_us", "within_us", "last", "step", "zone"}  # how far a feature looks, not at what
_FRAUDS = {"fraud_count", "since_fraud", "since_first_fraud", "fraud_spell_count"}
_CLOCKS = {"hour_of_day", "day_of_week"}
_FLAGS = {"lt", "le", "gt", "ge", "eq", "ne", "and", "or", "not", "is_missing"}
_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_ACRONYMS = {"ip": "IP", "mcc": "MCC", "bin": "BIN"}
_PLACES = {
    "device": "on", "browser": "on", "merchant": "at", "terminal": "at", "shop": "at", "store": "at", "ip": "from",
    "address": "from",
}  # fmt: skip
_EXTREMES = {"min": "smallest", "max": "largest"}
_ORDINALS = {1: "last", 2: "2nd last", 3: "3rd last"}


def families(features: Sequence[Expr]) -> tuple[int, ...]:
    """Return for each feature the number of its family, (F,), counted from 0 in order of appearance.

    Features of one family say the same thing: the same aggregate of the same entity and value over other windows or
    further back, functions of one quantity alone (an amount and its logarithm, the halves of a cycle), and whatever
    reads only the known frauds of one entity.
    """
    numbers: dict[Any, int] = {}
    return tuple(numbers.setdefault(_subject(feature), len(numbers)) for feature in features)


def _subject(expr: Expr) -> tuple[Any, ...]:
    """Return what a feature is about: equal for features of one family."""
    frauds = {frozenset(one.param["entity"]) for one in nodes(expr) if one.op in _FRAUDS}
    if len(frauds) == 1:
        return ("known frauds", *frauds)
    if expr.op in _CLOCKS:
        return (expr.op,)
    if expr.op == "category" or expr.op in ROW_OPERATORS:
        varying = [arg for arg in expr.args if arg.op != "constant"]
        if len(varying) == 1:
            return _subject(varying[0])
    return _exact(expr)


def _exact(expr: Expr) -> tuple[Any, ...]:
    """Return what an expression computes, whatever its window."""
    params = tuple((key, value) for key, value in expr.params if key not in _REACHES)
    return (expr.op, params, *(_exact(arg) for arg in expr.args))


def reason_text(
    expr: Expr,
    value: float,
    usual: float,
    categories: Mapping[float, str],
    schema: Schema | None = None,
    currency: str = "",
) -> str:
    """Return what a feature was and what it usually is, as a phrase.

    Args:
        expr: The feature.
        value: Its value; NaN is missing.
        usual: Its typical value; NaN is missing.
        categories: Texts of category codes.
        schema: Tells money from other numbers; without it nothing is money.
        currency: The base currency, such as `EUR`; it follows amounts.
    """
    if expr.op == "log1p":
        inner = expr.args[0]
        return reason_text(inner, _unlog(value), _unlog(usual), categories, schema, currency)
    speaker = _Speaker(categories, schema, currency)
    return speaker.say(expr, value, usual) or named_text(expr.name, value, usual, categories)


def named_text(name: str, value: float, usual: float, categories: Mapping[float, str]) -> str:
    """Return a value and what it usually is, of a feature of which only the name is known."""
    return f"{name} is {_plain(value, categories)}; usually {_plain(usual, categories)}"


def _plain(value: float, categories: Mapping[float, str]) -> str:
    if math.isnan(value):
        return "missing"
    if value in categories:
        return repr(categories[value])
    return f"{value:.0f}" if value.is_integer() else f"{value:.4g}"


class _Speaker(NamedTuple):
    """Says values of expressions."""

    categories: Mapping[float, str]
    schema: Schema | None
    currency: str

    def say(self, expr: Expr, value: float, usual: float) -> str | None:
        """Return the phrase, or None where there is no better one than the name and the value."""
        match expr.op:
            case "column" | "category":
                return self._column(expr, value, usual)
            case "window":
                return self._window(expr, value, usual)
            case "div":
                return self._quotient(expr, value, usual)
            case "last" | "lag" | "median" | "mad":
                return self._remembered(expr, value, usual)
            case "since_last" | "since_first" | "since_lag" | "is_new":
                return _recency(expr, value, usual)
            case "hour_of_day" | "day_of_week":
                return _time(expr, value, usual)
            case op if op in _FRAUDS:
                return _known_frauds(expr, value, usual)
            case op if op in _FLAGS:
                return _flag(expr, value, usual)
        last = [one for one in nodes(expr) if one.op == "last"]
        if expr.op == "haversine" and last and not math.isnan(value):
            return f"{_number(value)} km from {_owner(last[0])} last place; usually {_number(usual)} km"
        return None

    def _of(self, expr: Expr, value: float) -> str:
        """Return a value of an expression, with its unit."""
        if expr.op == "log1p":
            return self._of(expr.args[0], _unlog(value))
        if self._kind(expr) is Kind.MONEY and not math.isnan(value):
            return f"{value:,.2f} {self.currency}".rstrip()
        return _number(value)

    def _kind(self, expr: Expr) -> Kind | None:
        column = self.schema.columns.get(expr.param["name"]) if self.schema and expr.op == "column" else None
        return column.kind if column else None

    def _column(self, expr: Expr, value: float, usual: float) -> str | None:
        named = expr.args[0] if expr.op == "category" else expr
        what = _noun(named)
        if math.isnan(value):
            return f"{what} is missing"
        if expr.op == "category":
            return f"{what} {self.categories.get(value, 'rare')}; usually {self.categories.get(usual, 'missing')}"
        kind = self._kind(expr)
        if kind is Kind.FLAG:
            return f"{what}: {_yes(value)}; usually {_yes(usual)}"
        if kind is Kind.TIMESTAMP:
            return None
        return f"{what} {self._of(expr, value)}; usually {self._of(expr, usual)}"

    def _window(self, expr: Expr, value: float, usual: float) -> str | None:
        condition = _condition(expr)
        if condition is None:
            return None
        period, aggregate = f"{_period(expr)}{condition}", expr.param["aggregate"]
        if math.isnan(value) and aggregate in ("count", "sum", "distinct"):
            return f"{_name(expr)} is missing"
        if aggregate == "count":
            return f"{_counted(value, 'transaction')} {_by(expr)} in {period}; usually {_number(usual)}"
        of = expr.args[0]
        if aggregate == "distinct":
            return f"{_counted(value, _noun(of))} {_by(expr)} in {period}; usually {_number(usual)}"
        now, then = self._of(of, value), self._of(of, usual)
        if aggregate == "sum":
            return f"{_plural(_noun(of))} {_by(expr)} add up to {now} in {period}; usually {then}"
        if math.isnan(value):
            return f"no earlier {_noun(of)} {_by(expr)} in {period}; usually {then}"
        which = {"mean": "mean", "std": "spread of"} | _EXTREMES
        return f"{which[aggregate]} {_noun(of)} {_by(expr)} over {period} is {now}; usually {then}"

    def _quotient(self, expr: Expr, value: float, usual: float) -> str | None:
        above, below = expr.args
        if math.isnan(value) and above.op in ("fraud_count", "window", "haversine"):
            return None
        times = f"{_number(value)} times"
        match above.op, below.op:
            case "fraud_count", "window":
                return f"{_percent(value)} known frauds {_by(above)} in {_period(above)}; usually {_percent(usual)}"
            case "haversine", _ if any(one.op == "last" for one in nodes(above)):
                return f"{_number(value)} km/h from {_whose(above)} last place; usually {_number(usual)} km/h"
            case "window", "window" if _is_share(above, below):
                condition = _condition(above)
                return (
                    condition
                    and (  # " where x < 5"
                        f"{_percent(value)} of the transactions {_by(above)} in {_period(above)} have{condition[6:]}; "
                        f"usually {_percent(usual)}"
                    )
                )
            case "sub", "window" | "mad" if above.args[1].op in ("window", "median"):
                return _deviation(above, below, value, usual)
            case _, "window" if below.param["aggregate"] == "mean" and _condition(below) is not None:
                middle = f"{_owner(below)} mean over {_period(below)}{_condition(below)}"
            case _, "median":
                middle = f"the median of {_owner(below)} last {below.param['last']}"
            case _:
                return None
        if math.isnan(value):
            return (
                f"{_noun(above)} has no {middle.removeprefix('the ')} to compare with; usually {_number(usual)} times"
            )
        return f"{_noun(above)} is {times} {middle}; usually {_number(usual)}"

    def _remembered(self, expr: Expr, value: float, usual: float) -> str:
        of = expr.args[0]
        now, then = self._of(of, value), self._of(of, usual)
        if expr.op in ("median", "mad"):
            which = "median" if expr.op == "median" else "median deviation of"
            return f"{which} {_noun(of)} over {_owner(expr)} last {expr.param['last']} is {now}; usually {then}"
        which = _ordinal(expr.param.get("step", 1))
        return f"{_noun(of)} {now} at {_owner(expr)} {which} transaction; usually {then}"


def _time(expr: Expr, value: float, usual: float) -> str:
    if expr.op == "day_of_week":
        return f"on a {_day(value)}; usually {_day(usual)}"
    return f"at {_clock(value)}{_zone(expr)}; usually {_clock(usual)}"


def _known_frauds(expr: Expr, value: float, usual: float) -> str:
    who = _by(expr)
    if math.isnan(value) and expr.op in ("fraud_count", "fraud_spell_count"):
        return f"{_name(expr)} is missing"
    if expr.op == "fraud_count":
        return f"{_counted(value, 'known fraud')} {who} in {_period(expr)}; usually {_number(usual)}"
    if expr.op == "fraud_spell_count":
        return f"{_counted(value, 'known fraud')} {who} in a row; usually {_number(usual)}"
    which = "last" if expr.op == "since_fraud" else "first"
    if math.isnan(value):
        return f"no known fraud {who} in {_span(expr.param['within_us'])}"
    return f"{which} known fraud {who} {_age(value)} ago; usually {_age(usual)}"


def _deviation(above: Expr, below: Expr, value: float, usual: float) -> str | None:
    middle, robust = above.args[1], below.op == "mad"
    if robust != (middle.op == "median") or not (robust or below.param["aggregate"] == "std"):
        return None
    unit = "median deviations" if robust else "standard deviations"
    typical = f"median of its last {below.param['last']}" if robust else f"mean over {_period(below)}"
    if math.isnan(value):
        return f"{_noun(above.args[0])} cannot be compared with {_owner(below)} {typical}"
    side = "above" if value >= 0 else "below"
    distance = f"{_number(abs(value))} {unit} {side} {_owner(below)} {typical}"
    return f"{_noun(above.args[0])} is {distance}; usually {_number(usual)}"


def _recency(expr: Expr, value: float, usual: float) -> str | None:
    if expr.op == "is_new":
        whose = _by(expr) if len(expr.param["entity"]) > 1 else f"that this {_name(expr)} is seen"
        return f"{'first' if value == 1 else 'not the first'} time {whose}"
    condition = _condition(expr)
    if condition is None:
        return None
    if expr.op == "since_first":
        if math.isnan(value):
            return f"this {_name(expr)} was not seen before; usually first seen {_age(usual)} ago"
        return f"this {_name(expr)} was first seen {_age(value)} ago; usually {_age(usual)}"
    which = f"{_owner(expr)} {_ordinal(expr.param.get('step', 1))} transaction{condition}"
    if math.isnan(value):
        return f"nothing known of {which} in {_span(expr.param['within_us'])}; usually {_age(usual)} ago"
    return f"{_age(value)} since {which}; usually {_age(usual)}"


def _flag(expr: Expr, value: float, usual: float) -> str | None:
    if expr.op == "eq" and expr.args[0].op == "last" and value in (0, 1):
        last = expr.args[0]
        what, before = _noun(last.args[0]), f"{_owner(last)} last transaction"
        same = f"{what} is {'the same as' if value else 'not the same as'} at {before}"
        return f"{same}; usually {'the same' if usual == 1 else 'another'}"
    if expr.op == "is_missing":
        now, then = ("missing" if one == 1 else "there" for one in (value, usual))
        return f"{formula(expr.args[0])} is {now}; usually {then}"
    return f"{expr.name.replace('_', ' ')}: {_yes(value)}; usually {_yes(usual)}"


def _yes(value: float) -> str:
    return "unknown" if math.isnan(value) else "yes" if value else "no"


def _is_share(above: Expr, below: Expr) -> bool:
    """Whether a quotient is the part of an entity's transactions for which a condition holds."""
    part, whole = above.param, below.param
    same = all(part[key] == whole[key] for key in ("aggregate", "entity", "over_us", "delay_us"))
    return same and part["aggregate"] == "count" and part["where"] and not whole["where"]


def _condition(expr: Expr) -> str | None:
    """Return ` where ...`, nothing if there is none, None if it is too long to read."""
    if not expr.param.get("where"):
        return ""
    text = formula(expr.args[-1])
    return f" where {text}" if len(text) <= MAX_CONDITION else None


def _word(column: str) -> str:
    word = column.removesuffix("_id")
    return _ACRONYMS.get(word, word.replace("_", " "))


def _noun(expr: Expr) -> str:
    if expr.op == "log1p":
        return _noun(expr.args[0])
    return _word(expr.param["name"]) if expr.op == "column" else expr.name.replace("_", " ")


def _name(expr: Expr) -> str:
    return " and ".join(_word(column) for column in expr.param["entity"])


def _owner(expr: Expr) -> str:
    return f"the {_name(expr)}'s"


def _whose(expr: Expr) -> str:
    return next(_owner(one) for one in nodes(expr) if one.op == "last")


def _by(expr: Expr) -> str:
    """Return whose transactions: `of this card`, `on this device`, `of this card at this merchant`."""
    links = [(_PLACES.get(column.removesuffix("_id"), "of"), _word(column)) for column in expr.param["entity"]]
    return " ".join(f"{link} this {word}" for link, word in sorted(links, key=lambda one: one[0] != "of"))


def _period(expr: Expr) -> str:
    over, delay = _span(expr.param["over_us"]), expr.param.get("delay_us", 0)
    return f"the {over} up to {_span(delay)} ago" if delay else over


def _span(duration_us: int) -> str:
    """Return a window's length: `30 s`, `10 min`, `24 h`, `7 d`."""
    if duration_us % DAY_US == 0 and duration_us > DAY_US:
        return f"{duration_us // DAY_US} d"
    for unit_us, unit in ((HOUR_US, "h"), (MINUTE_US, "min")):
        if duration_us % unit_us == 0:
            return f"{duration_us // unit_us} {unit}"
    return f"{duration_us / SECOND_US:g} s"


def _age(seconds: float) -> str:
    """Return a time that has passed, in the largest unit of which there are two or more."""
    if math.isnan(seconds):
        return "none"
    for unit_us, unit in ((DAY_US, "d"), (HOUR_US, "h"), (MINUTE_US, "min")):
        whole = seconds * SECOND_US / unit_us
        if whole >= 2:
            return f"{whole:.0f} {unit}"
    return f"{seconds:.0f} s"


def _clock(hours: float) -> str:
    if not math.isfinite(hours):
        return "unknown"
    minutes = int(hours * 60)
    return f"{minutes // 60:02}:{minutes % 60:02}"


def _zone(expr: Expr) -> str:
    clock = expr.args[0]
    return f" ({clock.param['zone']})" if clock.op == "local_time" else " UTC"


def _day(value: float) -> str:
    return _DAYS[int(value) % 7] if math.isfinite(value) else "unknown"


def _ordinal(step: int) -> str:
    return _ORDINALS.get(step, f"{step}th last")


def _counted(value: float, noun: str) -> str:
    return f"{_number(value)} {noun if value == 1 else _plural(noun)}"


def _plural(noun: str) -> str:
    if noun.endswith("y") and noun[-2:-1] not in "aeiou":
        return f"{noun[:-1]}ies"
    return f"{noun}es" if noun.endswith(("s", "x", "ch", "sh")) else f"{noun}s"


def _unlog(value: float) -> float:
    return math.inf if value > _LARGEST_LOG else math.expm1(value)


def _percent(share: float) -> str:
    return "none" if math.isnan(share) else f"{share * 100:.3g} %"


def _number(value: float) -> str:
    if math.isnan(value):
        return "none"
    if value.is_integer() or abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.2g}" if abs(value) < 10 else f"{value:.3g}"
