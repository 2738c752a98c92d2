"""API keys: how one is made, and how the key that came with a request is checked.

A key reads `tollgate_<id>_<secret>`. The id is public and names the key in logs; the secret is 32 random bytes in
base64url, and only its SHA-256 is kept: a secret of 256 random bits cannot be guessed, so it needs no slow hash.
"""

from __future__ import annotations

import math
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from hashlib import sha256
from hmac import compare_digest
from ipaddress import ip_address

from tollgate.control import ApiKey, Scope
from tollgate.duration import SECOND_US
from tollgate.errors import AuthError, ConfigError, RateError, ScopeError

PREFIX = "tollgate_"
BURST_S = 1.0  # how much of its rate a key may use at once, in seconds of it
_ID_BYTES, _SECRET_BYTES = 6, 32
_PREFIX, _BEARER = PREFIX.encode(), b"bearer "
_DIGEST_BYTES = 32

ANYONE = ApiKey("anyone", "no key is needed", b"", tuple(Scope), math.inf, 0)


def new_key(
    name: str, scopes: Iterable[Scope], rate_per_s: float, now_us: int, random_bytes: Callable[[int], bytes]
) -> tuple[str, ApiKey]:
    """Return a new key as its owner gets it, once, and as it is kept.

    Args:
        name: Whose it is.
        scopes: What it is good for.
        rate_per_s: Transactions a second, sustained.
        now_us: Microseconds since 1970-01-01 UTC.
        random_bytes: Returns so many unpredictable bytes: `secrets.token_bytes`.
    """
    identifier = random_bytes(_ID_BYTES).hex()
    secret = urlsafe_b64encode(random_bytes(_SECRET_BYTES)).rstrip(b"=")
    key = ApiKey(identifier, name, sha256(secret).digest(), tuple(dict.fromkeys(scopes)), rate_per_s, now_us)
    return f"{PREFIX}{identifier}_{secret.decode()}", key


@dataclass(slots=True)
class _Slot:
    """A key at work, and its token bucket: `tokens` as they were at `last_us`, the most being `burst`."""

    key: ApiKey
    good: bool
    per_us: float
    burst: float
    tokens: float
    last_us: int

    @classmethod
    def of(cls, key: ApiKey) -> _Slot:
        burst = max(key.rate_per_s * BURST_S, 1.0)
        return cls(key, key.revoked_us is None, key.rate_per_s / SECOND_US, burst, burst, 0)

    def fill(self, now_us: int) -> float:
        """Return the tokens that there are now; a clock that jumps back brings none and takes none."""
        elapsed_us = now_us - self.last_us
        if elapsed_us > 0:
            self.tokens = min(self.burst, self.tokens + elapsed_us * self.per_us)
        self.last_us = now_us
        return self.tokens


_NOBODY = _Slot.of(ApiKey("nobody", "nobody", bytes(_DIGEST_BYTES), (), 1.0, 0, revoked_us=0))


class KeyRing:
    """The keys that a server knows, each with its token bucket.

    Without any key, revoked ones counted, everything is open to anyone: revoking the last key does not open the server.
    """

    def __init__(self, keys: Iterable[ApiKey], before: KeyRing | None = None) -> None:
        """Take the keys; those that `before` knew at the same rate keep what was left in their buckets."""
        known: dict[bytes, _Slot] = {} if before is None else before._slots  # noqa: SLF001
        self._slots: dict[bytes, _Slot] = {key.id.encode(): _Slot.of(key) for key in keys}
        for name, slot in self._slots.items():
            old = known.get(name)
            if old is not None and old.key.rate_per_s == slot.key.rate_per_s:
                slot.tokens, slot.last_us = old.tokens, old.last_us

    @property
    def is_open(self) -> bool:
        """Whether no key is needed."""
        return not self._slots

    def check(self, authorization: bytes | None, scope: Scope, now_us: int) -> ApiKey:
        """Return the key that a request may use for `scope`, and take one token of it.

        Args:
            authorization: The value of Authorization (`Bearer <key>`) or of X-API-Key (the key).
            scope: What it is wanted for.
            now_us: Microseconds of a clock that runs on.

        Raises:
            AuthError: No key came, or one that is unknown, wrong or revoked; which of them is not told.
            ScopeError: It is not good for `scope`.
            RateError: It is over its rate.
        """
        if not self._slots:
            return ANYONE
        if authorization is None:
            raise AuthError(
                "no_key", "expected an API key as 'Authorization: Bearer <key>' or X-API-Key, but none came"
            )
        token = authorization[len(_BEARER) :] if authorization[: len(_BEARER)].lower() == _BEARER else authorization
        name, _, secret = token[len(_PREFIX) :].partition(b"_")
        slot = self._slots.get(name, _NOBODY)
        same = compare_digest(sha256(secret).digest(), slot.key.digest)  # for unknown ids too: the time tells nothing
        if not (same and slot.good and token.startswith(_PREFIX)):
            raise AuthError("bad_key", "expected an API key that is known and not revoked; ask for a new one")
        if scope not in slot.key.scopes:
            raise ScopeError(
                "no_scope", f"expected a key with scope '{scope}', but {slot.key.id} has none; use another"
            )
        if slot.fill(now_us) < 1.0:
            wait_s = math.ceil((1.0 - slot.tokens) / slot.key.rate_per_s)
            raise RateError(
                "rate_exceeded", f"key {slot.key.id} is good for {slot.key.rate_per_s:g}/s; slow down", wait_s
            )
        slot.tokens -= 1.0
        return slot.key

    def holds(self, key: ApiKey, scope: Scope) -> bool:
        """Return whether a key that was let in earlier is still good for a scope."""
        if not self._slots:
            return key is ANYONE
        slot = self._slots.get(key.id.encode())
        return slot is not None and slot.good and scope in slot.key.scopes

    def name_of(self, key_id: str) -> str | None:
        """Return the name of a key, also of a revoked one; None where there is none of that id."""
        slot = self._slots.get(key_id.encode())
        return None if slot is None else slot.key.name

    def charge(self, key: ApiKey, more: int) -> None:
        """Take `more` tokens of a key that was let in: of an array, those of all transactions but one.

        They are taken even if they are not there: then the key waits until it has paid.
        """
        slot = self._slots.get(key.id.encode())
        if slot is not None:
            slot.tokens -= more


def presented(headers: Iterable[tuple[bytes, bytes]]) -> bytes | None:
    """Return what a request presents as its key: Authorization, else X-API-Key, names in lower case."""
    key = None
    for name, value in headers:
        if name == b"authorization":
            return value
        if name == b"x-api-key":
            key = value
    return key


def check_exposure(host: str, ring: KeyRing, *, allowed: bool) -> str | None:
    """Return the warning for a server that answers without keys; None where keys are needed.

    Args:
        host: The address that it listens on.
        ring: Its keys.
        allowed: `[serve] open`: whether it may answer without keys to other machines.

    Raises:
        ConfigError: Other machines could use it without a key, and that is not allowed.
    """
    if not ring.is_open:
        return None
    if not (allowed or _is_loopback(host)):
        raise ConfigError(
            "open_server",
            f"expected API keys before listening on {host}, but the ledger has none: make one with "
            "'tollgate keys create', listen on 127.0.0.1, or set open = true in [serve]",
        )
    return f"no API key is needed on {host}: anyone who reaches it may use it; make one with 'tollgate keys create'"


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
