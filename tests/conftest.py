"""Fixtures that every test may use."""

import pytest

import postgres_service
from tollgate.ledger import Ledger


@pytest.fixture(scope="session")
def postgres_server():
    """A PostgreSQL that all tests share; it never syncs, for no test cuts the power."""
    server = postgres_service.start("fsync=off", "max_connections=200")
    yield server
    server.close()


@pytest.fixture
def open_ledger():
    """Opens ledgers and closes them when the test is over."""
    opened = []

    def open_one(url, *args, kind=Ledger, **options):
        opened.append(kind(url, *args, **options))
        return opened[-1]

    yield open_one
    for ledger in opened:
        ledger.close()
