"""One contract for every place where files may lie: this machine, an object store in memory, an S3 server."""

import pytest

from tollgate.errors import ConfigError, InputError
from tollgate.folders import LocalFolder, RemoteFolder, natural, open_folder


@pytest.fixture(params=["local", "memory", "s3"])
def folder(request, tmp_path):
    """An empty folder."""
    if request.param == "local":
        return LocalFolder(tmp_path / "root")
    pytest.importorskip("fsspec")
    if request.param == "memory":
        return RemoteFolder(f"memory://{tmp_path.name}/root")
    return RemoteFolder(f"{request.getfixturevalue('bucket')}/root")


def put(folder, name, content):
    with folder.put(name) as path:
        path.write_bytes(content)


def test_what_was_put_is_found_read_and_fetched(folder):
    """Below folders, too, which need not be made first."""
    assert folder.find() == []
    assert folder.read("day=1/a.bin") is None
    put(folder, "day=1/a.bin", b"abc")
    put(folder, "b.bin", b"de")
    assert [(one.name, one.size) for one in folder.find()] == [("b.bin", 2), ("day=1/a.bin", 3)]
    assert folder.read("day=1/a.bin") == b"abc"
    with folder.fetch("day=1/a.bin") as path:
        assert path.read_bytes() == b"abc"


def test_a_put_replaces_and_tells_by_the_version(folder):
    """A file of the same size with other content is another version."""
    put(folder, "a.bin", b"abc")
    (before,) = folder.find()
    put(folder, "a.bin", b"xyz")
    (after,) = folder.find()
    assert folder.read("a.bin") == b"xyz"
    assert before.version != after.version


def test_a_put_that_fails_leaves_what_was_there(folder):
    """And nothing beside it."""
    put(folder, "a.bin", b"abc")

    def fail():
        with folder.put("a.bin") as path:
            path.write_bytes(b"half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert folder.read("a.bin") == b"abc"
    assert len(folder.find()) == 1


def test_what_is_removed_is_gone_and_may_be_removed_again(folder):
    """So that an interrupted clean-up can be repeated."""
    put(folder, "a.bin", b"abc")
    folder.remove("a.bin")
    folder.remove("a.bin")
    assert folder.find() == []


def test_numbers_in_names_sort_by_their_value():
    """What writes a set without leading zeros means this order."""
    names = ["day=2/part-10.parquet", "day=10/part-1.parquet", "day=2/part-9.parquet", "day=2/b", "day=2", "a"]
    assert sorted(names, key=natural) == [
        "a", "day=2", "day=2/b", "day=2/part-9.parquet", "day=2/part-10.parquet", "day=10/part-1.parquet"
    ]  # fmt: skip


def test_what_cannot_be_reached_says_where(tmp_path):
    """A file in the way of a folder, and a kind of URL that nobody knows."""
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="could not write"):
        put(LocalFolder(tmp_path / "file"), "a.bin", b"")
    pytest.importorskip("fsspec")
    with pytest.raises(ConfigError, match="nonsense://"):
        open_folder("nonsense://bucket/root")
