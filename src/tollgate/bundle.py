"""The artifact that decides: an immutable, content-addressed folder, and the registry of them.

A bundle is a manifest (JSON), a model (ONNX) and its weights (safetensors): data, nothing that runs. Its id is the
digest of its files, so it cannot change under its name.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec

from tollgate.config import PolicyConfig
from tollgate.errors import BundleError
from tollgate.model.calibration import Calibration
from tollgate.money import Money
from tollgate.schema import Schema

FORMAT = 1  # of the manifest; a newer one is refused
MANIFEST, MODEL, WEIGHTS, REPORT = "manifest.json", "model.onnx", "weights.safetensors", "report.html"

_ID_DIGITS = 16  # hex digits of the digest that name a bundle
_POINTER = "champion.json"


class Training(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the model learned from.

    Attributes:
        from_us: Start of the training period, microseconds since 1970-01-01 UTC.
        to_us: Its end, exclusive.
        rows: Training rows, without validation.
        frauds: How many of them were fraud.
        fingerprint: SHA-256 of the training matrix.
    """

    from_us: int
    to_us: int
    rows: int
    frauds: int
    fingerprint: str


class Histogram(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a feature was distributed in training: what drift is measured against.

    Attributes:
        edges: B - 1 rising inner edges of B bins.
        shares: Share of the rows in each of the B bins; they and `missing` add up to 1.
        missing: Share of the rows without a value.
    """

    edges: tuple[float, ...]
    shares: tuple[float, ...]
    missing: float


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """All that is needed to decide with the model, and to know where it came from.

    Attributes:
        created_us: When it was made, microseconds since 1970-01-01 UTC.
        plan: The features, as `FeaturePlan.to_data` writes them.
        names: The F feature names; `categorical` tells which are category codes.
        typical: The value of each feature that stands for nothing unusual; null is missing.
        category_texts: Pairs of category code and text, for readable reasons.
        metrics: Measures on the test period, by model.
        reference: Distributions of the features in training, by name.
    """

    format: int = FORMAT
    tollgate: str
    created_us: int
    schema_: Schema = msgspec.field(name="schema")
    money: Money
    plan: list[dict[str, Any]]
    names: tuple[str, ...]
    categorical: tuple[bool, ...]
    calibration: Calibration
    policy: PolicyConfig
    training: Training
    metrics: dict[str, dict[str, float]]
    typical: tuple[float | None, ...]
    category_texts: tuple[tuple[float, str], ...]
    reference: dict[str, Histogram]
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Bundle:
    """A bundle that was read and verified."""

    id: str
    path: Path
    manifest: Manifest

    @property
    def model(self) -> Path:
        """The ONNX file."""
        return self.path / MODEL


class _Pointer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Who is champion, and who was before, the newest last."""

    history: tuple[str, ...]


class Registry:
    """A folder of bundles, and a pointer to the champion."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def store(self, manifest: Manifest, files: dict[str, bytes], report: str | None = None) -> str:
        """Write a bundle, whole or not at all, and return its id.

        Args:
            manifest: Its manifest.
            files: `model.onnx` and `weights.safetensors`.
            report: An HTML page about it; beside the content, not part of its id.

        Raises:
            BundleError: The folder cannot be written.
        """
        content = {MANIFEST: msgspec.json.format(msgspec.json.encode(manifest)), **files}
        bundle_id = _digest(content)
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            part = Path(tempfile.mkdtemp(prefix=".part-", dir=self.path))
            try:
                for name, data in content.items():
                    _write_durably(part / name, data)
                if report is not None:
                    _write_durably(part / REPORT, report.encode())
                part.chmod(0o755)
                if not (self.path / bundle_id).exists():
                    part.rename(self.path / bundle_id)
            finally:
                shutil.rmtree(part, ignore_errors=True)
        except OSError as error:
            raise BundleError("cannot_store", f"could not write a bundle in {self.path}: {error.strerror}") from error
        return bundle_id

    def load(self, bundle_id: str | None = None) -> Bundle:
        """Return a bundle, the champion by default, after checking its content against its id.

        Raises:
            BundleError: There is none, it is damaged, or it was made by a newer version.
        """
        chosen = bundle_id if bundle_id is not None else self.champion()
        if chosen is None:
            raise BundleError(
                "no_champion",
                f"there is no champion in {self.path}; train one with 'tollgate train', or name a --bundle",
            )
        folder = self.path / chosen
        try:
            content = {name: (folder / name).read_bytes() for name in (MANIFEST, MODEL, WEIGHTS)}
        except OSError as error:
            known = ", ".join(self.list()) or "none"
            raise BundleError(
                "no_bundle", f"could not read bundle {chosen} in {self.path}: {error.strerror}; there are: {known}"
            ) from error
        if _digest(content) != chosen:
            raise BundleError(
                "damaged_bundle",
                f"bundle {chosen} in {self.path} is not what it was when it was stored; store it again",
            )
        return Bundle(chosen, folder, _read_manifest(chosen, content[MANIFEST]))

    def list(self) -> Sequence[str]:
        """Return the ids of all bundles, sorted."""
        if not self.path.is_dir():
            return []
        return sorted(folder.name for folder in self.path.iterdir() if (folder / MANIFEST).is_file())

    def champion(self) -> str | None:
        """Return the id of the champion, or None where none was promoted."""
        history = self._history()
        return history[-1] if history else None

    def promote(self, bundle_id: str) -> None:
        """Make a bundle the champion, in one atomic step, after checking it.

        Raises:
            BundleError: It cannot be used.
        """
        self.load(bundle_id)
        self._point((*self._history(), bundle_id))

    def rollback(self) -> str:
        """Make the champion before this one the champion again, and return its id.

        Raises:
            BundleError: There is none before, or it cannot be used.
        """
        history = self._history()
        if len(history) < 2:
            raise BundleError("no_former_champion", f"there was no champion before this one in {self.path}")
        self.load(history[-2])
        self._point(history[:-1])
        return history[-2]

    def _history(self) -> tuple[str, ...]:
        try:
            return msgspec.json.decode((self.path / _POINTER).read_bytes(), type=_Pointer).history
        except FileNotFoundError:
            return ()
        except (OSError, msgspec.DecodeError) as error:
            raise BundleError("bad_pointer", f"could not read {self.path / _POINTER}: {error}") from error

    def _point(self, history: tuple[str, ...]) -> None:
        part = self.path / f".{_POINTER}.part"
        try:
            _write_durably(part, msgspec.json.encode(_Pointer(history)))
            part.replace(self.path / _POINTER)
        except OSError as error:
            raise BundleError("cannot_promote", f"could not write {self.path / _POINTER}: {error.strerror}") from error


def _digest(content: dict[str, bytes]) -> str:
    digest = sha256()
    for name in sorted(content):
        digest.update(f"{name} {sha256(content[name]).hexdigest()}\n".encode())
    return digest.hexdigest()[:_ID_DIGITS]


def _write_durably(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


class _Versioned(msgspec.Struct, frozen=True):
    """The one field that every format has."""

    format: int


def _read_manifest(bundle_id: str, data: bytes) -> Manifest:
    try:
        found = msgspec.json.decode(data, type=_Versioned).format
        if found != FORMAT:
            raise BundleError(
                "other_format", f"bundle {bundle_id} has format {found}, this version reads {FORMAT}; train it again"
            )
        return msgspec.json.decode(data, type=Manifest)
    except msgspec.DecodeError as error:
        raise BundleError("damaged_bundle", f"the manifest of bundle {bundle_id} cannot be read: {error}") from error
