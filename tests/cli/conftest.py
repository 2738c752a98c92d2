"""A trained bundle, made once: by the commands that a user would run."""

import shutil

import pytest

from cli.running import tollgate

SETTINGS = """
[train]
max_epochs = 5
hidden = [32]
"""


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """A folder with simulated payments, a configuration and a champion."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "tollgate.toml").write_text(SETTINGS)
    tollgate("simulate", "payments.parquet", "--transactions", 30_000, "--days", 45, "--cards", 3000, cwd=folder)
    printed = tollgate("train", "payments.parquet", cwd=folder)
    (folder / "train.txt").write_text(printed)
    return folder


@pytest.fixture
def workspace(trained, tmp_path):
    """A copy of it that a test may change."""
    shutil.copytree(trained, tmp_path / "work")
    return tmp_path / "work"
