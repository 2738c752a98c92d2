"""The one way in which a command lets a bundle decide: for all cards, or for a share of them."""

from __future__ import annotations

from tollgate.bundle import CanaryShare, Registry
from tollgate.cli.wiring import hash_key, now_us, plan_of, policy_of
from tollgate.config import Config
from tollgate.errors import BundleError
from tollgate.features.snapshot import plan_digest
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


def begin_canary(config: Config, registry: Registry, canary: CanaryShare, actor: str) -> None:
    """Let a bundle decide for a share of the cards, with a record of who did it in the audit trail.

    Args:
        config: Names the ledger, whose lists and rules must fit the bundle.
        registry: Has the bundle and the champion.
        canary: The bundle and its share.
        actor: Who does it.

    Raises:
        BundleError: It does not load, is the champion, or reads another schema or other features than the champion.
        ConfigError: The published rules do not fit it.
    """
    bundle, champion = registry.load(canary.bundle), registry.load()
    new, old = bundle.manifest, champion.manifest
    if bundle.id == champion.id:
        raise BundleError("is_champion", f"{bundle.id} is the champion already; name another bundle")
    if not new.is_for(old.schema_, old.money) or plan_digest(plan_of(bundle)) != plan_digest(plan_of(champion)):
        raise BundleError(
            "other_features",
            f"bundle {bundle.id} reads another schema or other features than {champion.id} and cannot decide beside "
            "it; run it as a shadow ('tollgate serve --shadow'), or promote it",
        )
    with Controls(config.ledger.url) as controls:
        reader = TransactionReader(new.schema_, new.money, hash_key())
        policy_of(bundle, reader, controls.entries(), controls.rules())
        registry.try_out(canary)
        controls.note(actor, "canary.begin", canary.bundle, now_us(), share=canary.share)
