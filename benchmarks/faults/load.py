"""Clients in threads that keep account: what was answered whole, what was refused, what nobody knows."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from typing import NamedTuple, Self

from benchmarks.faults.client import Answer, BrokenError
from benchmarks.faults.ground import Source
from benchmarks.faults.server import Server

_PAUSE_S = 0.02  # after a refusal or a break
_JOIN_S = 60.0


class Sent(NamedTuple):
    """A body of some transactions and the answer that was read whole; None where it was not."""

    body: bytes
    transactions: int
    answer: Answer | None


class Load:
    """A closed loop of some clients; as a context it runs until the end of the block."""

    def __init__(self, server: Server, source: Source, clients: int, headers: Mapping[str, str] | None = None) -> None:
        """Make the clients; each sends `headers` beside the usual ones."""
        self._server, self._source, self._headers = server, source, headers
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(clients)]
        self.sent: list[Sent] = []  # append is atomic

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(_JOIN_S)

    def await_answer(self) -> None:
        """Wait until the first answer came, for at most a minute."""
        until = time.monotonic() + _JOIN_S
        while not self.sent and time.monotonic() < until:
            time.sleep(_PAUSE_S)

    def decides_after(self, start: int) -> bool:
        """Whether something was decided after the first `start` bodies."""
        return any(one.answer is not None and one.answer.status == 200 for one in self.sent[start:])

    @property
    def acknowledged(self) -> list[Sent]:
        """What was decided, as far as the clients know."""
        return [one for one in self.sent if one.answer is not None and one.answer.status == 200]

    @property
    def refused(self) -> list[Sent]:
        """What was answered with an error."""
        return [one for one in self.sent if one.answer is not None and one.answer.status != 200]

    @property
    def unknown(self) -> list[Sent]:
        """What was on its way."""
        return [one for one in self.sent if one.answer is None]

    def _run(self) -> None:
        client = self._server.client(headers=self._headers)
        while not self._over.is_set():
            body, size = self._source.body()
            try:
                answer = client.predict(body)
            except BrokenError:
                self.sent.append(Sent(body, size, None))
                if not self._server.alive:
                    break
                time.sleep(_PAUSE_S)
                continue
            self.sent.append(Sent(body, size, answer))
            if answer.status != 200:
                time.sleep(_PAUSE_S)
        client.close()


def await_decisions(loads: Sequence[Load]) -> None:
    """Wait until each of some loads has had something decided since now, for at most a minute."""
    before = [len(load.sent) for load in loads]
    until = time.monotonic() + _JOIN_S
    while time.monotonic() < until:
        if all(load.decides_after(start) for load, start in zip(loads, before, strict=True)):
            return
        time.sleep(_PAUSE_S)


def transactions_of(sent: list[Sent]) -> int:
    """Return how many transactions are in some bodies."""
    return sum(one.transactions for one in sent)


def send_again(server: Server, sent: list[Sent]) -> int:
    """Send bodies that were decided once more, and return how many transactions did not get the same bytes back."""
    client = server.client()
    differ = 0
    for one in sent:
        assert one.answer is not None
        answer = client.predict(one.body)
        if answer.status != 200 or answer.body != one.answer.body:
            differ += one.transactions
    client.close()
    return differ


def settle(server: Server, sent: list[Sent]) -> list[Sent]:
    """Send bodies that nothing is known of, or that were refused, until they are decided; return them with answers."""
    client = server.client()
    settled = []
    for one in sent:
        until = time.monotonic() + _JOIN_S
        while (answer := client.predict(one.body)).status == 503 and time.monotonic() < until:
            time.sleep(_PAUSE_S)
        settled.append(one._replace(answer=answer))
    client.close()
    return settled
