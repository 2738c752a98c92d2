"""What a state keeps of those who write it: one hash on the servers, and what this process knows of its own part."""

from __future__ import annotations

from collections import deque
from typing import Any, NamedTuple

from tollgate.features.layout import NO_TIME
from tollgate.features.port import Standing
from tollgate.features.shared.calls import Calls, one_call
from tollgate.features.shared.library import Library
from tollgate.features.shared.servers import Servers

_TAG = b"state"  # hash tag of its key
_CLOCK, _BORN, _FILLED = b"clock", b"born", b"filled"  # its fields
_POSITION = b"position:"  # one more for each writer, with its name


class Resumed(NamedTuple):
    """Where a writer left off.

    Attributes:
        clock_us: The newest time that any writer has seen.
        position: Arrival number up to which what it recorded is applied for certain; None for one that is new.
    """

    clock_us: int
    position: int | None


class Writers:
    """Not thread-safe, but for `recorded`.

    Attributes:
        number: Arrival number of the newest transaction of this writer that is known to be recorded.
    """

    def __init__(self, servers: Servers, library: Library, space: str, own: str) -> None:
        """Begin with nothing known.

        Args:
            servers: Where the state is.
            library: What they run.
            space: What its keys begin with.
            own: The name of this process.
        """
        self._servers = servers
        self._function = f"{library.name}_progress".encode()
        self._key = f"{space}:{{{_TAG.decode()}}}".encode()
        self._own = self._name = own
        self._born = b""  # when the state was begun: another one is not taken for it
        self._recorded: deque[tuple[int, int]] = deque()  # how many were observed, and up to which number they go
        self._position = self.number = 0

    def resume(self, writer: str | None) -> Resumed:
        """Go on in the name of a writer; None is this process itself.

        Raises:
            StateError: The servers do not answer.
        """
        self._name = self._own if writer is None else writer
        clock, born, position = self._ask(b"HMGET", _CLOCK, _BORN, _POSITION + self._name.encode())
        self._born = born or b""
        return Resumed(int(NO_TIME) if clock is None else int(clock), None if position is None else int(position))

    def standing(self) -> Standing:
        """Return how far the state is.

        Raises:
            StateError: The servers do not answer.
        """
        words = self._ask(b"HGETALL")
        fields = dict(zip(words[::2], words[1::2], strict=True))
        filled = fields.get(_FILLED)
        positions = {
            name.removeprefix(_POSITION).decode(): int(number)
            for name, number in fields.items()
            if name.startswith(_POSITION)
        }
        return Standing(None if filled is None else int(filled), positions)

    def fill_ends(self, position: int) -> None:
        """Say that all that was recorded up to a position is applied, by whichever writer it was.

        Raises:
            StateError: The servers do not answer.
        """
        known = self.standing().positions
        self._ask(b"HSET", _FILLED, b"%d" % position)
        for name in known:
            self.forget(name)

    def forget(self, writer: str) -> None:
        """Keep nothing of a writer that is gone, of which all is applied.

        Raises:
            StateError: The servers do not answer.
        """
        self._ask(b"HDEL", _POSITION + writer.encode())

    def begin(self) -> None:
        """Go on with a state that was removed; to be followed by `rewind`, as `resume` is."""
        self._born = b""

    def rewind(self, position: int) -> None:
        """Go on from a position."""
        self._position = self.number = position
        self._recorded.clear()

    def recorded(self, observed: int, number: int) -> None:
        """Learn that what was observed, `observed` in all, is recorded under numbers up to `number`, or not at all."""
        self.number = max(self.number, number)  # of a group that others had recorded before, none is told
        self._recorded.append((observed, self.number))

    def progress(self, clock_us: int, settled: int) -> Calls:
        """Return the call that says how far this writer is.

        Args:
            clock_us: The newest time that it has seen.
            settled: How many of those that it observed are applied beyond doubt.
        """
        while self._recorded and self._recorded[0][0] <= settled:
            _, self._position = self._recorded.popleft()
        words = (b"%d" % clock_us, self._name.encode(), b"%d" % self._position, self._born)
        return one_call(_TAG, b"FCALL", self._function, b"1", self._key, *words)

    def heard(self, told: list[Any]) -> int:
        """Take the answer to that call, and return the newest time that any writer has seen."""
        clock, self._born = told
        return int(clock)

    def _ask(self, command: bytes, *words: bytes) -> Any:
        ((answer,),) = self._servers.exchange([one_call(_TAG, command, self._key, *words)])
        return answer
