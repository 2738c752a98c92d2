"""The immutable artifact that a training leaves, and the folder that holds them.

A bundle is a folder named by its content: `manifest.json` holds the SHA-256 of every other file, and the first
digits of its own are the name. Whatever is changed, a loader notices. Nothing in a bundle is code.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from tollgate.config import PolicyConfig, TrainConfig
from tollgate.durable import replacing, sync_folder
from tollgate.errors import BundleError, TollgateError
from tollgate.model.calibration import Calibration
from tollgate.model.profile import FeatureProfile, ScoreProfile
from tollgate.money import Money
from tollgate.schema import Schema

FORMAT = 2  # of the folder; one more with each change that another Tollgate would misread
MANIFEST = "manifest.json"
MODEL = "model.onnx"
WEIGHTS = "weights.safetensors"
REPORT = "report.html"
CHAMPION = "champion.json"
CANARY = "canary.json"
SIGNATURE = "signature.json"  # beside the manifest; not among its files, for it comes later
MAX_HISTORY = 100  # champions that can be rolled back to

_REQUIRED = (MODEL,)
_KNOWN = (*_REQUIRED, WEIGHTS, REPORT)
_ID_DIGITS = 16
_ID = re.compile(f"[0-9a-f]{{{_ID_DIGITS}}}")


class Training(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a model was trained on.

    Attributes:
        start_us: First effective time of the period, microseconds since 1970-01-01 UTC.
        end_us: The period ends before it.
        fingerprint: SHA-256 of names, features, labels and times, in hex.
    """

    start_us: int
    end_us: int
    rows: int
    frauds: int
    fingerprint: str


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, rename={"schema_": "schema"}):
    """What is in a bundle and how it came about.

    Attributes:
        created_us: Observed time, microseconds since 1970-01-01 UTC.
        tollgate: The version that made it.
        plan: The compiled features, as data.
        train: Which model, its sizes and rates.
        metrics: Of the model on its test period; null is a measure that was not defined there.
        profiles: Each feature over the training rows, in the order of the plan.
        scores: Of the validation rows; null in a bundle of before it was kept.
        categories: Texts of category codes, so that reasons can be read.
        warnings: What the training had to say, as sentences.
        files: SHA-256 of each other file, in hex. The registry fills it in.
    """

    format: int = FORMAT
    created_us: int
    tollgate: str
    schema_: Schema
    money: Money
    plan: dict[str, Any]
    train: TrainConfig
    calibration: Calibration
    policy: PolicyConfig
    metrics: dict[str, float | None]
    training: Training
    profiles: tuple[FeatureProfile, ...]
    scores: ScoreProfile | None = None
    categories: dict[float, str] = {}
    warnings: tuple[str, ...] = ()
    files: dict[str, str] = {}

    def is_for(self, schema: Schema, money: Money) -> bool:
        """Return whether it reads transactions of a schema, in a money."""
        return (self.schema_, self.money) == (schema, money)

    @property
    def names(self) -> tuple[str, ...]:
        """The F feature names."""
        return tuple(profile.name for profile in self.profiles)

    @property
    def categorical(self) -> tuple[bool, ...]:
        """Which of the F features are categories."""
        return tuple(profile.categorical for profile in self.profiles)

    @property
    def typical(self) -> NDArray[np.float64]:
        """The value of each feature that stands for nothing unusual, float64 (F,); NaN is missing."""
        return np.array([np.nan if one.typical is None else one.typical for one in self.profiles], dtype=np.float64)


@dataclass(frozen=True, slots=True)
class Bundle:
    """A bundle on disk, every file of which was as its manifest says when it was loaded."""

    id: str
    path: Path
    manifest: Manifest

    def read(self, name: str) -> bytes:
        """Return what is in one of its files.

        Raises:
            BundleError: There is no such file, or it has changed.
        """
        expected = self.manifest.files.get(name)
        if expected is None:
            raise BundleError("no_file", f"bundle {self.id} has no {name}", file=str(self.path))
        content = _read(self.path / name)
        if hashlib.sha256(content).hexdigest() != expected:
            raise BundleError(
                "damaged_bundle",
                f"{self.path / name} is not what was stored; restore the bundle from a copy, or use another",
                file=str(self.path / name),
            )
        return content


class _Format(msgspec.Struct):
    """The one field of a manifest that every Tollgate can read."""

    format: int


class _Champion(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The pointer: ids that were promoted, the newest last."""

    history: tuple[str, ...] = ()


SignatureCheck = Callable[[str, bytes, bytes | None], None]  # of an id, a manifest and its signature


class CanaryShare(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which bundle decides for a share of the cards, and for how many: between 0 and 1."""

    bundle: str
    share: float

    @property
    def percent(self) -> str:
        """The share as people write it: `7.5%`."""
        return f"{100 * self.share:.10g}%"  # 100 * 0.07 is 7.000000000000001


class Registry:
    """A folder of bundles, one of which may be the champion.

    Any number of processes may read. Bundles can be stored by several at once; promotions are for one at a time,
    else one of two that overlap is forgotten in the history.
    """

    def __init__(self, path: Path, check: SignatureCheck | None = None) -> None:
        """Use the folder `path`, which is made when something is stored.

        Args:
            path: The folder.
            check: Of signatures, see `Trust.check`; without it they do not matter.
        """
        self._path = path
        self._check = check
        self.place = str(path)

    def store(self, manifest: Manifest, files: Mapping[str, bytes]) -> str:
        """Write a bundle, whole or not at all, and return its content id.

        Args:
            manifest: Without `files`, which is made here.
            files: Contents by name: the model, and if there are any the weights to train on and the report.

        Raises:
            BundleError: The folder cannot be written.
        """
        assert all(name in files for name in _REQUIRED)
        assert all(name in _KNOWN for name in files)
        hashes = {name: hashlib.sha256(content).hexdigest() for name, content in sorted(files.items())}
        data = msgspec.json.format(msgspec.json.encode(msgspec.structs.replace(manifest, files=hashes)), indent=1)
        bundle_id = _id_of(data)
        target = self._path / bundle_id
        try:
            self._path.mkdir(parents=True, exist_ok=True)
            folder = Path(tempfile.mkdtemp(prefix=f".{bundle_id}-", dir=self._path))
            try:
                folder.chmod(0o755)
                for name, content in {**files, MANIFEST: data}.items():
                    _write(folder / name, content)
                sync_folder(folder)
                if not target.exists():  # the same content is already there otherwise
                    folder.rename(target)
                    sync_folder(self._path)
            finally:
                shutil.rmtree(folder, ignore_errors=True)
        except OSError as error:
            raise BundleError(
                "cannot_store", f"could not write bundle {bundle_id} into {self._path}: {error}", file=str(self._path)
            ) from error
        return bundle_id

    def load(self, bundle_id: str | None = None) -> Bundle:
        """Return a bundle, the champion by default, with every file checked.

        Raises:
            BundleError: It is not there, damaged, or of a newer format.
        """
        if bundle_id is None:
            bundle_id = self.champion()
        if bundle_id is None:
            raise BundleError(
                "no_champion",
                f"no bundle in {self.place} is the champion yet; run 'tollgate train'",
                file=str(self._path),
            )
        path = self._path / bundle_id
        if _ID.fullmatch(bundle_id) is None or not path.is_dir():
            raise BundleError(
                "no_bundle",
                f"expected the id of a bundle in {self.place} ({', '.join(self.list()) or 'it has none'}), "
                f"but got {bundle_id!r}",
                file=str(self._path),
            )
        data = _read(path / MANIFEST)
        if _id_of(data) != bundle_id:
            raise BundleError(
                "damaged_bundle",
                f"{path / MANIFEST} is not what was stored; restore the bundle from a copy, or use another",
                file=str(path / MANIFEST),
            )
        bundle = Bundle(bundle_id, path, _parse(data, path / MANIFEST))
        for name in bundle.manifest.files:
            bundle.read(name)
        if self._check is not None:
            signature = path / SIGNATURE
            self._check(bundle_id, data, _read(signature) if signature.exists() else None)
        return bundle

    def sign(self, bundle_id: str, sign: Callable[[bytes], bytes]) -> None:
        """Put a signature beside a bundle, in place of an older one.

        Args:
            bundle_id: Of a bundle that loads.
            sign: From its manifest to the signature.

        Raises:
            BundleError: It does not load, or the signature cannot be written.
        """
        signature = sign(_read(self.load(bundle_id).path / MANIFEST))
        self._replace_pointer(f"{bundle_id}/{SIGNATURE}", signature)

    def list(self) -> tuple[str, ...]:
        """Return the ids of all bundles, sorted; whether they can be loaded, only `load` says."""
        if not self._path.is_dir():
            return ()
        return tuple(sorted(path.name for path in self._path.iterdir() if _ID.fullmatch(path.name)))

    def champion(self) -> str | None:
        """Return the id of the bundle that decides, or None before the first promotion.

        Raises:
            BundleError: The pointer cannot be read.
        """
        history = self._history()
        return history[-1] if history else None

    def promote(self, bundle_id: str) -> None:
        """Make a bundle the champion, if it loads. Who reads meanwhile sees the old one or the new one.

        Raises:
            BundleError: It does not load, or the pointer cannot be written.
        """
        self.load(bundle_id)
        history = self._history()
        if history[-1:] != (bundle_id,):
            self._point((*history, bundle_id)[-MAX_HISTORY:])

    def rollback(self) -> str:
        """Make the champion before this one the champion again, and return its id.

        Raises:
            BundleError: There was none, or it does not load any more.
        """
        history = self._history()
        if len(history) < 2:
            raise BundleError(
                "no_predecessor", f"{self.place} has no champion before this one to go back to", file=str(self._path)
            )
        self.load(history[-2])
        self._point(history[:-1])
        return history[-2]

    def canary(self) -> CanaryShare | None:
        """Return which bundle decides for a share of the cards; None where there is none.

        Raises:
            BundleError: The pointer cannot be read.
        """
        content = self._pointer(CANARY)
        if content is None:
            return None
        try:
            return msgspec.json.decode(content, type=CanaryShare | None)
        except msgspec.DecodeError as error:
            path = f"{self.place}/{CANARY}"
            raise BundleError("bad_canary", f"{path} is damaged ({error}); delete it", file=path) from error

    def beside_champion(self) -> CanaryShare | None:
        """Return the canary as servers have it: one that was promoted meanwhile decides for all, and is none.

        Raises:
            BundleError: A pointer cannot be read.
        """
        canary = self.canary()
        return None if canary is None or canary.bundle == self.champion() else canary

    def try_out(self, canary: CanaryShare | None) -> None:
        """Let a bundle decide for a share of the cards, if it loads; None ends that.

        Raises:
            BundleError: It does not load, or the pointer cannot be written.
        """
        if canary is not None:
            self.load(canary.bundle)
        self._replace_pointer(CANARY, msgspec.json.encode(canary))

    def _history(self) -> tuple[str, ...]:
        content = self._pointer(CHAMPION)
        if content is None:
            return ()
        try:
            return msgspec.json.decode(content, type=_Champion).history
        except msgspec.DecodeError as error:
            path = f"{self.place}/{CHAMPION}"
            raise BundleError(
                "bad_champion", f"{path} is damaged ({error}); delete it and promote a bundle", file=path
            ) from error

    def _point(self, history: tuple[str, ...]) -> None:
        self._replace_pointer(CHAMPION, msgspec.json.encode(_Champion(history)))

    def _pointer(self, name: str) -> bytes | None:
        path = self._path / name
        return _read(path) if path.exists() else None

    def _replace_pointer(self, name: str, content: bytes) -> None:
        try:
            with replacing(self._path / name) as file:
                file.write(content)
        except OSError as error:
            raise BundleError(
                "cannot_promote", f"could not write {self._path / name}: {error}", file=str(self._path)
            ) from error


def _parse(data: bytes, path: Path) -> Manifest:
    try:
        version = msgspec.json.decode(data, type=_Format).format
        if version > FORMAT:
            raise BundleError(
                "newer_bundle",
                f"{path} is of format {version}, and this Tollgate reads {FORMAT}; use a newer Tollgate",
                file=str(path),
            )
        if version < FORMAT:
            raise BundleError(
                "older_bundle",
                f"{path} is of format {version}, and this Tollgate reads {FORMAT}: what a model gives has changed; "
                "train again",
                file=str(path),
            )
        manifest = msgspec.json.decode(data, type=Manifest)
    except (msgspec.DecodeError, TollgateError) as error:
        if isinstance(error, BundleError):
            raise
        raise BundleError("bad_bundle", f"{path} is no manifest of a bundle: {error}", file=str(path)) from error
    if not set(_REQUIRED) <= set(manifest.files) <= set(_KNOWN):
        raise BundleError(
            "bad_bundle",
            f"{path}: expected the files {', '.join(_REQUIRED)}, got {list(manifest.files)}",
            file=str(path),
        )
    return manifest


def _id_of(manifest: bytes) -> str:
    return hashlib.sha256(manifest).hexdigest()[:_ID_DIGITS]


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise BundleError("missing_file", f"could not read {path}: {error.strerror}", file=str(path)) from error


def _write(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
