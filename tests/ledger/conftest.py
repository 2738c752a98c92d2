"""Where a ledger lies: the contract's tests run for each kind of database."""

import pytest


@pytest.fixture(scope="session")
def sqlite_url():
    """Returns the URL of a new ledger in a folder."""
    return lambda folder: f"sqlite:///{folder}/folder/ledger.db"


@pytest.fixture(scope="session", params=["sqlite", "postgres"])
def ledger_url(request, sqlite_url):
    """Returns the URL of a new ledger, which may use a folder."""
    if request.param == "sqlite":
        return sqlite_url
    server = request.getfixturevalue("postgres_server")
    return lambda _folder: server.ledger()


@pytest.fixture
def url(tmp_path, ledger_url):
    return ledger_url(tmp_path)
