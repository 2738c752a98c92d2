"""Live traffic: payments sent to a server at the rate that they would come, whatever the server does.

The loop is open: each request has a time at which it is due, and its latency counts from then, also if all
connections were busy. A slow server thus cannot hide its queue by slowing down its clients.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from enum import StrEnum

import httptools
import msgspec

from tollgate.errors import EXIT_UNAVAILABLE, ConfigError, TollgateError
from tollgate.simulate.connection import Connection, Target, parse_target

MAX_RETRIES = 3  # of a request that was shed with 503 and a Retry-After
MAX_RETRY_WAIT_S = 5
_UNAVAILABLE = 503


class TrafficError(TollgateError):
    """There is no server to send to."""

    status = 503
    exit_code = EXIT_UNAVAILABLE


class Failure(StrEnum):
    """Why no answer came."""

    REFUSED = "refused"  # no connection could be made
    TIMEOUT = "timeout"
    BROKEN = "broken"  # the connection closed within the answer, or the answer is not HTTP


class Answer(msgspec.Struct, frozen=True):
    """What came of one request.

    Attributes:
        index: Its place in the traffic, from 0.
        status: The HTTP status; 0 if no answer came.
        latency_s: From the time it was due until the answer, or until it failed.
        body: The answer's body.
        failure: Why no answer came; null if one did.
    """

    index: int
    status: int
    latency_s: float
    body: bytes
    failure: Failure | None = None


class Tally(msgspec.Struct):
    """What came of all requests: `sent` = sum of `statuses` + sum of `failures` + `unanswered`.

    Attributes:
        sent: Requests, each counted once however often it was retried.
        statuses: How many got each HTTP status in the end.
        failures: How many failed, by `Failure`.
        unanswered: How many were still on their way when the time was up.
        retries: How often a request was sent again, since the server said 503 with Retry-After.
        elapsed_s: How long it all took.
    """

    sent: int = 0
    statuses: dict[int, int] = {}
    failures: dict[Failure, int] = {}
    unanswered: int = 0
    retries: int = 0
    elapsed_s: float = 0.0


async def send(
    url: str,
    bodies: Iterable[bytes],
    *,
    rate: float | None,
    limit_s: float,
    connections: int = 32,
    timeout_s: float = 5.0,
    headers: Sequence[tuple[str, str]] = (),
    on_answer: Callable[[Answer], None] | None = None,
) -> Tally:
    """POST each of `bodies` to `url`, in order, and return what came of it.

    Args:
        url: Such as `http://127.0.0.1:8080/predict`.
        bodies: JSON bodies; taken one by one as they are due.
        rate: Requests a second; None sends each as soon as a connection is free.
        limit_s: After this many seconds, it is over, whatever is still to be sent or on its way.
        connections: How many requests can be on their way at once.
        timeout_s: How long to wait for one answer.
        headers: Added to each request.
        on_answer: Called for each answer and each failure, in the order in which they come.

    Raises:
        ConfigError: The URL or a number is wrong.
        TrafficError: Nobody listens at the URL at the start. Later, that is counted and traffic goes on.
    """
    for name, number in (("rate", rate), ("limit_s", limit_s), ("connections", connections), ("timeout_s", timeout_s)):
        if number is not None and not number > 0:
            raise ConfigError("bad_traffic", f"{name}: expected a number above 0, but got {number}")
    sender = _Sender(parse_target(url, headers), bodies, rate, limit_s, timeout_s, on_answer)
    await sender.check(url)
    return await sender.run(connections)


class _Sender:
    """Workers with a connection each, that take turns at an iterator of bodies."""

    def __init__(
        self,
        target: Target,
        bodies: Iterable[bytes],
        rate: float | None,
        limit_s: float,
        timeout_s: float,
        on_answer: Callable[[Answer], None] | None,
    ) -> None:
        self._target = target
        self._bodies = enumerate(bodies)
        self._rate = rate
        self._limit_s = limit_s
        self._timeout_s = timeout_s
        self._on_answer = on_answer
        self._tally = Tally()
        self._now = asyncio.get_running_loop().time
        self._start_s = self._now()

    async def check(self, url: str) -> None:
        """Raise TrafficError if nobody listens."""
        connection = Connection(self._target)
        try:
            async with asyncio.timeout(min(self._timeout_s, self._limit_s)):
                await connection.open()
        except OSError as error:  # a timeout is one
            reason = str(error) or "no answer in time"
            raise TrafficError(
                "no_server", f"expected a server at {url}, but got: {reason}; start one with `tollgate serve`"
            ) from error
        finally:
            connection.close()

    async def run(self, connections: int) -> Tally:
        self._start_s = self._now()
        try:
            async with asyncio.timeout(self._limit_s), asyncio.TaskGroup() as workers:
                for _ in range(connections):
                    workers.create_task(self._work())
        except TimeoutError:
            pass  # the time is up: what is on its way stays without an answer
        except BaseExceptionGroup as group:  # of the bodies or of `on_answer`: theirs, as it was raised
            raise group.exceptions[0] from None
        tally = self._tally
        tally.elapsed_s = self._now() - self._start_s
        tally.unanswered = tally.sent - sum(tally.statuses.values()) - sum(tally.failures.values())
        return tally

    async def _work(self) -> None:
        connection = Connection(self._target)
        try:
            for index, body in self._bodies:
                due_s = self._now() if self._rate is None else self._start_s + index / self._rate
                if due_s >= self._start_s + self._limit_s:
                    return
                await asyncio.sleep(due_s - self._now())
                self._tally.sent += 1
                self._record(await self._deliver(connection, index, body, due_s))
        finally:
            connection.close()

    async def _deliver(self, connection: Connection, index: int, body: bytes, due_s: float) -> Answer:
        """Send one body, again if the server asks for that, until it has an answer or has failed."""
        failure = None
        for retries_left in reversed(range(MAX_RETRIES + 1)):
            try:
                async with asyncio.timeout(self._timeout_s):
                    reply = await connection.post(body)
            except TimeoutError:
                failure = Failure.TIMEOUT
            except ConnectionRefusedError:
                failure = Failure.REFUSED
            except (OSError, httptools.HttpParserError):
                failure = Failure.BROKEN
            if failure is not None:
                return Answer(index, 0, self._now() - due_s, b"", failure)
            shed = reply.status == _UNAVAILABLE and reply.retry_after_s is not None
            if not (shed and retries_left):
                break
            self._tally.retries += 1
            await asyncio.sleep(min(reply.retry_after_s or 0, MAX_RETRY_WAIT_S))
        return Answer(index, reply.status, self._now() - due_s, reply.body)

    def _record(self, answer: Answer) -> None:
        if answer.failure is None:
            statuses = self._tally.statuses
            statuses[answer.status] = statuses.get(answer.status, 0) + 1
        else:
            failures = self._tally.failures
            failures[answer.failure] = failures.get(answer.failure, 0) + 1
        if self._on_answer is not None:
            self._on_answer(answer)
