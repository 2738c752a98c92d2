"""The feature language, evaluated the slow and obvious way: every event is kept and looked at again each time."""

import math

from tollgate.features.declaration import Expr
from tollgate.hashing import category_code
from tollgate.schema import EFFECTIVE_TIME, Kind

DAY_US = 86_400_000_000


class Oracle:
    """Computes the features of one transaction after the other from complete histories."""

    def __init__(self, features, schema, money_scale):
        self.features, self.schema, self.scale = features, schema, money_scale
        self.histories = {}  # entity columns -> keys -> [(time applied, row)]
        self.entities = set()
        for feature in features:
            self._collect(feature)

    def _collect(self, expr: Expr):
        if expr.op in ("window", "since_last", "is_new"):
            self.entities.add(expr.param["entity"])
        for arg in expr.args:
            self._collect(arg)

    def observe(self, row):
        """Return the F values of a row: a mapping of column to value, keys included, NaN or 0 for missing."""
        out = [self.value(feature, row) for feature in self.features]
        for columns in self.entities:
            keys = tuple(row[c] for c in columns)
            if all(keys):
                history = self.histories.setdefault((columns, keys), [])
                history.append((self._now(columns, keys, row), dict(row)))
        return out

    def _now(self, columns, keys, row):
        history = self.histories.get((columns, keys), [])
        return max([row[EFFECTIVE_TIME], *(t for t, _ in history)])

    def value(self, expr, row):
        if expr.op in ("window", "since_last", "is_new"):
            columns = expr.param["entity"]
            keys = tuple(row[c] for c in columns)
            if not all(keys):
                return math.nan
            history = self.histories.get((columns, keys), [])
            now = self._now(columns, keys, row)
            return self._window(expr, history, now) if expr.op == "window" else self._recency(expr, history, now)
        if expr.op == "column":
            return self._column(expr.param["name"], row)
        if expr.op == "constant":
            return float(expr.param["value"])
        if expr.op == "category":
            return row[expr.args[0].param["name"]]
        if expr.op == "clock":
            return float(row[EFFECTIVE_TIME])
        if expr.op in ("eq", "ne") and isinstance(expr.args[1].param.get("value"), str):
            a, b = row[expr.args[0].param["name"]], category_code(expr.args[1].param["value"])
            return math.nan if math.isnan(a) else float((a == b) == (expr.op == "eq"))
        return row_operator(expr.op, *(self.value(arg, row) for arg in expr.args))

    def _column(self, name, row):
        kind = self.schema.columns[name].kind if name in self.schema.columns else Kind.NUMBER
        value = float(row[name])
        return value / {Kind.MONEY: self.scale, Kind.TIMESTAMP: 1e6}.get(kind, 1.0)

    def _recency(self, expr, history, now):
        recent = [t for t, _ in history if now - t < expr.param["within_us"]]
        if expr.op == "is_new":
            return float(not recent)
        return (now - recent[-1]) / 1e6 if recent else math.nan

    def _window(self, expr, history, now):
        inside = [row for t, row in history if now - expr.param["over_us"] < t <= now]
        if expr.param["where"]:
            inside = [row for row in inside if self.value(expr.args[-1], row) not in (0.0,) and
                      not math.isnan(self.value(expr.args[-1], row))]  # fmt: skip
        if expr.param["aggregate"] == "count":
            return float(len(inside))
        of = expr.args[0]
        money = of.op == "column" and of.param["name"] in self.schema.columns and \
            self.schema.columns[of.param["name"]].kind is Kind.MONEY  # fmt: skip
        values = [float(row[of.param["name"]]) if money else self.value(of, row) for row in inside]
        values = [value for value in values if not math.isnan(value)]
        total = math.fsum(values) / (self.scale if money else 1.0)
        if expr.param["aggregate"] == "sum":
            return total
        return total / len(values) if values else math.nan


def row_operator(op, a, b=0.0):
    """One row operator on plain floats."""
    if op == "is_missing":
        return float(math.isnan(a))
    if op == "fill":
        return b if math.isnan(a) else a
    if math.isnan(a) or math.isnan(b):
        return math.nan
    match op:
        case "div":
            return a / b if b != 0 else math.nan
        case "log1p":
            return math.log1p(a) if a > -1 else math.nan
        case "hour_of_day":
            return (a % DAY_US) / 3_600_000_000
        case "day_of_week":
            return float((int(a) // DAY_US + 3) % 7)
    return float({
        "add": lambda: a + b, "sub": lambda: a - b, "mul": lambda: a * b, "neg": lambda: -a, "abs": lambda: abs(a),
        "lt": lambda: a < b, "le": lambda: a <= b, "gt": lambda: a > b, "ge": lambda: a >= b, "eq": lambda: a == b,
        "ne": lambda: a != b, "and": lambda: bool(a) and bool(b), "or": lambda: bool(a) or bool(b),
        "not": lambda: not a, "minimum": lambda: min(a, b), "maximum": lambda: max(a, b),
    }[op]())  # fmt: skip
