"""A trained bundle, made once: by the commands that a user would run."""

import shutil

import pytest
from typer.testing import CliRunner

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


@pytest.fixture
def invoke(tmp_path, monkeypatch):
    """Runs a command of an app in a folder of its own; errors are raised as the command line's end sees them."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")

    def one(app, *arguments, expect=0):
        done = CliRunner().invoke(app, arguments)
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        assert done.exit_code == expect, done.output
        return done

    return one
