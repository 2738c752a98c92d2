"""Answers in HTML: every value escaped and without card numbers, nothing inline, and nothing from elsewhere."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from typing import Any

from tollgate.duration import DAY_US, HOUR_US, MINUTE_US, SECOND_US
from tollgate.money import EXPONENTS, Money
from tollgate.redaction import hide_card_numbers
from tollgate.serve.message import Answer
from tollgate.templates import environment

_POLICY = (
    b"default-src 'none'; style-src 'self'; script-src 'self'; form-action 'self'; base-uri 'none'; "
    b"frame-ancestors 'none'"
)
_SECURITY = (
    (b"content-security-policy", _POLICY),
    (b"referrer-policy", b"same-origin"),
    (b"x-frame-options", b"DENY"),
    (b"cross-origin-opener-policy", b"same-origin"),
)
_HTML = (b"content-type", b"text/html; charset=utf-8")


class Pages:
    """Renders the pages of one server."""

    def __init__(self, money: Money, who: Callable[[str], str]) -> None:
        """Make them.

        Args:
            money: Whose base currency amounts of the queue are in.
            who: The name of an actor, such as `key:1f0c8a2b3d4e`.
        """
        self._environment = environment()
        self._environment.lstrip_blocks = True
        self._environment.filters |= {"plain": plain, "when": when, "long": long, "who": who}
        self._environment.globals |= {"currency": money.currency}
        self._environment.filters["money"] = lambda minor: in_units(minor, money)

    def render(self, name: str, status: int = 200, *headers: tuple[bytes, bytes], **values: Any) -> Answer:
        """Return a page of a template of this folder."""
        text = self._environment.get_template(f"review/{name}").render(**values)
        return Answer(status, text.encode(), (_HTML, *_SECURITY, *headers))

    def style(self) -> Answer:
        """Return the style of all pages."""
        text = self._environment.get_template("review/look.html").render()
        return Answer(200, text.encode(), ((b"content-type", b"text/css; charset=utf-8"),))

    def shortcuts(self) -> Answer:
        """Return the script, without which the pages work as well."""
        text = self._environment.get_template("review/shortcuts.js").render()
        return Answer(200, text.encode(), ((b"content-type", b"text/javascript; charset=utf-8"),))


def redirect(place: str, *headers: tuple[bytes, bytes]) -> Answer:
    """Send the browser elsewhere, with GET."""
    return Answer(303, b"", ((b"location", place.encode()), _HTML, *_SECURITY, *headers))


def plain(value: object) -> str:
    """Return a recorded value as text, without card numbers."""
    return hide_card_numbers(f"{value:g}" if isinstance(value, float) else str(value))


def when(time_us: int) -> str:
    """Return a time, microseconds since 1970-01-01, in UTC to the second."""
    return (dt.datetime(1970, 1, 1) + dt.timedelta(microseconds=time_us)).strftime("%Y-%m-%d %H:%M:%S")  # noqa: DTZ001


def long(duration_us: int) -> str:
    """Return about how long a duration is: `40 s`, `12 min`, `5 h`, `3 d`."""
    for unit_us, name in ((DAY_US, "d"), (HOUR_US, "h"), (MINUTE_US, "min")):
        if duration_us >= unit_us:
            return f"{duration_us // unit_us} {name}"
    return f"{max(duration_us, 0) // SECOND_US} s"


def in_units(minor: float, money: Money) -> str:
    """Return minor units of the base currency as an amount."""
    return "" if minor != minor else f"{minor / money.scale:,.{EXPONENTS[money.currency]}f}"  # noqa: PLR0124  # NaN
