"""Transactions to send, each one distinct: simulated payments in order of time, again and again, the days going on.

The ids count up and the dates advance with every round, so that windows fill and empty as they do in life and no
request is a repetition. `load.lua` makes the same requests from the same file.
"""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import NamedTuple

import polars as pl

from tollgate.simulate import payloads

LOAD_SCRIPT = Path(__file__).with_name("load.lua")
_EPOCH = dt.date(1970, 1, 1)
_ID_DIGITS = 12
_BEFORE_DATE = b'","effective_time":"'
_HEAD = b"POST /predict HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: %d\r\n%s\r\n"
_ID_START = b'{"transaction_id":"'


def head(length: int, headers: bytes = b"") -> bytes:
    """Return the head of a request whose body has `length` bytes; `headers` are whole lines."""
    return _HEAD % (length, headers)


class Traffic(NamedTuple):
    """What of the requests is the same in every round.

    Attributes:
        start_day: The first day of the first round, counted from 1970-01-01.
        span_days: How many days a round lasts.
        days: Of each transaction, counted from the start of a round.
        tails: Of each body, what comes after the date.
    """

    start_day: int
    span_days: int
    days: list[int]
    tails: list[bytes]

    def body(self, serial: int) -> bytes:
        """Return the JSON of the transaction of a number, counted from 0 over all rounds."""
        turn, place = divmod(serial, len(self.tails))
        date = _EPOCH + dt.timedelta(self.start_day + turn * self.span_days + self.days[place])
        number = str(serial).zfill(_ID_DIGITS).encode()
        return b"".join((_ID_START, number, _BEFORE_DATE, date.isoformat().encode(), self.tails[place]))

    def request(self, serial: int, headers: bytes = b"") -> bytes:
        """Return the whole request of one transaction."""
        body = self.body(serial)
        return head(len(body), headers) + body

    def save(self, path: Path) -> None:
        """Write it as `load.lua` reads it: numbers of the whole, then day and tail of each transaction."""
        lines = [f"{len(self.tails)} {self.span_days} {self.start_day}".encode()]
        lines += [b"%d\t%s" % pair for pair in zip(self.days, self.tails, strict=True)]
        path.write_bytes(b"\n".join(lines) + b"\n")

    @classmethod
    def load(cls, path: Path) -> Traffic:
        """Return what `save` wrote."""
        first, *lines = path.read_bytes().splitlines()
        _, span_days, start_day = (int(word) for word in first.split())
        pairs = [line.split(b"\t", 1) for line in lines]
        return cls(start_day, span_days, [int(day) for day, _ in pairs], [tail for _, tail in pairs])


def traffic_of(frame: pl.DataFrame, transactions: int) -> Traffic:
    """Return traffic that goes on where the simulated payments of `frame` end, made of its first ones."""
    bodies = list(payloads(frame.head(transactions)))
    first: dt.date = frame["effective_time"][0].date()
    last: dt.date = frame["effective_time"][-1].date()
    days, tails = [], []
    for body in bodies:
        rest = body.partition(_BEFORE_DATE)[2]
        date, tail = rest[:10], rest[10:]
        days.append((dt.date.fromisoformat(date.decode()) - first).days)
        tails.append(tail)
    return Traffic((last - _EPOCH).days + 1, days[-1] + 1, days, tails)
