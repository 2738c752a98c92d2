"""Real servers, started once."""

import pytest

from benchmarks import redis_servers
from services import lack


def _needed():
    if not redis_servers.installed():
        lack("redis", f"needs {redis_servers.PACKAGE}")


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    """One server."""
    _needed()
    one = redis_servers.Server(tmp_path_factory.mktemp("redis"))
    yield one
    one.stop()


@pytest.fixture(scope="session")
def cluster(tmp_path_factory):
    """Three primaries with a replica each."""
    _needed()
    one = redis_servers.Cluster(tmp_path_factory.mktemp("cluster"))
    yield one
    one.stop()
