"""Fixtures that every test may use."""

import pytest

from tollgate.ledger import Ledger


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
