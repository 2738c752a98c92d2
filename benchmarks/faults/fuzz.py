"""Malformed bodies, made of valid ones with a seeded generator."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import numpy as np

DEEP = 100_000  # brackets in each other
LONG = 1_000_000  # characters of a text
_FLIPS = 8

Rng = np.random.Generator
Mutation = Callable[[bytes, Rng], bytes]

_NUMBERS = ("1e400", "-1e400", "NaN", "Infinity", "-Infinity", "9" * 400, "1e-400", "-0.0", "0x10", "01", "1.", "+1")
_WRONG: tuple[object, ...] = (
    None, True, False, 0, -1, 1.5, 2**63, 2**64, -(2**63), 1e308, "", " ", "\x00", "ten", "\u202e", [], [1], {},
    {"a": 1}, "9999-12-31T23:59:59Z", "0000-01-01T00:00:00Z", "2026-02-30T00:00:00Z", "2026-01-01T00:00:00+99:99",
)  # fmt: skip


def malformed(valid: list[bytes], count: int, seed: int) -> Iterator[bytes]:
    """Yield bodies, each a valid one with something done to it; a few are still valid by chance."""
    rng = np.random.default_rng(seed)
    for place in range(count):
        body = valid[int(rng.integers(len(valid)))]
        yield MUTATIONS[place % len(MUTATIONS)](body, rng)


def _cut(body: bytes, rng: Rng) -> bytes:
    return body[: int(rng.integers(len(body)))]


def _flipped(body: bytes, rng: Rng) -> bytes:
    data = bytearray(body)
    for place in rng.integers(len(data), size=int(rng.integers(1, _FLIPS))):
        data[int(place)] ^= 1 << int(rng.integers(8))
    return bytes(data)


def _noise(_body: bytes, rng: Rng) -> bytes:
    return rng.bytes(int(rng.integers(1, 200)))


def _doubled(body: bytes, _rng: Rng) -> bytes:
    return body + body


def _deep(_body: bytes, rng: Rng) -> bytes:
    opening = (b"[", b'{"a":', b'[{"transaction_id":')[int(rng.integers(3))]
    return opening * DEEP


def _deep_value(body: bytes, rng: Rng) -> bytes:
    return _with(body, rng, "[" * DEEP + "]" * DEEP)


def _number(body: bytes, rng: Rng) -> bytes:
    return _with(body, rng, _NUMBERS[int(rng.integers(len(_NUMBERS)))])


def _wrong(body: bytes, rng: Rng) -> bytes:
    return _with(body, rng, json.dumps(_WRONG[int(rng.integers(len(_WRONG)))]))


def _not_utf8(body: bytes, rng: Rng) -> bytes:
    bad = (b"\xff", b"\xc0\xaf", b"\xed\xa0\x80", b"\xf8\x88\x80\x80\x80", b"\x80")[int(rng.integers(5))]
    return _with(body, rng, '"@"').replace(b'"@"', b'"' + bad + b'"')


def _surrogate(body: bytes, rng: Rng) -> bytes:
    return _with(body, rng, ('"\\ud800"', '"\\udc00\\ud800"', '"\\ud83d"')[int(rng.integers(3))])


def _twice(body: bytes, rng: Rng) -> bytes:
    fields = json.loads(body)
    name = _name(fields, rng)
    return b"{" + f"{json.dumps(name)}:{json.dumps(_WRONG[int(rng.integers(len(_WRONG)))])},".encode() + body[1:]


def _long(body: bytes, rng: Rng) -> bytes:
    return _with(body, rng, '"' + "x" * LONG + '"')


def _removed(body: bytes, rng: Rng) -> bytes:
    fields = json.loads(body)
    del fields[_name(fields, rng)]
    return json.dumps(fields).encode()


def _unknown(body: bytes, rng: Rng) -> bytes:
    fields = json.loads(body)
    fields["".join(map(chr, rng.integers(32, 0x2FF, size=8)))] = 1
    return json.dumps(fields).encode()


def _mixed(body: bytes, rng: Rng) -> bytes:
    return b"[" + b",".join((body, (b"null", b"1", b"[]", body, b"{}")[int(rng.integers(5))])) + b"]"


def _with(body: bytes, rng: Rng, value: str) -> bytes:
    """Return a body in which one field has another value, written as it stands."""
    fields = json.loads(body)
    name = _name(fields, rng)
    parts = (f"{json.dumps(key)}:{value if key == name else json.dumps(old)}" for key, old in fields.items())
    return ("{" + ",".join(parts) + "}").encode()


def _name(fields: dict[str, object], rng: Rng) -> str:
    names = list(fields)
    return names[int(rng.integers(len(names)))]


MUTATIONS: tuple[Mutation, ...] = (
    _cut, _flipped, _noise, _doubled, _deep, _deep_value, _number, _wrong, _not_utf8, _surrogate, _twice, _long,
    _removed, _unknown, _mixed, _wrong, _flipped, _number,
)  # fmt: skip
