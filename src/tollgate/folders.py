"""A folder of files under one root: on this machine, or wherever fsspec reaches.

Nothing is read in place. A file of another machine is fetched whole into a temporary file, and one to write is put
there whole, so that who reads a folder sees all of a file or none.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from tollgate.durable import sync_folder
from tollgate.errors import ConfigError, InputError

OBJECT_STORES = frozenset(
    {"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "memory"}
)  # a put is seen whole or not at all
_SCHEME = re.compile(r"([a-z][a-z0-9+.-]+)://")
_LOCAL = "file"
_MEMORY = "memory"
_DIGITS = re.compile(r"(\d+)")


class Found(NamedTuple):
    """A file of a folder.

    Attributes:
        name: Below the root, with slashes.
        size: In bytes.
        version: What changes with the content, as far as the place where it lies can tell: a tag or a time.
    """

    name: str
    size: int
    version: str


class Folder(Protocol):
    """What both kinds can do. All names are below the root, with slashes.

    Every method raises InputError where the place cannot be reached.
    """

    url: str

    def find(self) -> list[Found]:
        """Return all files below the root in `natural` order; none where there is no such folder."""

    def fetch(self, name: str) -> AbstractContextManager[Path]:
        """Give a file to read, for as long as the block lasts."""

    def put(self, name: str) -> AbstractContextManager[Path]:
        """Give a path to write to; what is there when the block ends well replaces `name`, whole."""

    def read(self, name: str) -> bytes | None:
        """Return what is in a file, or None where there is none."""

    def remove(self, name: str) -> None:
        """Remove a file, if it is there."""


def is_url(text: str) -> bool:
    """Whether a text names a place by a URL rather than by a path."""
    return _SCHEME.match(text) is not None


def is_local(text: str) -> bool:
    """Whether a path or URL is on this machine."""
    return not is_url(text) or text.startswith(f"{_LOCAL}://")


def local_path(text: str) -> Path:
    """Return the path of a place on this machine."""
    return Path(text.removeprefix(f"{_LOCAL}://"))


def open_folder(root: str) -> Folder:
    """Return the folder at a path or URL; whether it is there, `find` tells.

    Raises:
        ConfigError: The URL needs an extra that is not installed, or is of an unknown kind.
    """
    return LocalFolder(local_path(root)) if is_local(root) else RemoteFolder(root)


def natural(name: str) -> tuple[Any, ...]:
    """Return the key that sorts names folder by folder, numbers by their value: `hour=9` before `hour=10`."""
    return tuple(
        tuple((0, int(piece), piece) if piece.isdigit() else (1, 0, piece) for piece in _DIGITS.split(part) if piece)
        for part in name.split("/")
    )


class LocalFolder:
    """A folder of this machine's file system."""

    def __init__(self, path: Path) -> None:
        """Use the folder `path`, which is made when something is put there."""
        self.path = path
        self.url = str(path)

    def find(self) -> list[Found]:
        """Return all files below the root in `natural` order."""
        files = []
        for path in self.path.rglob("*"):
            if path.is_file():
                status = path.stat()
                name = path.relative_to(self.path).as_posix()
                files.append(Found(name, status.st_size, str(status.st_mtime_ns)))
        return sorted(files, key=lambda one: natural(one.name))

    @contextmanager
    def fetch(self, name: str) -> Iterator[Path]:
        """Give the file itself."""
        yield self.path / name

    @contextmanager
    def put(self, name: str) -> Iterator[Path]:
        """Give a path beside the file, which is made durable and moved to it."""
        target = self.path / name
        fresh = target.with_name(f".{target.name}.part{target.suffix}")
        with _reaching("write", str(target)):
            target.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield fresh
            with _reaching("write", str(target)):
                with fresh.open("rb") as file:
                    os.fsync(file.fileno())
                fresh.replace(target)
                sync_folder(target.parent)
        finally:
            fresh.unlink(missing_ok=True)

    def read(self, name: str) -> bytes | None:
        """Return what is in a file."""
        with _reaching("read", str(self.path / name)):
            try:
                return (self.path / name).read_bytes()
            except FileNotFoundError:
                return None

    def remove(self, name: str) -> None:
        """Remove a file."""
        (self.path / name).unlink(missing_ok=True)


class RemoteFolder:
    """A folder that fsspec reaches, such as `s3://bucket/payments`. Needs the extra `remote`."""

    def __init__(self, url: str) -> None:
        """Use the folder at `url`.

        Raises:
            ConfigError: fsspec, or what it needs for this kind of URL, is not installed.
        """
        self.url = url.rstrip("/")
        scheme = _SCHEME.match(url)
        assert scheme is not None
        self.scheme = scheme[1]
        try:
            fsspec = importlib.import_module("fsspec")
            self._files, self._root = fsspec.core.url_to_fs(self.url)
        except (ImportError, ValueError) as error:
            raise ConfigError(
                "missing_extra",
                f"{self.url}: {error}; pip install 'tollgate[remote]', and for s3:// s3fs, gs:// gcsfs, abfs:// adlfs",
            ) from error

    def _path(self, name: str) -> str:
        return f"{self._root.rstrip('/')}/{name}"

    def find(self) -> list[Found]:
        """Return all files below the root in `natural` order."""
        self._files.invalidate_cache()  # others write there too
        with _reaching("list", self.url):
            try:
                listed = self._files.find(self._root, detail=True)
            except FileNotFoundError:
                return []
        if list(listed) == [self._root]:  # the URL is of one file
            self._root = self._root.rpartition("/")[0]
        files = []
        for path, info in listed.items():
            name = path.removeprefix(self._root).lstrip("/")
            version = next((str(info[key]) for key in ("ETag", "etag", "mtime", "created") if info.get(key)), "")
            files.append(Found(name, int(info["size"] or 0), version))
        return sorted(files, key=lambda one: natural(one.name))

    @contextmanager
    def fetch(self, name: str) -> Iterator[Path]:
        """Give a copy of the file, which is removed after the block."""
        with tempfile.TemporaryDirectory(prefix="tollgate-") as folder:
            copy = Path(folder) / name.rsplit("/", 1)[-1]
            with _reaching("read", f"{self.url}/{name}"):
                self._files.get_file(self._path(name), str(copy))
            yield copy

    @contextmanager
    def put(self, name: str) -> Iterator[Path]:
        """Give a temporary path, from which the file is put where it belongs."""
        with tempfile.TemporaryDirectory(prefix="tollgate-") as folder:
            fresh = Path(folder) / name.rsplit("/", 1)[-1]
            yield fresh
            target = self._path(name)
            with _reaching("write", f"{self.url}/{name}"):
                if self.scheme == _MEMORY:  # its put_file is a stream of writes, too
                    self._files.pipe_file(target, fresh.read_bytes())
                elif self.scheme in OBJECT_STORES:
                    self._files.put_file(str(fresh), target)
                else:  # a stream of writes, which a reader could see half of
                    self._files.makedirs(target.rsplit("/", 1)[0], exist_ok=True)
                    beside = f"{target}.part"
                    self._files.put_file(str(fresh), beside)
                    self._files.mv(beside, target)

    def read(self, name: str) -> bytes | None:
        """Return what is in a file."""
        with _reaching("read", f"{self.url}/{name}"):
            try:
                content: bytes = self._files.cat_file(self._path(name))
            except FileNotFoundError:
                return None
        return content

    def remove(self, name: str) -> None:
        """Remove a file."""
        with _reaching("remove", f"{self.url}/{name}"), contextlib.suppress(FileNotFoundError):
            self._files.rm_file(self._path(name))


@contextmanager
def _reaching(doing: str, place: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # every kind of store has errors of its own
        why = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise InputError(
            "unreachable_file", f"could not {doing} {place}: {why}; see that it can be reached", file=place
        ) from error
