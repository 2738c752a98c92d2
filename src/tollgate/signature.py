"""Who made a bundle: an Ed25519 signature (RFC 8032) beside its manifest, which holds the hash of every other file.

Keys are written as 64 hexadecimal digits. The extra `sign` is needed for all of it.
"""

from __future__ import annotations

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from tollgate.errors import BundleError, ConfigError

KEY_BYTES = 32
_CONTEXT = b"tollgate bundle 1\0"  # a signature of something else is none of a bundle


class Signature(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A public key and its signature of a manifest, both in hex."""

    key: str
    signature: str


def public_key(secret: bytes) -> str:
    """Return the public key of a private one of `KEY_BYTES`, in hex."""
    return Ed25519PrivateKey.from_private_bytes(secret).public_key().public_bytes_raw().hex()


def signed(manifest: bytes, secret: bytes) -> bytes:
    """Return the signature of a manifest, as it is kept, by a private key of `KEY_BYTES`."""
    value = Ed25519PrivateKey.from_private_bytes(secret).sign(_CONTEXT + manifest)
    return msgspec.json.encode(Signature(public_key(secret), value.hex()))


class Trust:
    """The public keys whose signatures are believed."""

    def __init__(self, keys: tuple[str, ...]) -> None:
        """Trust some keys.

        Raises:
            ConfigError: One is none.
        """
        self._keys = {}
        for text in keys:
            try:
                raw = bytes.fromhex(text)
            except ValueError:
                raw = b""
            if len(raw) != KEY_BYTES:
                raise ConfigError(
                    "bad_key", f"trusted_keys: expected public keys of {2 * KEY_BYTES} hexadecimal digits, got {text!r}"
                )
            self._keys[raw.hex()] = Ed25519PublicKey.from_public_bytes(raw)

    def knows(self, key: str) -> bool:
        """Return whether a public key, as `public_key` writes it, is one of them."""
        return key in self._keys

    def check(self, bundle_id: str, manifest: bytes, signature: bytes | None) -> None:
        """Let a bundle pass that one of the keys has signed.

        Args:
            bundle_id: Of the bundle, for the message.
            manifest: As it is stored.
            signature: What `signed` returned; None where there is none.

        Raises:
            BundleError: It is not signed, or not by one of them, or the signature is of something else.
        """
        if signature is None:
            raise BundleError(
                "unsigned_bundle",
                f"bundle {bundle_id} is not signed, and trusted_keys asks for it; run "
                f"'tollgate bundles sign {bundle_id}'",
            )
        try:
            one = msgspec.json.decode(signature, type=Signature)
            value = bytes.fromhex(one.signature)
        except ValueError as error:  # msgspec's errors are ValueErrors, too
            raise BundleError("bad_signature", f"bundle {bundle_id}: expected a signature, got: {error}") from error
        key = self._keys.get(one.key)
        if key is None:
            raise BundleError(
                "untrusted_key",
                f"bundle {bundle_id} is signed by {one.key}, which is not one of trusted_keys; add the key there if "
                "you trust it, or sign the bundle with one of them",
            )
        try:
            key.verify(value, _CONTEXT + manifest)
        except InvalidSignature:
            raise BundleError(
                "bad_signature", f"bundle {bundle_id} is not what was signed; take it from its source again"
            ) from None
