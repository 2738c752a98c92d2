"""`tollgate import`: what it records is read back as the transactions of the file."""

import json

import numpy as np
import polars as pl
import pytest

from cli.running import tollgate
from tollgate.config import parse_config
from tollgate.features import FeatureEngine, entity, tx
from tollgate.features.plan import compile_plan
from tollgate.files import TransactionFile
from tollgate.intake import TransactionReader
from tollgate.ledger import Ledger
from tollgate.recovery import Recovery
from tollgate.transaction import concatenate

SETTINGS = """
[label]
from = "fraud"
[schema]
ignore = ["note"]
[schema.columns]
transaction_id = { kind = "id", from = "ref" }
effective_time = { kind = "timestamp", from = "when", zone = "Europe/Berlin" }
since = { kind = "timestamp", unit = "s" }
amount = { kind = "money", from = "total", currency = "EUR", required = true }
card_id = { kind = "entity", from = "card", required = true }
card = { kind = "category" }
risk = { kind = "number" }
known = { kind = "flag" }
home = { kind = "location", lat = "y", lon = "x" }
"""
ROWS = 40


def history():
    """Columns as a bank's export has them; many cells are empty."""
    some = lambda value, i: None if i % 4 == 3 else value  # noqa: E731
    return pl.DataFrame({
        "ref": [f"{i:04}" for i in range(ROWS)],
        "when": [f"2026-03-29 0{1 + i // 20}:{i:02}:00" for i in range(ROWS)],  # an hour that the clocks leave out
        "since": [some(1_700_000_000 + i, i) for i in range(ROWS)],
        "total": [i * 1.01 // 0.01 / 100 for i in range(ROWS)],
        "card": [f"00{i % 3}" for i in range(ROWS)],
        "risk": [some(i / 7, i) for i in range(ROWS)],
        "known": [some(i % 2 == 0, i) for i in range(ROWS)],
        "y": [some(50.0 + i, i) for i in range(ROWS)],
        "x": [some(13, i) for i in range(ROWS)],
        "note": ["private"] * ROWS,
        "fraud": [int(i == 5) for i in range(ROWS)],
    })  # fmt: skip


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".jsonl"])
def test_what_is_imported_is_recovered_as_the_file_itself(tmp_path, suffix):
    """The recorded bodies are typed JSON of the schema, and give the state that the file gives."""
    (tmp_path / "tollgate.toml").write_text(SETTINGS)
    path = tmp_path / f"history{suffix}"
    {".csv": pl.DataFrame.write_csv, ".parquet": pl.DataFrame.write_parquet}.get(suffix, pl.DataFrame.write_ndjson)(
        history(), path
    )
    tollgate("import", path.name, cwd=tmp_path)
    config = parse_config(SETTINGS, "test")
    reader = TransactionReader(config.table, config.money, b"k" * 16)
    plan = compile_plan(
        [tx.amount, entity("card_id").count(over="1h"), entity("card_id").sum(tx.amount, over="1d")],
        config.table, config.money.scale,
    )  # fmt: skip
    want = concatenate([chunk.batch for chunk in TransactionFile(path, reader).chunks()])
    whole = FeatureEngine(plan)
    whole.observe(want)
    with Ledger(f"sqlite:///{tmp_path / config.ledger.url.rsplit('/', 1)[1]}") as ledger:
        bodies = [one.body for part in ledger.replay() for one in part]
        recovered = Recovery(plan, reader, ledger).recover().engine
    got = reader.from_bodies(bodies)
    assert list(got.ids) == list(want.ids)
    assert (got.time_us == want.time_us).all()
    assert (got.keys == want.keys).all()
    assert (got.values.view(np.int64) == want.values.view(np.int64)).all()
    assert (recovered.observe(want) == whole.observe(want)).all()
    assert [reader.body(reader.decode(body)[1][0]) for body in bodies] == bodies
    first = json.loads(bodies[0])
    assert (first["ref"], first["total"], first["known"], first["card"]) == ("0000", 0.0, True, "000")
    assert not any(b"note" in body or b"private" in body for body in bodies)
