"""What may stand in a log: no credentials, no card numbers, no values of columns that the configuration hides.

`redact` is the last step before an event becomes text. It works on copies, and is bounded: what is too deep, too long
or too much is cut, and says so.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from functools import lru_cache
from itertools import islice
from typing import Any

from tollgate.pan import MAX_DIGITS, is_card_number

REMOVED = "[removed]"
CARD_NUMBER = "[card number]"
MAX_DEPTH = 6
MAX_ITEMS = 100  # of one list or table
MAX_TEXT = 4096  # characters
_MARGIN = 256  # read past the cut, so that nothing to be removed is cut in half and then not recognised

_SECRETS = frozenset((
    "apikey", "authorization", "cookie", "hashkey", "passwd", "password", "privatekey", "proxyauthorization",
    "secret", "setcookie", "token", "tollgatehashkey", "xapikey",
))  # fmt: skip
_SEPARATORS = str.maketrans("", "", "-_ .")
_CREDENTIAL = re.compile(r"(?i)\b(bearer|basic)\s+[A-Za-z0-9._~+/=-]+")
_KEY = re.compile(r"(tollgate_[^_\s]{1,64}_)[A-Za-z0-9_-]+")
_RUN = re.compile(r"[0-9](?:[ -]?[0-9]){12,}")
_PIECE = re.compile(r"[0-9]+")


def redact(event: Mapping[str, Any], columns: Collection[str] = frozenset()) -> dict[str, Any]:
    """Return an event without what must not be logged.

    Exceptions must have become text before: other objects become theirs here.

    Args:
        event: Names and values; tables and lists in it are looked through.
        columns: Names whose values are hidden, as names of a table or as `name=value` in a text.
    """
    hidden = frozenset(columns)
    return _table(event, hidden, 0)


def redact_text(text: str, columns: Collection[str] = frozenset()) -> str:
    """Return a text without what must not be logged, cut after `MAX_TEXT` characters."""
    return _text(text, frozenset(columns))


def hide_card_numbers(text: str) -> str:
    """Return a text with everything in it that looks like a raw card number replaced, whole and otherwise as it is."""
    return _RUN.sub(_run, text)


def _table(table: Mapping[Any, Any], hidden: frozenset[str], depth: int) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for name, value in islice(table.items(), MAX_ITEMS):
        label = str(name)
        closed = label in hidden or _is_secret(label)
        result[_text(label, hidden)] = REMOVED if closed else _value(value, hidden, depth + 1)
    if len(table) > MAX_ITEMS:
        result["..."] = f"{len(table) - MAX_ITEMS} more"
    return result


def _value(value: Any, hidden: frozenset[str], depth: int) -> Any:
    match value:
        case None | bool() | float():
            return value
        case int():
            return CARD_NUMBER if is_card_number(str(abs(value))[: MAX_DIGITS + 1]) else value
        case str():
            return _text(value, hidden)
        case bytes() | bytearray() | memoryview():
            return _text(bytes(value[: MAX_TEXT + _MARGIN]).decode("utf-8", "replace"), hidden)
        case _ if depth >= MAX_DEPTH and isinstance(value, Mapping | list | tuple | set | frozenset):
            return "..."
        case Mapping():
            return _table(value, hidden, depth)
        case list() | tuple() | set() | frozenset():
            return _items(value, hidden, depth)
        case _:
            return _text(str(value), hidden)


def _items(values: Collection[Any], hidden: frozenset[str], depth: int) -> list[Any]:
    if isinstance(values, list | tuple) and len(values) == 2 and _is_secret(values[0]):  # a header: name and value
        return [_value(values[0], hidden, depth + 1), REMOVED]
    result = [_value(one, hidden, depth + 1) for one in islice(values, MAX_ITEMS)]
    if len(values) > MAX_ITEMS:
        result.append(f"... {len(values) - MAX_ITEMS} more")
    return result


def _is_secret(name: Any) -> bool:
    if isinstance(name, bytes):
        name = name.decode("latin-1")
    return isinstance(name, str) and name.lower().translate(_SEPARATORS) in _SECRETS


def _text(text: str, hidden: frozenset[str]) -> str:
    shown = text[: MAX_TEXT + _MARGIN]
    shown = _KEY.sub(rf"\1{REMOVED}", shown)
    shown = _CREDENTIAL.sub(rf"\1 {REMOVED}", shown)
    if hidden:
        shown = _assignments(hidden).sub(rf"\1{REMOVED}", shown)
    shown = _RUN.sub(_run, shown)
    return shown if len(text) <= MAX_TEXT else f"{shown[:MAX_TEXT]}... {len(text)} characters"


def _run(found: re.Match[str]) -> str:
    """Hide a run of digits where some of its whole pieces together look like a card number."""
    pieces = _PIECE.findall(found[0])
    for first in range(len(pieces)):
        digits = ""
        for piece in pieces[first:]:
            digits += piece
            if len(digits) > MAX_DIGITS:
                break
            if is_card_number(digits):
                return CARD_NUMBER
    return found[0]


@lru_cache(maxsize=8)
def _assignments(hidden: frozenset[str]) -> re.Pattern[str]:
    """Return what finds `name=value`, `"name": value` and `'name': value`; a bare `name: ` is prose."""
    names = "|".join(map(re.escape, sorted(hidden, key=len, reverse=True)))
    value = r"""(?:"(?:[^"\\]|\\.)*"?|'(?:[^'\\]|\\.)*'?|[^\s,;)}\]]+)"""
    return re.compile(rf"""((?:(?<!\w)(?:{names})\s*=\s*)|(?:["'](?:{names})["']\s*:\s*)){value}""")
