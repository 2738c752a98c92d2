"""Flink as a user has it: an environment of its own, made by integrations/flink/setup."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from cli.running import tollgate
from services import lack
from stream.conftest import SETTINGS, cluster  # noqa: F401  # the fixture: a real broker

ROOT = Path(__file__).parents[2]
PYTHON = ROOT / "build" / "flink" / "venv" / "bin" / "python"
HOLDS = """
[policy]
review = 0.01
block = 0.05
"""


@pytest.fixture(scope="session")
def flink():
    """The environment in which the jobs run, as variables of a process, and its Python."""
    lacking = "" if PYTHON.is_file() else "build/flink; make it with integrations/flink/setup"
    if shutil.which("java") is None:
        lacking = "java; on Debian: apt-get install openjdk-17-jre-headless"
    if lacking:
        lack("flink", f"needs {lacking}")
    path = f"{ROOT / 'src'}:{ROOT / 'integrations' / 'flink'}"
    binaries = f"{PYTHON.parent}:{os.environ['PATH']}"  # Flink's own scripts call `python`
    return {**os.environ, "PYTHONPATH": path, "PATH": binaries, "OMP_NUM_THREADS": "1"}, str(PYTHON)


@pytest.fixture(scope="session")
def scored(tmp_path_factory):
    """A folder with payments and a champion that holds and blocks some of them."""
    folder = tmp_path_factory.mktemp("flink")
    (folder / "tollgate.toml").write_text(SETTINGS + HOLDS)
    tollgate("simulate", "payments.parquet", "--transactions", 70_000, "--days", 45, "--cards", 5000, cwd=folder)
    tollgate("train", "payments.parquet", cwd=folder)
    return folder


def in_flink(flink, *arguments, cwd, expect=0):
    """Run a command in the environment of Flink; return what it printed, both streams together."""
    environment, python = flink
    done = subprocess.run(
        [python, "-m", *map(str, arguments)],
        cwd=cwd, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False, timeout=240,
    )  # fmt: skip
    assert done.returncode == expect, f"{arguments} ended with {done.returncode}:\n{done.stdout}"
    return done.stdout
