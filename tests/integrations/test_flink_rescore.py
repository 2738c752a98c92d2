"""Re-scoring in Flink, beside `tollgate score`."""

import json

import polars as pl
import pytest

from integrations.conftest import in_flink

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def test_rescore_writes_what_score_writes_bit_for_bit_also_in_parallel(flink, scored):
    """Two tasks judge, several chunks and bad rows: the parts together are the file of `tollgate score`, reasons too."""
    good = pl.read_parquet(scored / "payments.parquet")
    twice = good.head(1)  # a repeated id, and a row without one
    lacking = good.tail(1).with_columns(transaction_id=pl.lit(None, pl.String))
    pl.concat([good, twice, lacking]).write_parquet(scored / "all.parquet")
    printed = in_flink(flink, "tollgate", "score", "all.parquet", "score.parquet", cwd=scored, expect=4)
    assert "decisions to score.parquet" in printed
    printed = in_flink(
        flink, "tollgate_flink", "rescore", "all.parquet", "scores", "--parallelism", "2", cwd=scored, expect=4
    )
    assert f"wrote {len(good)} decisions to scores" in printed
    expected, got = pl.read_parquet(scored / "score.parquet"), pl.read_parquet(scored / "scores" / "*.parquet")
    assert len(list((scored / "scores").iterdir())) == 2
    assert got.equals(expected)
    assert got["outcome"].n_unique() == 3
    assert got["reasons"].n_unique() > 10
    sides = [(scored / f"{name}.rejected.jsonl").read_text() for name in ("scores", "score.parquet")]
    assert sides[0] == sides[1]
    assert [json.loads(line)["code"] for line in sides[0].splitlines()] == ["duplicate_id", "missing_value"]


def test_rescore_leaves_an_output_that_is_there_alone(flink, scored, tmp_path):
    """It says so before anything runs."""
    printed = in_flink(flink, "tollgate_flink", "rescore", "payments.parquet", tmp_path, cwd=scored, expect=2)
    assert "output_exists" in printed
    assert list(tmp_path.iterdir()) == []
