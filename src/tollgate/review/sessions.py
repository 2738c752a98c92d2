"""Who is signed in: sessions in memory, each opened with an API key. They end with the server, and nothing is lost.

The browser holds a random token; the server holds its SHA-256 and the key's id, never the key's secret.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable
from hashlib import sha256
from http.cookies import CookieError, SimpleCookie
from typing import NamedTuple

from tollgate.control import ApiKey, Scope
from tollgate.duration import HOUR_US, SECOND_US
from tollgate.keys import KeyRing

COOKIE = "tollgate_review"
PATH = "/review"
LASTS_US = 10 * HOUR_US  # a shift
IDLE_US = 1 * HOUR_US
MAX_SESSIONS = 1000  # of more, the one that was opened first ends
_TOKEN_BYTES = 32


class Session(NamedTuple):
    """Somebody who is signed in.

    Attributes:
        csrf: Must come with every form: other sites do not know it.
        until_us: Then it ends, microseconds since 1970-01-01 UTC.
        seen_us: When it was last used.
    """

    key: ApiKey
    csrf: str
    until_us: int
    seen_us: int

    @property
    def actor(self) -> str:
        """Who, as labels and the audit trail name them."""
        return f"key:{self.key.id}"


class Sessions:
    """All sessions of one server; used in the event loop's thread."""

    def __init__(self, keys: Callable[[], KeyRing], random_bytes: Callable[[int], bytes]) -> None:
        """Begin without any.

        Args:
            keys: Gives the keys that are valid now.
            random_bytes: Returns so many unpredictable bytes: `secrets.token_bytes`.
        """
        self._keys = keys
        self._random_bytes = random_bytes
        self._sessions: dict[bytes, Session] = {}

    def open(self, key: str, now_us: int) -> str:
        """Sign in with an API key; return the token for the browser.

        Raises:
            AuthError: It is no key, or none that is good.
            ScopeError: It is not good for labels.
            RateError: It is over its rate.
        """
        checked = self._keys().check(key.encode() or None, Scope.LABEL, now_us)
        token = self._random_bytes(_TOKEN_BYTES).hex()
        while len(self._sessions) >= MAX_SESSIONS:
            del self._sessions[next(iter(self._sessions))]
        self._sessions[_digest(token)] = Session(
            checked, self._random_bytes(_TOKEN_BYTES).hex(), now_us + LASTS_US, now_us
        )
        return token

    def find(self, cookies: bytes | None, now_us: int) -> Session | None:
        """Return the session of a request, by its Cookie header; None without one, or where its key is revoked."""
        name = _digest(_token(cookies))
        session = self._sessions.get(name)
        if session is None:
            return None
        if now_us >= min(session.until_us, session.seen_us + IDLE_US) or not self._keys().holds(
            session.key, Scope.LABEL
        ):
            del self._sessions[name]
            return None
        self._sessions[name] = session = session._replace(seen_us=now_us)
        return session

    def close(self, cookies: bytes | None) -> None:
        """Sign out."""
        self._sessions.pop(_digest(_token(cookies)), None)

    def may_list(self, session: Session) -> bool:
        """Return whether somebody may change lists."""
        return self._keys().holds(session.key, Scope.ADMIN)

    def who(self, actor: str) -> str:
        """Return the name of the key of an actor; others, as they are."""
        return (self._keys().name_of(actor.removeprefix("key:")) if actor.startswith("key:") else None) or actor


def is_from(session: Session, csrf: str) -> bool:
    """Return whether a form comes from a page of this session."""
    return hmac.compare_digest(csrf.encode(), session.csrf.encode())


def cookie(token: str, *, secure: bool) -> bytes:
    """Return the header's value that gives the browser its token; of an empty one, takes it away."""
    age_s = LASTS_US // SECOND_US if token else 0
    value = f"{COOKIE}={token}; Path={PATH}; HttpOnly; SameSite=Strict; Max-Age={age_s}"
    return (value + ("; Secure" if secure else "")).encode()


def _digest(token: str) -> bytes:
    return sha256(token.encode()).digest()


def _token(cookies: bytes | None) -> str:
    try:
        found = SimpleCookie((cookies or b"").decode("latin-1")).get(COOKIE)
    except CookieError:
        return ""
    return "" if found is None else found.value
