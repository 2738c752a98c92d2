"""A feature in words: what it is, when it is missing, and the tree that it is computed by."""

from __future__ import annotations

from tollgate.duration import format_duration
from tollgate.features.declaration import Expr, nodes
from tollgate.features.describe import entity_name
from tollgate.features.operators import ROW_OPERATORS
from tollgate.schema import EFFECTIVE_TIME, Schema

_INFIX = {
    "add": "+", "sub": "-", "mul": "*", "div": "/", "lt": "<", "le": "<=", "gt": ">", "ge": ">=", "eq": "==",
    "ne": "!=", "and": "&", "or": "|",
}  # fmt: skip
_UNITS = {"hour_of_day": "the hour of day", "day_of_week": "the day of the week (0 is Monday)"}
_KEPT = {
    "count": "how many transactions", "sum": "the sum of {}", "mean": "the mean of {}",
    "std": "the sample standard deviation of {}", "min": "the smallest {}", "max": "the largest {}",
    "distinct": "how many different values of {}",
}  # fmt: skip
_SPREADS = {"median": "the median of", "mad": "the median absolute deviation from the median of"}
_FRAUDS = {"fraud_count", "since_fraud", "since_first_fraud", "fraud_spell_count"}
_HISTORIES = {"window", "since_last", "since_first", "last", "is_new", "lag", "since_lag"} | _FRAUDS | _SPREADS.keys()
_THERE = " at that transaction"


def in_words(expr: Expr) -> str:
    """Return what an expression is, as a phrase."""
    match expr.op:
        case "column":
            return f"{expr.param['name']} of the transaction"
        case "constant":
            return repr(expr.param["value"]) if isinstance(expr.param["value"], str) else f"{expr.param['value']:g}"
        case "clock":
            return "the effective time"
        case "local_time":
            return f"the time on a clock in {expr.param['zone']}"
        case "category":
            return f"{in_words(expr.args[0])}, as a category"
        case op if op in _HISTORIES:
            return _history(expr)
    return _row(expr)


def _history(expr: Expr) -> str:
    match expr.op:
        case "window":
            return _window(expr)
        case "lag" | "since_lag" | "median" | "mad":
            return _steps(expr)
        case op if op in _FRAUDS:
            return _frauds(expr)
    return _recency(expr)


def _who(expr: Expr) -> str:
    columns = expr.param["entity"]
    return entity_name(columns) if len(columns) == 1 else f"pair {entity_name(columns)}"


def _where(expr: Expr) -> str:
    return f" where {formula(expr.args[-1])}" if expr.param["where"] else ""


def _window(expr: Expr) -> str:
    param = expr.param
    over = format_duration(param["over_us"])
    value = formula(expr.args[0]) if len(expr.args) > int(param["where"]) else ""
    kept = _KEPT[param["aggregate"]].format(value)
    link = "of the" if param["aggregate"] == "count" else "over the transactions of the"
    kept = f"{kept} {link} {_who(expr)}"
    if param["delay_us"]:
        period = f"the {over} that ended {format_duration(param['delay_us'])} ago"
    else:
        period = f"the last {over}"
    return f"{kept} in {period}{_where(expr)}"


def _recency(expr: Expr) -> str:
    who, within = _who(expr), format_duration(expr.param["within_us"])
    match expr.op:
        case "since_last":
            return f"seconds since the last transaction of the {who}{_where(expr)}, looking back {within}"
        case "since_first":
            return f"seconds since the {who} was first seen, a pause of {within} making it new again"
        case "last":
            return f"{formula(expr.args[0])} at the last transaction of the {who} that had one, looking back {within}"
    return f"1 where the {who} was not seen within {within}, else 0"


def _steps(expr: Expr) -> str:
    who, within = _who(expr), format_duration(expr.param["within_us"])
    if expr.op in _SPREADS:
        value, last = formula(expr.args[0]), expr.param["last"]
        return f"{_SPREADS[expr.op]} {value} over the last {last} transactions of the {who}, looking back {within}"
    step = expr.param["step"]
    ago = f"{step} transaction{'s' if step > 1 else ''} of the {who} ago, looking back {within}"
    return f"{formula(expr.args[0])} {ago}" if expr.op == "lag" else f"seconds since {ago}"


def _frauds(expr: Expr) -> str:
    who = _who(expr)
    if expr.op == "fraud_count":
        over = format_duration(expr.param["over_us"])
        return f"how many transactions of the {who} became known as fraud in the last {over}"
    within = format_duration(expr.param["within_us"])
    match expr.op:
        case "since_fraud":
            return f"seconds since a transaction of the {who} last became known as fraud, looking back {within}"
        case "since_first_fraud":
            return f"seconds since the spell of known frauds of the {who} began, a pause of {within} ending it"
    return f"how many transactions of the {who} became known as fraud in this spell, a pause of {within} ending it"


def _row(expr: Expr) -> str:
    if expr.op in _UNITS:
        clock = expr.args[0]
        zone = clock.param["zone"] if clock.op == "local_time" else "UTC"
        return f"{_UNITS[expr.op]} of the effective time, {zone}"
    if expr.op == "haversine":
        return f"the great-circle distance in km between {formula(expr)[len('haversine') :]}"
    if expr.op == "div":
        return f"{_nested(expr.args[0])}, divided by {_nested(expr.args[1])}"
    if any(one.param.get("entity") for one in nodes(expr)):
        return formula(expr)
    return f"{formula(expr)}, of the transaction itself"


def _nested(expr: Expr) -> str:
    return in_words(expr) if expr.op not in _INFIX else f"({formula(expr)})"


def formula(expr: Expr) -> str:
    """Return an expression as one would write it, with named features as operands."""
    match expr.op:
        case "constant":
            value = expr.param["value"]
            return repr(value) if isinstance(value, str) else f"{value:g}"
        case op if op in {"column", "clock"} | _HISTORIES:
            return expr.name
        case "hour_of_day" | "day_of_week":
            clock = expr.args[0]
            return f"{expr.op}({clock.param['zone']})" if clock.op == "local_time" else expr.op
        case op if op in _INFIX:
            return " ".join((_operand(expr.args[0]), _INFIX[op], _operand(expr.args[1])))
    return f"{expr.op}({', '.join(formula(arg) for arg in expr.args)})"


def _operand(expr: Expr) -> str:
    return f"({formula(expr)})" if expr.op in _INFIX else formula(expr)


def missing_when(expr: Expr, schema: Schema) -> tuple[str, ...]:
    """Return the conditions under which an expression is missing, each a phrase; none where it never is."""
    never = {f"{name} is missing" for name, column in schema.columns.items() if column.required}
    return tuple(one for one in dict.fromkeys(_missing(expr)) if one.removesuffix(_THERE) not in never)


def _missing(expr: Expr) -> list[str]:
    inner = [one for arg in expr.args for one in _missing(arg)]
    match expr.op:
        case "column":
            name = expr.param["name"]
            return [] if name == EFFECTIVE_TIME else [f"{name} is missing"]
        case "constant" | "clock" | "is_missing" | "hour_of_day" | "day_of_week" | "local_time":
            return []
        case "fill":
            fallback = _missing(expr.args[1])
            return [f"{formula(expr.args[0])} and {formula(expr.args[1])} are both missing"] if fallback else []
        case "div":
            divisor = expr.args[1]
            zero = [] if divisor.op == "constant" and divisor.param["value"] else [f"{formula(divisor)} is 0"]
            return [*inner, *zero]
        case "log1p":
            return [*inner, f"{formula(expr.args[0])} is -1 or less"]
        case op if op in _HISTORIES:
            return [*(f"{column} is missing" for column in expr.param["entity"]), *_empty(expr)]
    return inner


def _empty(expr: Expr) -> list[str]:
    who = _who(expr)
    match expr.op:
        case "window" if expr.param["aggregate"] == "std":
            return [f"the window of the {who} holds fewer than two values of {formula(expr.args[0])}"]
        case "window" if expr.param["aggregate"] in ("mean", "min", "max"):
            return [f"the window of the {who} holds no value of {formula(expr.args[0])}"]
        case "since_last" | "since_first" | "last":
            within = format_duration(expr.param["within_us"])
            what = "such a transaction" if expr.op == "since_last" and expr.param["where"] else "a transaction"
            what = f"a transaction with {formula(expr.args[0])}" if expr.op == "last" else what
            return [f"the {who} had no {what.removeprefix('a ')} within {within}"]
        case "lag" | "since_lag":
            step, within = expr.param["step"], format_duration(expr.param["within_us"])
            few = "no transaction" if step == 1 else f"fewer than {step} transactions"
            then = [f"{one}{_THERE}" for arg in expr.args for one in _missing(arg)]
            return [f"the {who} had {few} within {within}", *then]
        case "median" | "mad":
            within = format_duration(expr.param["within_us"])
            last, value = expr.param["last"], formula(expr.args[0])
            return [f"the last {last} transactions of the {who} hold no value of {value} within {within}"]
        case "since_fraud" | "since_first_fraud":
            within = format_duration(expr.param["within_us"])
            return [f"no transaction of the {who} became known as fraud within {within}"]
    return []


def tree(expr: Expr, indent: str = "") -> list[str]:
    """Return an expression as lines, each operand below and to the right of what it is an operand of."""
    lines = [f"{indent}{_label(expr)}"]
    for arg in expr.args:
        lines += tree(arg, indent + "  ")
    return lines


def _label(expr: Expr) -> str:
    match expr.op:
        case "column":
            return f"column {expr.param['name']}"
        case "constant":
            return f"constant {expr.param['value']!r}"
        case op if op in ROW_OPERATORS:
            zone = f" {expr.param['zone']}" if "zone" in expr.param else ""
            return f"{op}{zone}: {ROW_OPERATORS[op].meaning}"
    return f"{expr.op}: {in_words(expr)}" if "entity" in expr.param else expr.op
