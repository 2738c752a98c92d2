"""docs/features.md says what the code does."""

import math
import re
from pathlib import Path

import numpy as np
import pytest

from tollgate.config import Config
from tollgate.features import NOT_FRAUD, Arrivals, Entity, FeatureEngine
from tollgate.features.operators import ROW_OPERATORS
from tollgate.features.plan import compile_plan
from tollgate.files import LabelFields, TransactionFile
from tollgate.intake import TransactionReader

PAGE = (Path(__file__).parents[2] / "docs" / "features.md").read_text(encoding="utf-8")
CONFIG = Config()
MISSING = "-"


def section(title):
    """The text under a heading, up to the next one of its rank."""
    rank = title.split(" ")[0]
    return re.search(rf"^{re.escape(title)}$(.*?)(?=^{rank} |\Z)", PAGE, re.DOTALL | re.MULTILINE)[1]


def block(text, language):
    return re.search(rf"```{language}\n(.*?)```", text, re.DOTALL)[1]


def rows_of(text):
    """The cells of the first table of a text, heading included."""
    lines = re.search(r"(?:^\|.*\n)+", text, re.MULTILINE)[0].splitlines()
    cells = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]
    return [cells[0], *cells[2:]]


def features_in(code):
    names = {}
    exec(code, names)
    return names["FEATURES"]


def test_the_worked_example_gives_the_values_in_its_table(tmp_path):
    example = section("## A worked example")
    plan = compile_plan(features_in(block(example, "python")), CONFIG.table, CONFIG.money.scale)
    path = tmp_path / "payments.csv"
    path.write_text(block(example, "csv"))
    label = LabelFields(CONFIG.label.source, CONFIG.label.available_from, CONFIG.label.delay_us)
    file = TransactionFile(path, TransactionReader(CONFIG.table, CONFIG.money, b"k" * 16), label)
    (chunk,) = file.chunks()
    heading, *table = rows_of(example)

    values = Arrivals(FeatureEngine(plan, 2**24)).observe(
        chunk.batch, np.where(chunk.is_fraud, chunk.available_us, NOT_FRAUD)
    )

    assert heading == ["transaction_id", *plan.names]
    assert [row[0] for row in table] == list(chunk.batch.ids)
    assert [one.transaction_id for one in chunk.rejected] == ["b"]
    stated = [[math.nan if cell == MISSING else float(cell) for cell in row[1:]] for row in table]
    np.testing.assert_array_equal(values, stated)


def test_the_first_example_compiles_under_the_built_in_schema():
    features = features_in(block(PAGE, "python"))
    assert len(compile_plan(features, CONFIG.table, CONFIG.money.scale).names) == 14


@pytest.mark.parametrize("name", [name for name in vars(Entity) if not name.startswith("_")])
def test_every_method_of_an_entity_is_in_the_table_of_histories(name):
    listed = {re.match(r"`e\.(\w+)", row[0])[1] for row in rows_of(section("### Histories"))[1:]}
    if name not in ("columns", "name"):
        assert name in listed


def test_the_table_of_row_operators_lists_exactly_those_that_there_are():
    listed = [row[0].strip("`") for row in rows_of(section("### Row operators"))[1:]]
    assert sorted(listed) == sorted(ROW_OPERATORS)


def test_what_the_table_of_histories_says_is_missing_without_an_entity_is():
    """A transaction without a device gets a missing value from every method of a device."""
    features = [
        *(f"device.{call}" for call in (
            'count(over="1h")', 'sum(tx.amount, over="1h")', 'mean(tx.amount, over="1h")', 'std(tx.amount, over="1h")',
            'min(tx.amount, over="1h")', 'max(tx.amount, over="1h")', 'distinct(tx.card_id, over="1h")',
            'zscore(tx.amount, over="1d")', 'ratio(tx.amount, over="1d")', 'fraud_count(over="1d")',
            'fraud_rate(over="7d", delay="1d")', "seconds_since_last()", "seconds_since_first()", "last(tx.amount)",
            "lag(tx.amount, last=2)[1]", "seconds_since_lag(last=2)[0]", "median(tx.amount, last=9)",
            "mad(tx.amount, last=9)", "robust_zscore(tx.amount, last=9)", "ratio_to_median(tx.amount, last=9)",
            "seconds_since_fraud()", "seconds_since_first_fraud()", "fraud_spell_count()",
            "same_as_last(tx.mcc)", "distance_km()", "speed_kmh()", "is_new()", 'is_new_for(entity("card_id"))',
        ))
    ]  # fmt: skip
    methods = {re.match(r"device\.(\w+)", one)[1] for one in features}
    assert methods == {name for name in vars(Entity) if not name.startswith("_")} - {"columns", "name"}
    listed = f"from tollgate.features import *\ndevice = entity('device_id')\nFEATURES = [{', '.join(features)}]"
    plan = compile_plan(features_in(listed), CONFIG.table, CONFIG.money.scale)
    reader = TransactionReader(CONFIG.table, CONFIG.money, b"k" * 16)
    batch = reader.from_json(
        b'{"transaction_id": "a", "effective_time": "2026-03-02T12:00:00Z", "amount": 1, "currency": "EUR", '
        b'"card_id": "c", "lat": 1.5, "lon": 2.5, "mcc": "1"}'
    )
    assert np.isnan(FeatureEngine(plan, 2**24).observe(batch)).all()
