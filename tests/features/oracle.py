"""The feature language, evaluated the slow and obvious way: every event is kept and looked at again each time."""

import math
import statistics
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from zoneinfo import ZoneInfo

from tollgate.features.declaration import Expr
from tollgate.hashing import category_code
from tollgate.schema import EFFECTIVE_TIME, Kind

DAY_US = 86_400_000_000
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)


class Oracle:
    """Computes the features of one transaction after the other from complete histories."""

    def __init__(self, features, schema, money_scale):
        self.features, self.schema, self.scale = features, schema, money_scale
        self.histories = {}  # (entity columns, keys) -> [(time applied, row)]
        self.frauds = {}  # (entity columns, keys) -> [time applied]
        self.label_clocks = {}  # the same -> watermark of its labels, from the first one on
        self.entities = set()
        for feature in features:
            self._collect(feature)

    def _collect(self, expr: Expr):
        if "entity" in expr.param:
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
            if (columns, keys) in self.label_clocks:
                self.label_clocks[columns, keys] = max(self.label_clocks[columns, keys], row[EFFECTIVE_TIME])
        return out

    def _now(self, columns, keys, row):
        history = self.histories.get((columns, keys), [])
        return max([row[EFFECTIVE_TIME], *(t for t, _ in history)])

    def learn(self, row, available_us):
        """Take note that a row was fraud."""
        for columns in self.entities:
            keys = tuple(row[c] for c in columns)
            if all(keys):
                applied = max(available_us, self.label_clocks.get((columns, keys), 0))
                self.frauds.setdefault((columns, keys), []).append(applied)
                self.label_clocks[columns, keys] = applied

    def value(self, expr, row):
        if "entity" in expr.param:
            columns = expr.param["entity"]
            keys = tuple(row[c] for c in columns)
            if not all(keys):
                return math.nan
            if "fraud" in expr.op:
                known = self.frauds.get((columns, keys), [])
                now = max(row[EFFECTIVE_TIME], self.label_clocks.get((columns, keys), 0))
                return self._frauds(expr, known, now)
            history = self.histories.get((columns, keys), [])
            now = self._now(columns, keys, row)
            if expr.op in ("lag", "since_lag", "median", "mad"):
                return self._steps(expr, history, now)
            return self._window(expr, history, now) if expr.op == "window" else self._recency(expr, history, now)
        if expr.op == "column":
            return self._column(expr.param["name"], row)
        if expr.op == "constant":
            return float(expr.param["value"])
        if expr.op == "category":
            return self.any(expr.args[0], row)
        if expr.op == "clock":
            return float(row[EFFECTIVE_TIME])
        if expr.op in ("eq", "ne") and isinstance(expr.args[1].param.get("value"), str):
            a, b = self.any(expr.args[0], row), category_code(expr.args[1].param["value"])
            return math.nan if math.isnan(a) else float((a == b) == (expr.op == "eq"))
        if expr.op == "local_time":
            moment = EPOCH + timedelta(microseconds=row[EFFECTIVE_TIME])
            return row[EFFECTIVE_TIME] + moment.astimezone(ZoneInfo(expr.param["zone"])).utcoffset() / MICROSECOND
        if expr.op in ("eq", "ne"):
            return row_operator(expr.op, *(self.any(arg, row) for arg in expr.args))
        return row_operator(expr.op, *(self.value(arg, row) for arg in expr.args))

    def _column(self, name, row):
        kind = self.schema.columns[name].kind if name in self.schema.columns else Kind.NUMBER
        value = float(row[name])
        return value / {Kind.MONEY: self.scale, Kind.TIMESTAMP: 1e6}.get(kind, 1.0)

    def any(self, expr, row):
        """A value that is only told apart: an entity or a category will do."""
        if expr.op != "column":
            return self.value(expr, row)
        name = expr.param["name"]
        if name in self.schema.entities:
            return float(row[name] % 2**52) if row[name] else math.nan
        return self._column(name, row)

    def holds(self, expr, row):
        truth = self.value(expr, row)
        return truth != 0 and not math.isnan(truth)

    def _frauds(self, expr, known, now):
        if expr.op == "fraud_count":
            return float(sum(now - expr.param["over_us"] < t for t in known))
        within = expr.param["within_us"]
        if not known or now - known[-1] >= within:
            return 0.0 if expr.op == "fraud_spell_count" else math.nan
        if expr.op == "since_fraud":
            return (now - known[-1]) / 1e6
        spell = [i for i in range(len(known)) if i == 0 or known[i] - known[i - 1] >= within][-1]
        return (now - known[spell]) / 1e6 if expr.op == "since_first_fraud" else float(len(known) - spell)

    def _steps(self, expr, history, now):
        within = expr.param["within_us"]
        if expr.op in ("lag", "since_lag"):
            step = expr.param["step"]
            if step > len(history) or now - history[-step][0] >= within:
                return math.nan
            t, row = history[-step]
            return self.any(expr.args[0], row) if expr.op == "lag" else (now - t) / 1e6
        of = expr.args[0]
        money = of.op == "column" and self.schema.columns[of.param["name"]].kind is Kind.MONEY
        rows = [row for t, row in history[-expr.param["last"] :] if now - t < within]
        values = [row[of.param["name"]] if money else self.value(of, row) for row in rows]
        values = [value for value in values if not math.isnan(value)]
        if not values:
            return math.nan
        middle = statistics.median(values)
        if expr.op == "mad":
            middle = statistics.median([abs(value - middle) for value in values])
        return middle / (self.scale if money else 1.0)

    def _recency(self, expr, history, now):
        within = expr.param["within_us"]
        times = [t for t, _ in history]
        if expr.op == "since_first":
            first = None
            for before, t in zip([None, *times], times, strict=False):
                first = t if before is None or t - before >= within else first
            return (now - first) / 1e6 if times and now - times[-1] < within else math.nan
        if expr.param["where"]:
            history = [(t, row) for t, row in history if self.holds(expr.args[-1], row)]
        if expr.op == "last":
            history = [(t, row) for t, row in history if not math.isnan(self.any(expr.args[0], row))]
        known = history and now - history[-1][0] < within
        if expr.op == "is_new":
            return float(not known)
        if not known:
            return math.nan
        return self.any(expr.args[0], history[-1][1]) if expr.op == "last" else (now - history[-1][0]) / 1e6

    def _window(self, expr, history, now):
        end = now - expr.param["delay_us"]
        inside = [row for t, row in history if end - expr.param["over_us"] < t <= end]
        if expr.param["where"]:
            inside = [row for row in inside if self.holds(expr.args[-1], row)]
        kind = expr.param["aggregate"]
        if kind == "count":
            return float(len(inside))
        of = expr.args[0]
        column = self.schema.columns.get(of.param["name"]) if of.op == "column" else None
        money = column is not None and column.kind is Kind.MONEY
        if kind == "distinct":
            values = [self.any(of, row) for row in inside]
            return float(len({value for value in values if not math.isnan(value)}))
        values = [float(row[of.param["name"]]) if money else self.value(of, row) for row in inside]
        values = [value for value in values if not math.isnan(value)]
        return self._aggregate(kind, values) / (self.scale if money and kind != "mean" else 1.0) if kind != "mean" else (
            math.fsum(values) / (self.scale if money else 1.0) / len(values) if values else math.nan
        )  # fmt: skip

    def _aggregate(self, kind, values):
        if kind == "sum":
            return math.fsum(values)
        if kind == "std":
            if len(values) < 2:
                return math.nan
            exact = [Fraction(value) for value in values]
            mean = sum(exact) / len(exact)
            return math.sqrt(sum((value - mean) ** 2 for value in exact) / (len(exact) - 1))
        return (min(values) if kind == "min" else max(values)) if values else math.nan


def row_operator(op, a, b=0.0, c=0.0, d=0.0):
    """One row operator on plain floats."""
    if op == "haversine":
        return haversine_km(a, b, c, d)
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
        case "sin":
            return math.sin(a)
        case "cos":
            return math.cos(a)
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


def haversine_km(lat_1, lon_1, lat_2, lon_2):
    """By the spherical law of vectors: another formula for the same distance."""
    if any(math.isnan(x) for x in (lat_1, lon_1, lat_2, lon_2)):
        return math.nan
    places = []
    for lat, lon in ((lat_1, lon_1), (lat_2, lon_2)):
        phi, lam = math.radians(lat), math.radians(lon)
        places.append((math.cos(phi) * math.cos(lam), math.cos(phi) * math.sin(lam), math.sin(phi)))
    (x1, y1, z1), (x2, y2, z2) = places
    cross = math.hypot(y1 * z2 - z1 * y2, z1 * x2 - x1 * z2, x1 * y2 - y1 * x2)
    return 6371.0088 * math.atan2(cross, x1 * x2 + y1 * y2 + z1 * z2)
