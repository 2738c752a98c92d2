"""Modules that need an extra: a serving image has no PyTorch, and not everybody signs, shares or spreads."""

from __future__ import annotations

import importlib
from types import ModuleType

from tollgate.errors import ConfigError


def extra_module(name: str, extra: str, needed: str) -> ModuleType:
    """Return a module of Tollgate that needs an extra.

    Args:
        name: The module's, below `tollgate`.
        extra: That it needs.
        needed: What needs it, as the error says it: `'tollgate train' needs`.

    Raises:
        ConfigError: The extra is not installed.
    """
    try:
        return importlib.import_module(f"tollgate.{name}")
    except ModuleNotFoundError as error:
        raise ConfigError("missing_extra", f"{needed} {error.name}: pip install 'tollgate[{extra}]'") from error
