"""Fixtures that every test may use."""

import os

import pytest

import postgres_service
from object_store import object_store
from tollgate.ledger import Ledger, SharedLedger

for variable in ("COLUMNS", "LINES"):  # a console that is made while one is set keeps that width for good
    os.environ.pop(variable, None)


@pytest.fixture(scope="session")
def postgres_server():
    """A PostgreSQL that all tests share; it never syncs, for no test cuts the power."""
    server = postgres_service.start("fsync=off", "max_connections=200")
    yield server
    server.close()


@pytest.fixture
def open_ledger():
    """Opens ledgers, each of several writers under a name of its own, and closes them when the test is over."""
    opened = []

    def open_one(url, *args, kind=Ledger, **options):
        if issubclass(kind, SharedLedger):
            options.setdefault("writer", f"w{len(opened)}")
        opened.append(kind(url, *args, **options))
        return opened[-1]

    yield open_one
    for ledger in opened:
        ledger.close()


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory):
    """The environment of a process that reaches a running S3 server by `s3://`."""
    with object_store(tmp_path_factory.mktemp("s3")) as environment:
        yield environment


@pytest.fixture
def bucket(s3_server, monkeypatch, request):
    """The URL of an empty place on an S3 server, for this process and those that it starts."""
    for name, value in s3_server.items():
        monkeypatch.setenv(name, value)
    s3fs = pytest.importorskip("s3fs")
    s3fs.S3FileSystem.clear_instance_cache()
    name = f"bucket-{abs(hash(request.node.nodeid))}"
    s3fs.S3FileSystem().mkdir(name)
    return f"s3://{name}"
