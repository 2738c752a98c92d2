"""What comes from Kafka and what goes there, without the client that carries it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import msgspec


class Place(NamedTuple):
    """One partition of a topic."""

    topic: str
    partition: int


class Record(msgspec.Struct, frozen=True, gc=False):
    """One record that was polled; `timestamp_ms` counts from 1970-01-01 UTC and is 0 where there is none."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None


class Outgoing(msgspec.Struct, frozen=True, gc=False):
    """One record to be produced."""

    topic: str
    key: bytes | None
    value: bytes


def next_offsets(records: Iterable[Record]) -> dict[Place, int]:
    """Return where each partition goes on after `records`, which are in order within each."""
    last = {(one.topic, one.partition): one.offset for one in records}
    return {Place(*place): offset + 1 for place, offset in last.items()}


def first_offsets(records: Sequence[Record]) -> dict[Place, int]:
    """Return where each partition begins in `records`, which are in order within each."""
    first = {(one.topic, one.partition): one.offset for one in reversed(records)}
    return {Place(*place): offset for place, offset in first.items()}
