"""Keys that sign bundles, and a configuration that asks for them."""

import json
from pathlib import Path

from tollgate.bundle import Registry
from tollgate.signature import Trust, public_key


def keyed(monkeypatch, digit):
    """Set a private key, and return its public one."""
    monkeypatch.setenv("TOLLGATE_SIGNING_KEY", digit * 64)
    return public_key(bytes.fromhex(digit * 64))


def trust(*keys, folder=Path()):
    """Have the configuration in a folder trust some public keys."""
    config = folder / "tollgate.toml"
    config.write_text(f"trusted_keys = {json.dumps(keys)}\n" + config.read_text())


def trusting(*keys, folder=Path()):
    """Return the registry in a folder, as who trusts some keys reads it."""
    return Registry(folder / "bundles", Trust(keys).check)
