"""The benchmarks of the models run and say what they promise."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PURCHASES = ROOT.parent / "shared" / "data" / "ecommerce" / "purchases.parquet"
MEASURES = {"auc", "ap", "cp100", "lightgbm_ap", "ap_diff_ci_low"}


def run(*arguments):
    done = subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.skipif(not PURCHASES.is_file(), reason=f"needs {PURCHASES}; examples/ecommerce/README.md says where from")
def test_every_model_is_in_the_table_and_the_last_line_holds_the_promised_measures():
    """Networks, LightGBM and what was measured; one object for each data set."""
    printed = run("benchmarks.models", "--only", "ecommerce", "--search", "0", "--quick")

    for model in ("TabM", "MLP", "Sequence", "LightGBM"):
        assert model in printed
    figures = json.loads(printed.splitlines()[-1])["datasets"]
    assert set(figures) == {"ecommerce"}
    assert set(figures["ecommerce"]) == MEASURES
    assert 0.4 < figures["ecommerce"]["auc"] < 1


def test_reasons_are_measured_and_faithful():
    """Deleting what the reasons name lowers the score more than deleting as much at random."""
    figures = json.loads(run("benchmarks.reasons", "--transactions", "30000").splitlines()[-1])

    assert set(figures) == {"explain_us_p50", "explain_us_p99", "fidelity_ratio"}
    assert figures["explain_us_p50"] > 0
    assert figures["fidelity_ratio"] > 2
