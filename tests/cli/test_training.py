"""Training as its options change it, by the commands that a user would run."""

import re
import subprocess
import sys

import msgspec
import polars as pl
import pytest

from cli.running import ENVIRONMENT, serving, tollgate
from cli.trusting import trust, trusting
from tollgate.bundle import CHAMPION, SIGNATURE, Registry
from tollgate.signature import public_key

WIDE = """
from torch import nn


class Line(nn.Module):
    def __init__(self, inputs, config):
        super().__init__()
        self.line = nn.Linear(inputs.scores + len(inputs.masked), 1)

    def forward(self, numbers, places):
        return self.line(numbers)
"""


def stored(printed):
    return re.search("stored bundle ([0-9a-f]{16})", printed)[1]


def manifest(folder, bundle_id):
    return Registry(folder / "bundles").load(bundle_id).manifest


def test_lightgbm_may_be_champion_and_serves_through_onnx_with_reasons(workspace):
    """Trees are exported, promoted and decide like any other model."""
    printed = tollgate("train", "payments.parquet", "--model", "lightgbm", "--promote", cwd=workspace)

    assert "is the champion" in printed
    assert set(manifest(workspace, stored(printed)).files) == {"model.onnx", "report.html"}
    row = pl.read_parquet(workspace / "payments.parquet").drop("is_fraud", "label_available").row(9, named=True)
    known = {name: value for name, value in row.items() if value is not None}
    body = msgspec.json.encode(known | {"effective_time": row["effective_time"].strftime("%Y-%m-%dT%H:%M:%SZ")})
    with serving(cwd=workspace) as server:
        status, answer = server.predict(body)
    assert status == 200, answer
    assert answer["mode"] == "normal"
    assert 0 <= answer["confidence"] <= 1


def test_training_on_begins_with_the_weights_of_a_bundle(workspace):
    """`--from champion` keeps its tables and takes few, small steps."""
    first = Registry(workspace / "bundles").load().manifest

    printed = tollgate("train", "payments.parquet", "--from", "champion", cwd=workspace)

    on = manifest(workspace, stored(printed))
    assert on.names == first.names
    assert on.metrics["average_precision"] == pytest.approx(first.metrics["average_precision"], abs=0.1)
    both = tollgate("train", "payments.parquet", "--from", "champion", "--tune", "4s", cwd=workspace, expect=2)
    assert "leave out --tune and --model" in both
    trees = stored(tollgate("train", "payments.parquet", "--model", "lightgbm", cwd=workspace))
    assert "cannot be trained on" in tollgate("train", "payments.parquet", "--from", trees, cwd=workspace, expect=5)


def test_a_search_says_what_it_found_and_the_bundle_keeps_it(workspace):
    """The parameters are those of the best trial, for the model and for LightGBM."""
    printed = tollgate("train", "payments.parquet", "--tune", "4s", cwd=workspace)

    found = re.search(r"searched: hidden \[([0-9, ]+)\], dropout ([0-9.]+)", printed)
    train = manifest(workspace, stored(printed)).train
    assert list(train.hidden) == [int(size) for size in found[1].split(",")]
    assert f"{train.dropout:.2f}" == found[2]


def test_a_network_of_ones_own_trains_and_serves_without_its_code(workspace):
    """The bundle holds the graph: what serves needs neither the module nor PyTorch."""
    (workspace / "mine.py").write_text(WIDE)
    printed = tollgate("train", "payments.parquet", "--model", "mine:Line", "--promote", cwd=workspace)
    (workspace / "mine.py").unlink()

    assert "Line" in printed
    assert "wrote" in tollgate("score", "payments.parquet", "decisions.parquet", cwd=workspace)


@pytest.mark.slow
def test_two_processes_of_torchrun_train_one_bundle(workspace):
    """Both fit, the first one alone shows and stores."""
    before = set(Registry(workspace / "bundles").list())
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--rdzv-backend", "c10d"]
    rest = ["--rdzv-endpoint", "127.0.0.1:0", "-m", "tollgate", "train", "payments.parquet"]
    done = subprocess.run(
        [*command, *rest], cwd=workspace, env=ENVIRONMENT, capture_output=True, text=True, timeout=280, check=False
    )

    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("stored bundle") == 1
    assert len(set(Registry(workspace / "bundles").list()) - before) == 1
    assert not (workspace / "bundles" / ".training").exists()


def test_thresholds_by_budget_are_chosen_on_the_validation_rows_and_stored(workspace):
    """What the report shows is what the bundle decides by."""
    with (workspace / "tollgate.toml").open("a") as file:
        file.write('\n[policy]\nchoose = "budget"\nreview_per_day = 3\n')

    policy = manifest(workspace, stored(tollgate("train", "payments.parquet", cwd=workspace))).policy

    assert policy.choose == "budget"
    assert 0 < policy.review < 1
    assert policy.review != 0.5
    assert policy.block >= policy.review


@pytest.mark.parametrize(
    ("damage", "code", "says"),
    [
        (pl.lit(False).alias("is_fraud"), 3, "no fraud"),
        (pl.lit(True).alias("is_fraud"), 3, "nothing but fraud"),
        ((pl.col("effective_time") - pl.duration(hours=1)).alias("label_available"), 3, "known before"),
        (
            (pl.col("effective_time") + pl.duration(days=400)).alias("label_available"),
            3,
            "have a label that came after",
        ),
    ],
)
def test_labels_that_cannot_be_learned_from_are_refused(workspace, damage, code, says):
    """One class, labels from the past or from the future: an error that says which, and no bundle."""
    frame = pl.read_parquet(workspace / "payments.parquet")
    frame.with_columns(damage).write_parquet(workspace / "bad.parquet")
    before = Registry(workspace / "bundles").list()

    assert says in tollgate("train", "bad.parquet", cwd=workspace, expect=code)
    assert Registry(workspace / "bundles").list() == before


def test_useless_columns_and_too_few_frauds_are_warned_of(workspace):
    """A model is made, but never in silence: constant and missing features and a poor calibration are told."""
    frame = pl.read_parquet(workspace / "payments.parquet")
    number = pl.int_range(pl.len()).over("is_fraud")
    few = frame.filter(~pl.col("is_fraud") | (number % 7 == 0))
    few.with_columns(pl.lit(None, pl.String).alias("device_id"), pl.lit("ecom").alias("channel")).write_parquet(
        workspace / "poor.parquet"
    )

    printed = " ".join(tollgate("train", "poor.parquet", cwd=workspace).split())

    assert "is missing on all training rows; the model ignores it" in printed
    assert "'channel' is the same on all training rows" in printed
    assert "scores are not calibrated: expected at least 20 rows" in printed


def test_training_on_the_ledger_learns_from_the_same_rows_as_on_the_file_that_was_imported(workspace):
    """Features, labels and times are equal bit for bit, whichever way the history came."""
    of_file = stored(tollgate("train", "payments.parquet", "--model", "lightgbm", cwd=workspace))
    tollgate("import", "payments.parquet", cwd=workspace)
    of_ledger = stored(tollgate("train", "--model", "lightgbm", cwd=workspace))
    assert manifest(workspace, of_ledger).training == manifest(workspace, of_file).training
    assert manifest(workspace, of_ledger).metrics == manifest(workspace, of_file).metrics


def test_with_trusted_keys_a_training_signs_what_it_promotes(workspace):
    """Without a key that is trusted it does not begin, unless another bundle goes on deciding."""
    fast = ("train", "payments.parquet", "--model", "lightgbm")
    secret, other = (workspace / name for name in ("secret", "other"))
    for path, digit in ((secret, "a"), (other, "b")):
        path.write_text(digit * 64)
        path.chmod(0o600)
    public = public_key(bytes.fromhex("a" * 64))
    trust(public, folder=workspace)
    registry = Registry(workspace / "bundles")
    before, pointer = registry.list(), workspace / "bundles" / CHAMPION

    assert "neither is set" in tollgate(*fast, "--promote", cwd=workspace, expect=2)
    champion = pointer.read_bytes()
    pointer.unlink()
    untrusted = {"TOLLGATE_SIGNING_KEY_FILE": str(other)}
    assert "add this public key to trusted_keys" in tollgate(*fast, cwd=workspace, expect=2, env=untrusted)
    assert registry.list() == before

    pointer.write_bytes(champion)
    printed = tollgate(*fast, cwd=workspace)
    assert f"run 'tollgate bundles sign {stored(printed)}'" in printed
    assert not (workspace / "bundles" / stored(printed) / SIGNATURE).exists()
    printed = tollgate(*fast, "--promote", cwd=workspace, env={"TOLLGATE_SIGNING_KEY_FILE": str(secret)})
    assert f"{stored(printed)} is signed; public key {public}" in printed
    assert trusting(public, folder=workspace).load().id == stored(printed)
    assert re.search(f"bundle.sign[ │]+{stored(printed)}", tollgate("audit", cwd=workspace))
