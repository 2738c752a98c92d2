"""A group commit as one packed value: texts joined, numbers as arrays, so that its cost a transaction is a copy.

Packed, it is one MessagePack array. A list of texts is their lengths (uint32, little-endian) and the texts joined; one
of them is cut out without a look at the others.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from tollgate.lines import joined

Floats = NDArray[np.float64]
Times = NDArray[np.int64]

_FORMAT = 1  # one more with each change that an older Tollgate would misread
_TRIED_FORMAT = 2  # of a group that two bundles decided; all others stay readable
_LENGTH, _TIME, _FLOAT = np.dtype("<u4"), np.dtype("<i8"), np.dtype("<f8")


class Counts(NamedTuple):
    """Decisions by outcome, and how many of them were made without the model."""

    approve: int = 0
    review: int = 0
    block: int = 0
    degraded: int = 0


NO_DECISIONS = Counts()


class Shadow(NamedTuple):
    """What a challenger said of the same transactions: its bundle, and its scores, float64 (N,)."""

    bundle: str
    scores: Floats


class Tried(NamedTuple):
    """Which of the same transactions another bundle than the champion decided: its content id, and bool (N,)."""

    bundle: str
    rows: NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Group:
    """N transactions that become durable together.

    Attributes:
        ids: Their ids, none twice.
        effective_us: Their own times, int64 (N,), microseconds since 1970-01-01 UTC.
        bodies: Their fields as JSON; equal transactions are equal bytes.
        answers: The decisions as they are answered, JSON; empty for imported history.
        features: What was decided on, float64 (N, F), or None.
        observed_us: When they were observed.
        bundle: Content id of the bundle that decided, or None for imported history.
        counts: Of the decisions.
        shadow: A challenger's scores, or None.
        tried: What a canary decided instead of `bundle`, or None.
    """

    ids: Sequence[str]
    effective_us: Times
    bodies: Sequence[bytes]
    answers: Sequence[bytes]
    features: Floats | None
    observed_us: int
    bundle: str | None
    counts: Counts = NO_DECISIONS
    shadow: Shadow | None = None
    tried: Tried | None = None

    def __len__(self) -> int:
        return len(self.ids)


class _Wire(msgspec.Struct, frozen=True, array_like=True, gc=False):
    format: int
    id_lengths: bytes  # in characters
    ids: str
    effective_us: bytes
    body_lengths: bytes
    bodies: bytes
    answer_lengths: bytes
    answers: bytes
    features: bytes | None
    shadow_bundle: str | None
    shadow_scores: bytes | None


class _TriedWire(_Wire, frozen=True, array_like=True, gc=False):
    tried_bundle: str | None = None
    tried_rows: bytes | None = None  # a bit for each, the first in the highest bit


_ENCODE = msgspec.msgpack.Encoder().encode
_DECODE = msgspec.msgpack.Decoder(_TriedWire).decode


def pack(group: Group) -> bytes:
    """Return what the ledger keeps of a group beside its columns; see `Packed`."""
    n, bodies, answers = len(group.ids), group.bodies, group.answers
    assert n
    assert len(bodies) == len(group.effective_us) == n
    assert len(answers) in (0, n)
    features, shadow, tried = group.features, group.shadow, group.tried
    all_bodies, body_lengths = joined(bodies)
    all_answers, answer_lengths = joined(answers)
    parts = (
        np.fromiter(map(len, group.ids), _LENGTH, n).tobytes(),
        "".join(group.ids),
        np.asarray(group.effective_us, _TIME).tobytes(),
        body_lengths.astype(_LENGTH).tobytes(),
        all_bodies,
        answer_lengths.astype(_LENGTH).tobytes(),
        all_answers,
        None if features is None else np.asarray(features, _FLOAT).tobytes(),
        None if shadow is None else shadow.bundle,
        None if shadow is None else np.asarray(shadow.scores, _FLOAT).tobytes(),
    )
    if tried is None:
        return _ENCODE(_Wire(_FORMAT, *parts))
    assert len(tried.rows) == n
    return _ENCODE(_TriedWire(_TRIED_FORMAT, *parts, tried.bundle, np.packbits(tried.rows).tobytes()))


class Packed:
    """A packed group, opened: what is asked for is cut out, and nothing else is decoded."""

    def __init__(self, payload: bytes) -> None:
        """Open what `pack` returned.

        Raises:
            ValueError: It is something else.
        """
        try:
            self._wire = _DECODE(payload)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise ValueError(f"expected a packed group: {error}") from error
        if self._wire.format not in (_FORMAT, _TRIED_FORMAT):
            raise ValueError(
                f"expected a group of format {_FORMAT} or {_TRIED_FORMAT}, but it is of format {self._wire.format}"
            )
        self._id_ends = _ends(self._wire.id_lengths)
        self._body_ends = _ends(self._wire.body_lengths)
        self._answer_ends = _ends(self._wire.answer_lengths)

    def __len__(self) -> int:
        return len(self._id_ends) - 1

    def id(self, row: int) -> str:
        """Return the id of transaction `row`."""
        return self._wire.ids[self._id_ends[row] : self._id_ends[row + 1]]

    def body(self, row: int) -> bytes:
        """Return its body."""
        return self._wire.bodies[self._body_ends[row] : self._body_ends[row + 1]]

    def answer(self, row: int) -> bytes | None:
        """Return its decision as it was answered, or None for imported history."""
        if len(self._answer_ends) == 1:
            return None
        return self._wire.answers[self._answer_ends[row] : self._answer_ends[row + 1]]

    def feature_bytes(self, row: int) -> bytes | None:
        """Return the features that it was decided on, float64, little-endian, or None."""
        raw = self._wire.features
        if raw is None:
            return None
        width = len(raw) // len(self)
        return raw[row * width : (row + 1) * width]

    def bundle(self, row: int, champion: str | None) -> str | None:
        """Return who decided transaction `row`: the canary, or the bundle of the group."""
        tried = self.tried
        return champion if tried is None or not tried.rows[row] else tried.bundle

    def rows_with(self, texts: Collection[bytes]) -> list[int]:
        """Return the transactions, ascending, in whose body one of some texts stands: one search through all bodies."""
        found: set[int] = set()
        bodies, ends = self._wire.bodies, self._body_ends
        for text in texts:
            at = bodies.find(text)
            while at >= 0:
                row = bisect_right(ends, at) - 1
                if at + len(text) <= ends[row + 1]:
                    found.add(row)
                at = bodies.find(text, ends[row + 1])
        return sorted(found)

    @property
    def effective_us(self) -> Times:
        """Their own times, int64 (N,)."""
        return np.frombuffer(self._wire.effective_us, _TIME)

    @property
    def features(self) -> Floats | None:
        """What was decided on, float64 (N, F), or None."""
        raw = self._wire.features
        return None if raw is None else np.frombuffer(raw, _FLOAT).reshape(len(self), -1)

    @property
    def shadow(self) -> Shadow | None:
        """A challenger's scores, or None."""
        bundle, raw = self._wire.shadow_bundle, self._wire.shadow_scores
        return None if bundle is None or raw is None else Shadow(bundle, np.frombuffer(raw, _FLOAT))

    @cached_property
    def tried(self) -> Tried | None:
        """What a canary decided, or None."""
        bundle, raw = self._wire.tried_bundle, self._wire.tried_rows
        if bundle is None or raw is None:
            return None
        bits = np.unpackbits(np.frombuffer(raw, np.uint8), count=len(self))
        return Tried(bundle, bits.astype(np.bool_))


def _ends(lengths: bytes) -> list[int]:
    """Return where each text ends, after a 0 where the first one begins."""
    return [0, *np.cumsum(np.frombuffer(lengths, _LENGTH), dtype=np.int64).tolist()]
