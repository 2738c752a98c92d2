"""A computation with waits in it: a generator that yields what may take long.

An event loop hands the long calls to other threads and serves others meanwhile; a file or a stream runs the same code
straight through. Python computes in one thread at a time, and a decision that hops between threads waits at each hop
for whoever computes. So only what leaves the interpreter (the model, the database) goes to a thread of its own.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

T = TypeVar("T")
Done = Callable[[Any, BaseException | None], object]


class Worker:
    """A thread that runs one piece of work after the other. It ends with the process or with `close`."""

    def __init__(self, name: str) -> None:
        """Start the thread."""
        self._work: SimpleQueue[tuple[Callable[[], Any], Done] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def submit(self, work: Callable[[], Any], done: Done) -> None:
        """Run `work` after what is there already, then hand `done` its result and None, or None and its error."""
        self._work.put((work, done))

    def close(self) -> None:
        """End the thread once its work is done."""
        self._work.put(None)

    def _run(self) -> None:
        while (item := self._work.get()) is not None:
            work, done = item
            try:
                result = work()
            except BaseException as error:  # noqa: BLE001  # it belongs to whoever waits
                done(None, error)
            else:
                done(result, None)
            del item, work, done  # a batch must not live until the next one comes


@dataclass(frozen=True, slots=True)
class Call:
    """Something that may take long.

    Attributes:
        work: What to call.
        worker: The thread that it must run in; None for any.
        within_s: After so many seconds TimeoutError comes back, and it runs on for nobody; None waits to its end.
        overlaps: Another computation of the same kind may begin meanwhile: all that is left is to wait.
    """

    work: Callable[[], Any]
    worker: Worker | None = None
    within_s: float | None = None
    overlaps: bool = False


Steps = Generator[Call, Any, T]


def run(steps: Steps[T]) -> T:
    """Return what a computation returns, waiting here for each of its calls."""
    value: Any = None
    error: BaseException | None = None
    while True:
        try:
            call = steps.send(value) if error is None else steps.throw(error)
        except StopIteration as end:
            result: T = end.value
            return result
        value, error = _waited(call)


def _waited(call: Call) -> tuple[Any, BaseException | None]:
    if call.worker is None or call.within_s is None:
        try:
            return call.work(), None
        except Exception as error:  # noqa: BLE001  # it belongs to the computation
            return None, error
    results: SimpleQueue[tuple[Any, BaseException | None]] = SimpleQueue()
    call.worker.submit(call.work, lambda value, error: results.put((value, error)))
    try:
        return results.get(timeout=max(call.within_s, 0.0))
    except Empty:
        return None, TimeoutError()
