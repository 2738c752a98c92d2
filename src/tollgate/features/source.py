"""A user's features file: Python that declares `FEATURES`. It runs where one trains, never where one serves."""

from __future__ import annotations

import runpy
from pathlib import Path

from tollgate.errors import ConfigError
from tollgate.features.declaration import Expr


def read_features(path: Path) -> list[Expr]:
    """Return the list `FEATURES` of the file.

    Raises:
        ConfigError: There is no such file, it fails, or it declares no list of features.
    """
    if not path.is_file():
        raise ConfigError(
            "no_features",
            f"expected a features file at {path}; name yours as 'features' in tollgate.toml",
            file=str(path),
        )
    try:
        declared = runpy.run_path(str(path)).get("FEATURES")
    except ConfigError as error:
        raise ConfigError(error.code, f"{path}: {error.message}", file=str(path)) from error
    except Exception as error:
        raise ConfigError("bad_features", f"{path} failed: {type(error).__name__}: {error}", file=str(path)) from error
    if not isinstance(declared, list) or not all(isinstance(one, Expr) for one in declared):
        raise ConfigError(
            "bad_features",
            f"{path}: expected FEATURES = [...] of features; one over several windows is a list, unpack it with *",
            file=str(path),
        )
    return declared
