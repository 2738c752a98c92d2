"""Bundles in an object store: what one machine stores and promotes, another one loads, checked."""

import threading

import pytest

from test_bundle import FILES, manifest
from tollgate.bundle import CHAMPION, MANIFEST, MODEL, Registry
from tollgate.errors import BundleError, ConfigError
from tollgate.folders import RemoteFolder

pytest.importorskip("fsspec")
from tollgate.remote_bundles import RemoteRegistry


@pytest.fixture(params=["memory", "s3"])
def url(request, tmp_path):
    """An empty place in an object store."""
    if request.param == "memory":
        return f"memory://{tmp_path.name}/bundles"
    return f"{request.getfixturevalue('bucket')}/bundles"


@pytest.fixture
def machine(url, tmp_path):
    """Makes registries of that place with a cache of their own, as on different machines."""
    made = []

    def one():
        made.append(RemoteRegistry(url, tmp_path / f"machine-{len(made)}"))
        return made[-1]

    return one


def test_what_one_machine_stores_another_one_loads(machine):
    """With the id and every file that a folder would give."""
    here, there = machine(), machine()
    assert there.list() == ()
    assert there.champion() is None
    bundle_id = here.store(manifest(), FILES)
    assert there.list() == (bundle_id,)
    loaded = there.load(bundle_id)
    assert loaded.manifest == here.load(bundle_id).manifest
    assert {name: loaded.read(name) for name in FILES} == FILES
    assert Registry(loaded.path.parent).store(manifest(), FILES) == bundle_id


def test_a_promotion_and_a_rollback_are_seen_by_all(machine):
    """The pointer is in the store, and nowhere else."""
    here, there = machine(), machine()
    first, second = (here.store(manifest(warnings=(text,)), FILES) for text in ("one", "two"))
    here.promote(first)
    here.promote(second)
    assert there.champion() == second
    assert there.load().id == second
    assert there.rollback() == first
    assert here.champion() == first
    with pytest.raises(BundleError, match="no champion before this one"):
        here.rollback()


def test_who_reads_while_the_pointer_moves_sees_one_champion_or_the_other(bucket, tmp_path):
    """Never none, and never a pointer that cannot be read."""
    here, there = (RemoteRegistry(f"{bucket}/bundles", tmp_path / name) for name in ("here", "there"))
    known = [here.store(manifest(warnings=(text,)), FILES) for text in ("one", "two")]
    here.promote(known[0])
    ended = threading.Event()

    def move():
        for place in [1, 0] * 20:
            here.promote(known[place])
        ended.set()

    thread = threading.Thread(target=move)
    thread.start()
    seen = set()
    while not ended.is_set():
        seen.add(there.champion())
    thread.join()
    assert seen <= set(known)


def test_a_bundle_that_is_half_there_is_none(machine, url):
    """Its manifest is put last: before, nobody lists or loads it."""
    here = machine()
    bundle_id = here.store(manifest(), FILES)
    RemoteFolder(url).remove(f"{bundle_id}/{MANIFEST}")
    there = machine()
    assert there.list() == ()
    with pytest.raises(BundleError, match="it has none"):
        there.load(bundle_id)


def test_a_damaged_object_is_refused_and_a_damaged_copy_fetched_again(machine, url):
    """Every load checks every file, wherever it came from."""
    here, there, late = machine(), machine(), machine()
    bundle_id = here.store(manifest(), FILES)
    copy = there.load(bundle_id).path / MODEL
    copy.write_bytes(b"other")
    assert there.load(bundle_id).read(MODEL) == FILES[MODEL]
    with RemoteFolder(url).put(f"{bundle_id}/{MODEL}") as path:
        path.write_bytes(b"other")
    with pytest.raises(BundleError, match="not what was stored"):
        late.load(bundle_id)
    assert there.load(bundle_id).read(MODEL) == FILES[MODEL]


def test_a_champion_is_here_before_it_is_named(machine, url):
    """Else a store that is away for a moment between the two would make a server pass the champion over."""
    here, there = machine(), machine()
    here.promote(here.store(manifest(), FILES))
    champion = there.champion()
    for one in RemoteFolder(url).find():
        RemoteFolder(url).remove(one.name)
    assert there.load(champion).id == champion


def test_a_damaged_pointer_says_what_to_do(machine, url):
    """As in a folder."""
    with RemoteFolder(url).put(CHAMPION) as path:
        path.write_bytes(b"{")
    with pytest.raises(BundleError, match="delete it and promote"):
        machine().champion()


def test_a_place_without_a_put_that_is_whole_is_refused(tmp_path):
    """Half a pointer would stop every server that follows it."""
    with pytest.raises(ConfigError, match="half of a pointer"):
        RemoteRegistry(f"local://{tmp_path}", tmp_path / "cache")
