"""Servers that a test needs: it is skipped without them, and fails where they must be there."""

import os

import pytest


def lack(service, why):
    """End the test: skip it saying why, or fail it where TOLLGATE_REQUIRE_SERVICES names the service, or `all`."""
    required = os.environ.get("TOLLGATE_REQUIRE_SERVICES", "").split()
    if service in required or "all" in required:
        pytest.fail(why)
    pytest.skip(why)
