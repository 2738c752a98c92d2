"""A real broker, started once, and a bundle for the workers that run as processes."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from cli.running import tollgate
from services import lack
from stream.cluster import Cluster

SCRIPT = Path(__file__).parents[2] / "scripts" / "kafka"
SETTINGS = """
[train]
model = "mlp"
hidden = [16]
max_epochs = 1
refit = false

[evaluate]
beside = []
resamples = 0
"""


def kafka(*arguments, limit_s=900):
    return subprocess.run(
        [sys.executable, SCRIPT, *map(str, arguments)], check=True, text=True, stdout=subprocess.PIPE, timeout=limit_s
    ).stdout.strip()


@pytest.fixture(scope="session")
def cluster(tmp_path_factory):
    """One broker of Apache Kafka."""
    lacking = [name for name in ("java", "mvn") if shutil.which(name) is None]
    if lacking:
        why = f"needs {' and '.join(lacking)}; on Debian: apt-get install maven openjdk-17-jre-headless"
        lack("kafka", why)
    folder = tmp_path_factory.mktemp("kafka") / "run"
    try:
        yield Cluster(kafka("start", "--folder", folder))
    finally:
        kafka("stop", "--folder", folder)


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """A folder with simulated payments and a champion that was trained for a moment."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "tollgate.toml").write_text(SETTINGS)
    tollgate("simulate", "payments.parquet", "--transactions", 20_000, "--days", 45, "--cards", 2000, cwd=folder)
    tollgate("train", "payments.parquet", cwd=folder)
    return folder
