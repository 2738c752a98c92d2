"""The engine against SQL: the same windows over data that nobody here made, written again as joins in DuckDB."""

import os
from dataclasses import dataclass
from pathlib import Path

import duckdb
import numpy as np
import pytest

from tollgate.config import read_config
from tollgate.duration import parse_duration_us
from tollgate.features import Expr, FeatureEngine, entity, tx
from tollgate.features.plan import compile_plan
from tollgate.files import TransactionFile
from tollgate.intake import TransactionReader
from tollgate.transaction import concatenate

ROOT = Path(__file__).parents[2]
DATA = ROOT.parent / "shared" / "data"
STATE_BYTES = 2**30
STD_ULPS = 2  # SQL rounds whole numbers once each and then takes the root; the engine rounds elsewhere


@dataclass(frozen=True)
class Where:
    """One condition, as a feature and as SQL over the earlier event `b`."""

    feature: Expr
    sql: str


@dataclass(frozen=True)
class Case:
    """One window aggregate of one entity; `value` is a column, None for a count."""

    keys: tuple[str, ...]
    aggregate: str
    window: str
    value: str | None = None
    where: Where | None = None

    @property
    def feature(self) -> Expr:
        of = () if self.value is None else (getattr(tx, self.value),)
        where = None if self.where is None else self.where.feature
        return getattr(entity(*self.keys), self.aggregate)(*of, over=self.window, where=where)

    @property
    def sql(self) -> str:
        condition = f"b.t > a.t - {parse_duration_us(self.window)}"
        condition += "" if self.where is None else f" AND {self.where.sql}"
        kept = f"FILTER (WHERE {condition})"
        total, count = f"sum(b.minor) {kept}", f"count(b.seq) {kept}"
        spread = f"{count} * sum(b.minor * b.minor) {kept} - {total} * {total}"
        answer = {
            "count": count,
            "sum": f"coalesce({total}, 0)::DOUBLE / 100.0",
            "mean": f"{total}::DOUBLE / 100.0 / {count}",
            "std": f"CASE WHEN {count} > 1 THEN "
            f"sqrt(({spread})::DOUBLE / ({count} * ({count} - 1))::DOUBLE) / 100.0 END",
            "min": f"min(b.minor) {kept} / 100.0",
            "max": f"max(b.minor) {kept} / 100.0",
            "distinct": f"count(DISTINCT b.{self.value}) {kept}",
        }[self.aggregate]
        known = " AND ".join(f"a.{key} IS NOT NULL" for key in self.keys)
        return f"CASE WHEN {known} THEN ({answer})::DOUBLE END"


@dataclass(frozen=True)
class Source:
    """A data set: its file, how much of it to read, and its events in SQL, `seq` being the order of arrival."""

    example: str
    file: str
    rows: int
    events: str
    cases: tuple[Case, ...]


def money(keys, windows, aggregates=("sum", "mean", "std", "min", "max"), where=None):
    """Aggregates of the amount, and the count."""
    counts = [Case(keys, "count", window, where=where) for window in windows]
    return [*counts, *(Case(keys, one, window, "amount", where) for one in aggregates for window in windows)]


def distinct(keys, value, windows, where=None):
    return [Case(keys, "distinct", window, value, where) for window in windows]


CARD, TERMINAL, MERCHANT, DEVICE, IP = (("card_id",), ("terminal_id",), ("merchant_id",), ("device_id",), ("ip",))
SMALL, LARGE = Where(tx.amount < 20, "b.minor < 2000"), Where(tx.amount >= 100, "b.minor >= 10000")
HANDBOOK = Source(
    "handbook", "transactions.parquet", 60_000,
    """SELECT file_row_number AS seq, epoch_us(TX_DATETIME) AS t, CUSTOMER_ID AS card_id, TERMINAL_ID AS terminal_id,
              round(TX_AMOUNT * 100)::BIGINT AS minor
       FROM read_parquet(?, file_row_number = true) ORDER BY seq""",
    (
        *money(CARD, ["10m", "1h", "1d", "3d"]), *money(CARD, ["1d"], where=SMALL),
        *distinct(CARD, "terminal_id", ["1h", "1d"]), *distinct(CARD, "terminal_id", ["3d"], LARGE),
        *money(TERMINAL, ["1h", "1d", "5d"]), *money(TERMINAL, ["1h", "2d"], ["mean", "std", "max"], LARGE),
        *distinct(TERMINAL, "card_id", ["1d", "5d"]),
        *money(("card_id", "terminal_id"), ["1d", "5d"]), *money(("card_id", "terminal_id"), ["5d"], where=SMALL),
    ),
)  # fmt: skip
_FUEL = Where(tx.category == "gas_transport", "b.category = 'gas_transport'")
SPARKOV = Source(
    "sparkov", "transactions.parquet", 30_000,
    """SELECT file_row_number AS seq, unix_time::BIGINT * 1000000 AS t, cc_num AS card_id, merchant::VARCHAR AS merchant_id,
              round(amt * 100)::BIGINT AS minor, category::VARCHAR AS category
       FROM read_parquet(?, file_row_number = true) ORDER BY seq""",
    (
        Case(CARD, "count", "1m"), *money(CARD, ["1h", "1d", "7d"]), *money(CARD, ["1h", "7d"], where=_FUEL),
        *distinct(CARD, "merchant_id", ["1h", "7d"]), *distinct(CARD, "category", ["1d"], SMALL),
        *money(MERCHANT, ["1h", "1d", "7d"]), *distinct(MERCHANT, "card_id", ["1h", "7d"], LARGE),
        *money(("card_id", "merchant_id"), ["7d"]),
    ),
)  # fmt: skip
_YOUNG, _CHROME = Where(tx.age < 30, "b.age < 30"), Where(tx.browser == "Chrome", "b.browser = 'Chrome'")
ECOMMERCE = Source(
    "ecommerce", "purchases.parquet", 60_000,
    """SELECT row_number() OVER (ORDER BY purchase_time, file_row_number) AS seq, epoch_us(purchase_time) AS t,
              device_id, ip_address AS ip, purchase_value * 100 AS minor, age, browser
       FROM read_parquet(?, file_row_number = true) ORDER BY seq""",
    (
        *money(DEVICE, ["1m", "1h", "7d", "30d"]), *money(DEVICE, ["1h", "30d"], where=_YOUNG),
        *distinct(DEVICE, "ip", ["1h", "30d"]), *distinct(DEVICE, "age", ["30d"], _CHROME),
        *money(IP, ["1h", "30d"]), *money(IP, ["30d"], ["mean", "std"], _CHROME),
        *distinct(IP, "device_id", ["1m", "30d"]),
        *money(("device_id", "ip"), ["1h", "30d"]),
    ),
)  # fmt: skip


def require(path: Path):
    """Skip where the data is not at hand, but never in CI."""
    if path.is_file():
        return
    message = f"expected the data set {path.name} in {path.parent}, which is not part of the project"
    if os.environ.get("CI") == "true":
        pytest.fail(message)
    pytest.skip(message)


def engine_says(source: Source):
    """Return the features as the example's configuration reads the file, float64 (N, F)."""
    config = read_config(ROOT / "examples" / source.example / "tollgate.toml")
    reader = TransactionReader(config.table, config.money, b"key of this test")
    file = TransactionFile(DATA / source.example / source.file, reader, sort=config.files.sort)
    parts, rows = [], 0
    for chunk in file.chunks(source.rows):
        assert not chunk.rejected
        parts.append(chunk.batch)
        rows += len(chunk.batch)
        if rows >= source.rows:
            break
    batch = concatenate(parts).take(slice(0, source.rows))
    plan = compile_plan([case.feature for case in source.cases], config.table, config.money.scale)
    return FeatureEngine(plan, STATE_BYTES).observe(batch)


def sql_says(source: Source):
    """Return the same from SQL, float64 (N, F), NaN for NULL: each event joined with those that came before it."""
    answers: dict[int, np.ndarray] = {}
    with duckdb.connect(config={"threads": 1}) as connection:
        connection.execute(
            f"CREATE TABLE events AS SELECT * FROM ({source.events}) LIMIT {source.rows}",
            [str(DATA / source.example / source.file)],
        )
        for keys in dict.fromkeys(case.keys for case in source.cases):
            places = [place for place, case in enumerate(source.cases) if case.keys == keys]
            cases = [source.cases[place] for place in places]
            longest = max(parse_duration_us(case.window) for case in cases)
            same = " AND ".join(f"a.{key} = b.{key}" for key in keys)
            columns = connection.execute(
                f"""SELECT a.seq, {", ".join(f"{case.sql} AS f{place}" for place, case in zip(places, cases, strict=True))}
                    FROM events a LEFT JOIN events b
                    ON {same} AND b.t <= a.t AND b.t > a.t - {longest} AND b.seq < a.seq
                    GROUP BY a.seq, a.t, {", ".join(f"a.{key}" for key in keys)} ORDER BY a.seq"""
            ).fetchnumpy()
            answers |= {place: np.ma.filled(columns[f"f{place}"], np.nan) for place in places}
    return np.stack([answers[place] for place in range(len(source.cases))], axis=1)


def ulps(a, b):
    """How many representable numbers lie between two arrays of the same sign."""
    return np.abs(a.view(np.int64) - b.view(np.int64))


@pytest.mark.parametrize("source", [HANDBOOK, SPARKOV, ECOMMERCE], ids=lambda source: source.example)
def test_sql_says_the_same_of_real_data(source):
    """Every aggregate equals its SQL bit for bit, `std` within two ulp, missing where SQL says NULL."""
    require(DATA / source.example / source.file)
    ours, theirs = engine_says(source), sql_says(source)
    assert ours.shape == theirs.shape
    for place, case in enumerate(source.cases):
        mine, sql = np.ascontiguousarray(ours[:, place]), np.ascontiguousarray(theirs[:, place])
        assert np.array_equal(np.isnan(mine), np.isnan(sql)), case.feature.name
        there = ~np.isnan(mine)
        assert there.any(), f"{case.feature.name} is missing everywhere: the case proves nothing"
        assert case.aggregate == "std" or mine[there].any(), f"{case.feature.name} is 0 everywhere"
        assert ulps(mine[there], sql[there]).max() <= (STD_ULPS if case.aggregate == "std" else 0), case.feature.name


def test_without_the_data_ci_fails(monkeypatch):
    """Where the data is missing a developer is told and goes on; CI does not go green without its oracle."""
    nowhere = DATA / "nowhere" / "transactions.parquet"
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match="not part of the project"):
        require(nowhere)
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="not part of the project"):
        require(nowhere)
