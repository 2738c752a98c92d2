"""How texts become numbers: keyed for entities, plain for categories.

No raw card number is held in feature state: an entity is known by a keyed 64-bit hash (BLAKE2b, RFC 7693), of which
feature state keeps 58 bits: among ten million entities of a kind, two are taken for one with probability 0.0002. The
features do not depend on the key otherwise.
"""

from __future__ import annotations

from hashlib import blake2b

MISSING_KEY = 0
_CATEGORY_BITS = 52  # float64 holds every such whole number exactly


def entity_key(text: str, hash_key: bytes) -> int:
    """Return the non-zero 64-bit key of an entity id, under `hash_key` (16 to 64 bytes)."""
    digest = blake2b(text.encode(), digest_size=8, key=hash_key).digest()
    return int.from_bytes(digest, "little") or 1


def category_code(text: str) -> float:
    """Return the code of a category's text: a whole number below 2**52, the same everywhere and always."""
    digest = blake2b(text.encode(), digest_size=8).digest()
    return float(int.from_bytes(digest, "little") >> (64 - _CATEGORY_BITS))
