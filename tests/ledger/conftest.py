"""Where a ledger lies: the contract's tests run for each kind of database."""

import pytest


@pytest.fixture(scope="session")
def ledger_url():
    """Returns the URL of a new ledger in a folder."""
    return lambda folder: f"sqlite:///{folder}/folder/ledger.db"


@pytest.fixture
def url(tmp_path, ledger_url):
    return ledger_url(tmp_path)
