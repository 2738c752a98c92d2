"""Secrets come from the environment or from a file that it names, and from nowhere else."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path

from tollgate.errors import ConfigError

MIN_BYTES, MAX_BYTES = 16, 64  # what keyed BLAKE2b takes, and what cannot be guessed
FILE_SUFFIX = "_FILE"
_READ_BYTES = 4096  # more than any secret: a larger file is another file


def read_secret(name: str, environ: Mapping[str, str]) -> bytes | None:
    """Return the secret `name`, or the content of the file that `name`_FILE names; None if neither is set.

    Of a file, one line end after the secret does not count.

    Raises:
        ConfigError: Both are set, the file cannot be read or others can read it, or it is too short or too long.
    """
    text, path = environ.get(name), environ.get(name + FILE_SUFFIX)
    if text is not None and path is not None:
        raise ConfigError("bad_secret", f"expected {name} or {name}{FILE_SUFFIX}, but both are set; unset one of them")
    if path is not None:
        secret, origin = _read_file(Path(path), name + FILE_SUFFIX), f"{name}{FILE_SUFFIX} ({path})"
    elif text is not None:
        secret, origin = text.encode("utf-8", "surrogateescape"), name
    else:
        return None
    if not MIN_BYTES <= len(secret) <= MAX_BYTES:
        raise ConfigError(
            "bad_secret",
            f"{origin}: expected {MIN_BYTES} to {MAX_BYTES} bytes, but got {len(secret)}; try openssl rand -hex 32",
        )
    return secret


def _read_file(path: Path, setting: str) -> bytes:
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # a pipe would wait for its writer
        with os.fdopen(handle, "rb") as file:
            check_private(os.fstat(handle), path, setting)
            content = file.read(_READ_BYTES)
    except OSError as error:
        raise ConfigError(
            "bad_secret", f"{setting}: expected a file that can be read at {path}: {error.strerror}", file=str(path)
        ) from error
    return content.removesuffix(b"\n").removesuffix(b"\r")


def check_private(status: os.stat_result, path: Path, setting: str) -> None:
    """Refuse a secret file that is no plain file or that everyone on the machine can read.

    Raises:
        ConfigError: It is such a file.
    """
    if not stat.S_ISREG(status.st_mode):
        raise ConfigError("bad_secret", f"{setting}: expected a plain file at {path}", file=str(path))
    if status.st_mode & stat.S_IRWXO:
        raise ConfigError(
            "bad_secret",
            f"{setting}: expected {path} to be closed to others, but its mode is {stat.S_IMODE(status.st_mode):o}; "
            f"run 'chmod o= {path}' (in Kubernetes: defaultMode: 0440)",
            file=str(path),
        )
