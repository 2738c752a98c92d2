"""A registry of bundles in an object store: bundles by URL, one pointer, and a copy of what was loaded here.

Bundles are immutable and named by their content, so a copy never grows stale, and every load checks it. A bundle is
complete when its manifest is there, which is put last. The pointer is one object, and a put replaces an object whole:
who reads meanwhile sees the old champion or the new one. File systems without such a put are refused.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tollgate.bundle import MANIFEST, Bundle, Manifest, Registry, SignatureCheck
from tollgate.errors import BundleError, ConfigError, InputError
from tollgate.folders import OBJECT_STORES, RemoteFolder


class RemoteRegistry(Registry):
    """Bundles under a URL such as `s3://models/bundles`."""

    def __init__(self, url: str, cache: Path, check: SignatureCheck | None = None) -> None:
        """Use the registry at `url`.

        Args:
            url: Of an object store.
            cache: A folder of this machine for the bundles that were loaded or stored; nothing else may use it, but
                other processes with the same URL.
            check: Of signatures; without it they do not matter.

        Raises:
            ConfigError: The URL is of another kind of place, or needs an extra that is not installed.
        """
        super().__init__(cache, check)
        self._folder = RemoteFolder(url)
        self.place = self._folder.url
        if self._folder.scheme not in OBJECT_STORES:
            raise ConfigError(
                "bad_registry",
                f"expected bundles in a folder or an object store ({', '.join(sorted(OBJECT_STORES))}), got {url}: "
                "elsewhere a reader could see half of a pointer; mount it, or use another place",
            )

    def store(self, manifest: Manifest, files: Mapping[str, bytes]) -> str:
        """Write a bundle, whole or not at all, and return its content id."""
        bundle_id = super().store(manifest, files)
        with _reaching():
            for name in (*files, MANIFEST):
                with self._folder.put(f"{bundle_id}/{name}") as path:
                    shutil.copyfile(self._path / bundle_id / name, path)
        return bundle_id

    def load(self, bundle_id: str | None = None) -> Bundle:
        """Return a bundle, the champion by default, with every file checked; from the copy, where that is sound."""
        chosen = bundle_id or self.champion()
        if chosen is None:
            return super().load(None)
        try:
            return super().load(chosen)
        except BundleError:
            self._copy(chosen)
        return super().load(chosen)

    def list(self) -> tuple[str, ...]:
        """Return the ids of all bundles, sorted."""
        with _reaching():
            names = [one.name for one in self._folder.find()]
        return tuple(sorted(name.split("/")[0] for name in names if name.endswith(f"/{MANIFEST}")))

    def champion(self) -> str | None:
        """Return the id of the bundle that decides, once it is here: who follows the champion tries each only once."""
        chosen = super().champion()
        if chosen is not None and not (self._path / chosen).is_dir():
            self._copy(chosen)
        return chosen

    def _copy(self, bundle_id: str) -> None:
        """Fetch a bundle that is not here, or not as it was stored; `load` says what is wrong with what comes."""
        with _reaching():
            found = [one.name for one in self._folder.find() if one.name.startswith(f"{bundle_id}/")]
        if f"{bundle_id}/{MANIFEST}" not in found:
            return
        self._path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{bundle_id}-", dir=self._path) as folder, _reaching():
            fresh = Path(folder) / bundle_id
            fresh.mkdir()
            for name in found:
                with self._folder.fetch(name) as path:
                    shutil.copyfile(path, fresh / name.rsplit("/", 1)[-1])
            shutil.rmtree(self._path / bundle_id, ignore_errors=True)
            fresh.rename(self._path / bundle_id)

    def _pointer(self, name: str) -> bytes | None:
        with _reaching():
            return self._folder.read(name)

    def _replace_pointer(self, name: str, content: bytes) -> None:
        with _reaching(), self._folder.put(name) as path:
            path.write_bytes(content)


@contextmanager
def _reaching() -> Iterator[None]:
    try:
        yield
    except InputError as error:  # a registry that is away is a resource that is away, whatever was asked of it
        raise BundleError("unreachable_registry", error.message, **error.where) from error
    except OSError as error:
        raise BundleError("cannot_store", f"could not keep a copy of a bundle: {error}") from error
