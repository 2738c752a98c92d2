"""A circuit breaker around the model (Nygard, Release It!, 2007): a call has a deadline, and failures give it a rest.

A call runs in a thread of its own: nothing else can leave a model that does not return.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from tollgate.errors import ModelError
from tollgate.steps import Call, Steps, Worker

MAX_FAILURES = 5  # in a row, before the model is left alone
REST_S = 2.0  # how long it is left alone before one call tries it again

T = TypeVar("T")


class Breaker:
    """Lets one call through at a time. One thread calls; any thread may read `is_open`."""

    def __init__(self, clock_s: Callable[[], float], max_failures: int = MAX_FAILURES, rest_s: float = REST_S) -> None:
        """Start the thread that calls run in; it ends with the process or with `close`.

        Args:
            clock_s: A clock that runs on, in seconds: `time.monotonic`.
            max_failures: So many in a row open the breaker.
            rest_s: How long it stays open.
        """
        self._clock_s = clock_s
        self._max_failures = max_failures
        self._rest_s = rest_s
        self._failures = 0
        self._open_until_s = 0.0
        self._given_up: _Work | None = None
        self._worker = Worker("model")

    @property
    def is_open(self) -> bool:
        """Whether the model is left alone."""
        return self._failures >= self._max_failures

    def close(self) -> None:
        """End the thread, once the call that it is at returns."""
        self._worker.close()

    def call(self, work: Callable[[], T], within_s: float) -> Steps[T]:
        """Return what `work` returns.

        Args:
            work: Runs in the other thread; it must not touch what the caller goes on to change.
            within_s: After so many seconds it is given up, and runs on for nobody.

        Raises:
            ModelError: It failed, took too long, or was not tried: `breaker_open`, `model_busy`, `model_timeout`.
        """
        if self.is_open and self._clock_s() < self._open_until_s:
            raise ModelError("breaker_open", f"the model failed {self._failures} times in a row and is left alone")
        if self._given_up is not None:
            if not self._given_up.ended:
                self._failed()
                raise ModelError("model_busy", "the model is still at a batch that was given up")
            self._given_up = None
        under_way = _Work(work)
        try:
            value: T = yield Call(under_way, self._worker, within_s)
        except TimeoutError:
            self._given_up = under_way
            self._failed()
            raise ModelError("model_timeout", f"the model gave no score within {within_s * 1000:.0f} ms") from None
        except ModelError:
            self._failed()
            raise
        except Exception as error:
            self._failed()
            raise ModelError("model_failed", f"the model failed: {type(error).__name__}") from error
        self._failures = 0
        return value

    def _failed(self) -> None:
        self._failures += 1
        if self.is_open:
            self._open_until_s = self._clock_s() + self._rest_s


class _Work:
    """Work that says when it has ended, for whom nobody waits any more."""

    __slots__ = ("_work", "ended")

    def __init__(self, work: Callable[[], Any]) -> None:
        self._work = work
        self.ended = False

    def __call__(self) -> Any:
        try:
            return self._work()
        finally:
            self.ended = True
