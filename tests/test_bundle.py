import msgspec
import numpy as np
import pytest

from learning import CATEGORICAL, NAMES, SHOPS, payments
from tollgate import __version__
from tollgate.bundle import CHAMPION, FORMAT, MANIFEST, MODEL, REPORT, WEIGHTS, Manifest, Registry, Training
from tollgate.config import PolicyConfig, TrainConfig
from tollgate.errors import BundleError
from tollgate.model.calibration import Calibration
from tollgate.model.profile import profile_features
from tollgate.money import Money
from tollgate.schema import payment_schema

FILES = {MODEL: b"onnx", WEIGHTS: b"weights", REPORT: b"<html>"}


def manifest(**changes):
    data = payments(500)
    fields = {
        "created_us": 1_767_225_600_000_000,
        "tollgate": __version__,
        "schema_": payment_schema(),
        "money": Money("EUR"),
        "plan": {"features": [{"op": "column", "name": "amount"}]},
        "train": TrainConfig(),
        "calibration": Calibration(1.1, -0.3),
        "policy": PolicyConfig(review=0.4),
        "metrics": {"average_precision": 0.7123456789012345, "recall": None},
        "training": Training(0, 86_400_000_000, 500, data.frauds, data.fingerprint()),
        "profiles": profile_features(data.features, NAMES, CATEGORICAL),
        "categories": {float(SHOPS[0]): "bäckerei"},
        "warnings": ("feature 'x' is missing",),
    }
    return Manifest(**fields | changes)


@pytest.fixture
def registry(tmp_path):
    return Registry(tmp_path / "bundles")


def test_what_is_stored_is_loaded(registry):
    bundle = registry.load(registry.store(manifest(), FILES))

    assert msgspec.structs.replace(bundle.manifest, files={}) == manifest()
    assert {name: bundle.read(name) for name in bundle.manifest.files} == FILES
    assert bundle.path.name == bundle.id
    assert sorted(path.name for path in bundle.path.iterdir()) == sorted([*FILES, MANIFEST])


def test_the_manifest_knows_its_features(registry):
    loaded = registry.load(registry.store(manifest(), FILES)).manifest

    assert loaded.names == NAMES
    assert loaded.categorical == CATEGORICAL
    assert loaded.typical[0] == np.median(payments(500).features[:, 0])
    assert loaded.typical[3] in SHOPS
    assert loaded.categories[SHOPS[0]] == "bäckerei"


def test_the_name_is_the_content(registry):
    first = registry.store(manifest(), FILES)

    assert registry.store(manifest(), FILES) == first
    others = [registry.store(manifest(created_us=1), FILES), registry.store(manifest(), FILES | {MODEL: b"other"})]
    assert registry.list() == tuple(sorted({first, *others}))
    assert len(registry.list()) == 3


@pytest.mark.parametrize("name", [MANIFEST, MODEL, WEIGHTS, REPORT])
def test_one_changed_byte_is_noticed(registry, name):
    bundle = registry.load(registry.store(manifest(), FILES))
    content = bytearray((bundle.path / name).read_bytes())
    content[len(content) // 2] ^= 1
    (bundle.path / name).write_bytes(content)

    with pytest.raises(BundleError, match="is not what was stored") as caught:
        registry.load(bundle.id)
    assert caught.value.code == "damaged_bundle"


@pytest.mark.parametrize("name", [MANIFEST, MODEL, REPORT])
def test_a_missing_file_is_noticed(registry, name):
    bundle = registry.load(registry.store(manifest(), FILES))
    (bundle.path / name).unlink()

    with pytest.raises(BundleError, match=name) as caught:
        registry.load(bundle.id)
    assert caught.value.code == "missing_file"


def test_a_file_that_changes_after_loading_is_noticed_when_it_is_read(registry):
    bundle = registry.load(registry.store(manifest(), FILES))
    (bundle.path / MODEL).write_bytes(b"evil")

    with pytest.raises(BundleError, match="is not what was stored"):
        bundle.read(MODEL)


def test_a_newer_format_is_refused_whatever_else_it_holds(registry, tmp_path):
    bundle_id = forge(tmp_path, {"format": FORMAT + 1, "new_field": 1})

    with pytest.raises(BundleError, match="use a newer Tollgate") as caught:
        registry.load(bundle_id)
    assert caught.value.code == "newer_bundle"


@pytest.mark.parametrize(
    "change",
    [{"surprise": 1}, {"created_us": "x"}, {"files": {}}, {"files": {"../evil": "00"}}, {"money": {"currency": "XX"}}],
)
def test_a_manifest_that_says_something_else_is_refused(registry, tmp_path, change):
    stored = msgspec.json.decode(registry.load(registry.store(manifest(), FILES)).path.joinpath(MANIFEST).read_bytes())

    with pytest.raises(BundleError) as caught:
        registry.load(forge(tmp_path, stored | change))
    assert caught.value.code == "bad_bundle"


def forge(tmp_path, content):
    """Put a folder into the registry that is named rightly by a manifest of our making."""
    import hashlib

    data = msgspec.json.encode(content)
    bundle_id = hashlib.sha256(data).hexdigest()[:16]
    folder = tmp_path / "bundles" / bundle_id
    folder.mkdir(parents=True)
    (folder / MANIFEST).write_bytes(data)
    return bundle_id


@pytest.mark.parametrize("bundle_id", ["0" * 16, "../bundles", "", "latest"])
def test_an_id_that_is_not_there_is_refused_with_those_that_are(registry, bundle_id):
    there = registry.store(manifest(), FILES)

    with pytest.raises(BundleError, match=there) as caught:
        registry.load(bundle_id)
    assert caught.value.code == "no_bundle"


def test_without_a_promotion_there_is_no_champion(registry):
    registry.store(manifest(), FILES)

    assert registry.champion() is None
    with pytest.raises(BundleError, match="tollgate train") as caught:
        registry.load()
    assert caught.value.code == "no_champion"


def test_promotion_moves_the_pointer_and_rollback_moves_it_back(registry):
    first, second = registry.store(manifest(), FILES), registry.store(manifest(created_us=2), FILES)

    registry.promote(first)
    registry.promote(second)
    registry.promote(second)  # already the champion: nothing to remember
    assert registry.load().id == second

    assert registry.rollback() == first
    assert registry.champion() == first
    with pytest.raises(BundleError, match="no champion before") as caught:
        registry.rollback()
    assert caught.value.code == "no_predecessor"
    assert registry.champion() == first


def test_what_does_not_load_is_neither_promoted_nor_rolled_back_to(registry):
    first, second = registry.store(manifest(), FILES), registry.store(manifest(created_us=2), FILES)
    registry.promote(first)
    registry.promote(second)
    (registry.load(first).path / MODEL).write_bytes(b"")

    with pytest.raises(BundleError, match="is not what was stored"):
        registry.rollback()
    with pytest.raises(BundleError, match="is not what was stored"):
        registry.promote(first)
    assert registry.champion() == second


def test_a_damaged_pointer_says_what_to_do(registry, tmp_path):
    registry.promote(registry.store(manifest(), FILES))
    (tmp_path / "bundles" / CHAMPION).write_bytes(b"{")

    with pytest.raises(BundleError, match="promote a bundle") as caught:
        registry.champion()
    assert caught.value.code == "bad_champion"


def test_nothing_half_written_stays(registry, tmp_path):
    registry.promote(registry.store(manifest(), FILES))
    registry.store(manifest(), FILES)

    left = {path.name for path in (tmp_path / "bundles").iterdir()}
    assert left == {*registry.list(), CHAMPION}


def test_a_folder_that_cannot_be_written_is_an_error(tmp_path):
    (tmp_path / "file").write_text("in the way")

    with pytest.raises(BundleError, match="could not write bundle") as caught:
        Registry(tmp_path / "file").store(manifest(), FILES)
    assert caught.value.code == "cannot_store"


def test_a_bundle_may_be_read_by_others(registry):
    """The server often runs as another user than the training."""
    bundle = registry.load(registry.store(manifest(), FILES))

    assert bundle.path.stat().st_mode & 0o555 == 0o555
