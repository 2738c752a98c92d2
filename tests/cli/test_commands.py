"""The commands: what they print, what they leave, and how they end."""

import json

import polars as pl
import pytest

from cli.running import tollgate
from tollgate.ledger import Ledger
from tollgate.report import MEASURES


def test_train_prints_every_measure_beside_lightgbm_and_stores_a_champion(trained):
    printed = (trained / "train.txt").read_text()
    for words in ("TabM", "LightGBM", "Average precision", "AUC ROC", "Card precision at 100 a day", "champion"):
        assert words in printed
    (bundle,) = (path for path in (trained / "bundles").iterdir() if path.is_dir())
    assert "</html>" in (bundle / "report.html").read_text()


def test_evaluate_measures_the_stored_bundle_as_the_training_did(trained):
    printed = tollgate("evaluate", "payments.parquet", cwd=trained)
    rows = [line for line in (trained / "train.txt").read_text().splitlines() if line.startswith("│")]
    assert len(rows) == len(MEASURES)
    assert [line for line in printed.splitlines() if line.startswith("│")] == rows


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".jsonl"])
def test_score_decides_every_row_of_a_file(workspace, suffix):
    frame = pl.read_parquet(workspace / "payments.parquet").head(2000)
    if suffix == ".parquet":
        frame.write_parquet(workspace / "some.parquet")
    else:
        frame = frame.with_columns(pl.col("effective_time").dt.strftime("%Y-%m-%dT%H:%M:%S%.6fZ"))
        frame = frame.drop("label_available")
        (frame.write_csv if suffix == ".csv" else frame.write_ndjson)(workspace / f"some{suffix}")
    printed = tollgate("score", f"some{suffix}", f"out/decisions{suffix}", cwd=workspace)
    read = {".parquet": pl.read_parquet, ".csv": pl.read_csv, ".jsonl": pl.read_ndjson}[suffix]
    decisions = read(workspace / f"out/decisions{suffix}")
    assert decisions["transaction_id"].to_list() == frame["transaction_id"].to_list()
    assert set(decisions["outcome"]) <= {"approve", "review", "block"}
    assert decisions["score"].is_between(0, 1).all()
    assert "wrote 2000 decisions" in printed
    for reasons, outcome in zip(decisions["reasons"], decisions["outcome"], strict=True):
        assert bool(json.loads(reasons)) == (outcome != "approve")


def test_score_rejects_bad_rows_into_a_side_file_and_goes_on(workspace):
    frame = pl.read_parquet(workspace / "payments.parquet").head(100)
    frame = frame.with_columns(pl.when(pl.int_range(100) == 7).then(-5.0).otherwise(pl.col("amount")).alias("amount"))
    frame.write_parquet(workspace / "some.parquet")
    printed = tollgate("score", "some.parquet", "decisions.parquet", cwd=workspace, expect=4)
    assert "1 rows were rejected; see decisions.parquet.rejected.jsonl" in printed
    assert len(pl.read_parquet(workspace / "decisions.parquet")) == 99
    (line,) = (workspace / "decisions.parquet.rejected.jsonl").read_text().splitlines()
    assert json.loads(line)["row"] == 7
    assert json.loads(line)["code"] == "bad_amount"


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("score", "none.parquet", "o.parquet"), 3, "expected a file at none.parquet"),
        (("score", "payments.parquet", "o.xls"), 2, "ending in .parquet, .csv or .jsonl"),
        (("score", "payments.parquet", "o.csv", "--bundle", "0123456789abcdef"), 5, "expected the id of a bundle"),
        (("serve", "--bundle", "nonsense"), 5, "expected the id of a bundle"),
        (("train", "tollgate.toml"), 3, "expected a file ending in"),
        (("train", "payments.parquet", "--config", "none.toml"), 2, "name it with --config"),
        (("import", "none.csv"), 3, "expected a file at none.csv"),
        (("simulate",), 2, "expected a file to write"),
        (("simulate", "x.parquet", "--fraud-rate", "2"), 2, "fraud_rate"),
        (("flap",), 2, "No such command"),
    ],
)
def test_what_cannot_be_done_ends_with_its_exit_code_and_says_why(workspace, arguments, code, says):
    printed = tollgate(*arguments, cwd=workspace, expect=code)
    assert says in printed
    assert "Traceback" not in printed


def test_a_file_without_labels_cannot_train(workspace):
    pl.read_parquet(workspace / "payments.parquet").drop("is_fraud").write_parquet(workspace / "bare.parquet")
    assert "expected a column 'is_fraud'" in tollgate("train", "bare.parquet", cwd=workspace, expect=3)


def test_a_damaged_bundle_is_refused(workspace):
    (model,) = workspace.glob("bundles/*/model.onnx")
    model.write_bytes(model.read_bytes()[:-1] + b"\x00")
    assert "is not what was stored" in tollgate("score", "payments.parquet", "o.csv", cwd=workspace, expect=5)


def test_a_second_training_leaves_the_champion_unless_told(workspace):
    (workspace / "tollgate.toml").write_text("[train]\nmax_epochs = 1\nhidden = [8]\n")
    before = json.loads((workspace / "bundles/champion.json").read_text())
    assert "stays the champion" in tollgate("train", "payments.parquet", cwd=workspace)
    assert json.loads((workspace / "bundles/champion.json").read_text()) == before
    assert "is the champion" in tollgate("train", "payments.parquet", "--promote", cwd=workspace)


def test_import_is_idempotent_and_can_leave_out_the_newest(workspace):
    all_rows = len(pl.read_parquet(workspace / "payments.parquet"))
    first = tollgate("import", "payments.parquet", "--before", "7d", cwd=workspace)
    imported = int(first.split("imported ")[1].split()[0])
    assert 0 < imported < all_rows
    again = tollgate("import", "payments.parquet", cwd=workspace)
    assert f"imported {all_rows - imported} transactions" in again
    assert f"{imported} were there already" in again


def test_help_and_version_need_nothing(tmp_path):
    assert "simulate" in tollgate("--help", cwd=tmp_path)
    assert tollgate("--version", cwd=tmp_path).startswith("tollgate 0.")


def test_archive_moves_old_transactions_to_files_that_a_replay_reads(tmp_path):
    """The folder is named once; what is archived is not imported again."""
    tollgate("simulate", "payments.parquet", "--transactions", 2000, cwd=tmp_path)
    imported = tollgate("import", "payments.parquet", cwd=tmp_path)
    assert "imported 2000 transactions" in imported
    assert "name one with --to" in tollgate("archive", "--older-than", "1d", cwd=tmp_path, expect=5)
    assert "archived 0 transactions" in tollgate("archive", "--older-than", "1d", "--to", "kept", cwd=tmp_path)
    printed = tollgate("archive", "--older-than", "0s", "--to", "kept", cwd=tmp_path)
    assert "archived 2000 transactions" in printed
    files = list((tmp_path / "kept").iterdir())
    assert sum(pl.read_parquet(file).height for file in files) == 2000
    assert all(str(file) in printed for file in files)
    with Ledger(f"sqlite:///{tmp_path}/tollgate.db", write=False) as ledger:
        assert sum(len(part) for part in ledger.replay()) == ledger.transactions == 2000
    again = tollgate("import", "payments.parquet", cwd=tmp_path)
    assert "imported 0 transactions" in again
    assert "2000 were left out" in again
    assert "archived 0 transactions" in tollgate("archive", "--older-than", "0s", cwd=tmp_path)
