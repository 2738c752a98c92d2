"""The one way in which a command signs bundles: by hand, or as a training stores them."""

from __future__ import annotations

from dataclasses import dataclass, field

from tollgate.cli.wiring import (
    OUT,
    SIGNING_KEY_VARIABLE,
    has_signing_key,
    now_us,
    open_registry,
    signatures,
    signing_key,
)
from tollgate.config import Config
from tollgate.errors import ConfigError
from tollgate.ledger.controls import Controls


@dataclass(frozen=True, slots=True)
class Signer:
    """A private key at work for one configuration, with a record of each signature in the audit trail.

    Attributes:
        config: Names the bundles and the ledger.
        actor: Who signs.
        secret: The key.
        public: Its public one, in hex.
    """

    config: Config
    actor: str
    secret: bytes = field(repr=False)
    public: str

    def sign(self, bundle_id: str) -> None:
        """Sign a bundle, and say so.

        Raises:
            BundleError: It does not load, or the signature cannot be written.
        """
        registry = open_registry(self.config, signed=False)
        with Controls(self.config.ledger.url) as controls:
            registry.sign(bundle_id, lambda manifest: signatures().signed(manifest, self.secret))
            controls.note(self.actor, "bundle.sign", bundle_id, now_us(), key=self.public)
        OUT.print(f"{bundle_id} is signed; public key {self.public}", highlight=False, soft_wrap=True)


def signer_of(config: Config, actor: str) -> Signer:
    """Return what signs with the key of the environment.

    Raises:
        ConfigError: There is none, it is none, or the extra is not installed.
    """
    secret = signing_key()
    return Signer(config, actor, secret, signatures().public_key(secret))


def training_signer(config: Config, actor: str, *, promotes: bool) -> Signer | None:
    """Return what signs the bundles that a training stores; None where no key is set.

    To be asked before the training: it may take hours, and what it leaves must then be of use.

    Args:
        config: Says which keys are trusted.
        actor: Who trains.
        promotes: Whether what is stored may be promoted.

    Raises:
        ConfigError: The key is none, the extra is not installed, or nothing would load what is to be promoted.
    """
    signer = signer_of(config, actor) if has_signing_key() else None
    if not promotes or not config.trusted_keys:
        return signer
    wanted = f"expected the private key of one of trusted_keys in {SIGNING_KEY_VARIABLE}"
    if signer is None:
        raise ConfigError(
            "no_signing_key",
            f"{wanted}, or in the file that {SIGNING_KEY_VARIABLE}_FILE names, but neither is set: nothing would load "
            "what is to be promoted; set one of them",
        )
    if not signatures().Trust(config.trusted_keys).knows(signer.public):
        raise ConfigError(
            "untrusted_key",
            f"{wanted}, but got the one of {signer.public}: nothing would load what is to be promoted; set another, or "
            "add this public key to trusted_keys if you trust it",
        )
    return signer
