"""The one way in which a command makes a bundle the champion."""

from __future__ import annotations

from tollgate.bundle import Registry
from tollgate.cli.wiring import hash_key, now_us, policy_of
from tollgate.config import Config
from tollgate.intake import TransactionReader
from tollgate.ledger.controls import Controls


def promote_bundle(config: Config, registry: Registry, bundle_id: str, actor: str, **detail: str | None) -> None:
    """Let a bundle decide, with a record of who did it in the audit trail.

    Args:
        config: Names the ledger, whose lists and rules must fit the bundle.
        registry: Has the bundle.
        bundle_id: Of the bundle.
        actor: Who does it.
        detail: What else the audit trail should say.

    Raises:
        BundleError: It does not load, or the pointer cannot be written.
        ConfigError: The published rules do not fit it: every server would refuse it.
    """
    bundle = registry.load(bundle_id)
    manifest = bundle.manifest
    with Controls(config.ledger.url) as controls:
        reader = TransactionReader(manifest.schema_, manifest.money, hash_key())
        policy_of(bundle, reader, controls.entries(), controls.rules())
        registry.promote(bundle_id)
        controls.note(actor, "champion.promote", bundle_id, now_us(), **detail)
