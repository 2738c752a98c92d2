"""The feature engine whose histories lie on Valkey or Redis, for as many replicas as there are."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tollgate.duration import HOUR_US
from tollgate.errors import StateError
from tollgate.features import layout
from tollgate.features.declaration import nodes
from tollgate.features.kernel import ABSENT
from tollgate.features.layout import NO_TIME
from tollgate.features.plan import FeaturePlan
from tollgate.features.port import transaction_hashes
from tollgate.features.shared import rows
from tollgate.features.shared.backlog import RESENT_S, Backlog, Keys, Times, Work
from tollgate.features.shared.calls import Caller, Calls
from tollgate.features.shared.library import Library, SharedTable, library_of
from tollgate.features.shared.servers import LOST, STALE, UNAVAILABLE, Address, Servers
from tollgate.features.shared.writers import Writers
from tollgate.transaction import Batch

LOG = logging.getLogger(__name__)

MAX_BEHIND = 100_000  # transactions that wait, in order, for a server that does not answer
REPEAT_US = HOUR_US  # for how long, by the time of its entity, a transaction that comes again is recognised
REST_S = 0.25  # how long a server that did not answer is left alone
ROUND_TRIP_ROWS = 256  # transactions a round trip
CATCH_UP_S, CATCH_UP_ROWS = 0.02, 1024  # what one batch applies, at most, of what waited before it
_HALF_BITS, _HALF = np.uint64(32), np.uint64(2**32 - 1)

Floats = NDArray[np.float64]


class SharedEngine:
    """Has the methods of `FeatureEngine`, and the same bits. Not thread-safe: one thread observes.

    A transaction that cannot be applied waits and is applied later, in order. Until then features that read history
    are missing, and `lacked` says so.

    Attributes:
        plan: What is computed.
        observed: How many transactions were taken, from the position on that it resumed at.
        writers: What the state keeps of those who write it.
    """

    def __init__(
        self,
        plan: FeaturePlan,
        address: Address,
        space: str,
        writer: str,
        clock_s: Callable[[], float],
        *,
        repeat_us: int = REPEAT_US,
        max_behind: int = MAX_BEHIND,
    ) -> None:
        """Make an engine; nothing is connected to yet.

        Args:
            plan: What to compute.
            address: Where the state is.
            space: What tells apart states of one plan, in letters and digits: of other keys or other rates.
            writer: Name of this replica among those that share the state.
            clock_s: A clock that runs on, in seconds: `time.monotonic`.
            repeat_us: For how long, by the time of its entity, a transaction that comes again is recognised.
            max_behind: The most transactions that wait for a server that does not answer.

        Raises:
            ConfigError: The address is not one.
        """
        self.plan = plan
        self.observed = 0
        self.late = 0
        self.remote = True
        self._library = library_of(plan, repeat_us)
        self._space = f"{self._library.name}:{space}"
        self._clock_s = clock_s
        self._max_behind = max_behind
        self._servers = Servers(address, self._library, self._space)
        self.writers = Writers(self._servers, self._library, self._space, writer)
        self._callers = [self._caller("observe", place) for place in range(len(self._library.tables))]
        self._teachers = {
            place: self._caller("learn", place) for place, table in enumerate(self._library.tables) if table.learns
        }
        self._words = _read_as_sums(plan).pack()
        self._stateful = np.array([_reads_history(feature) for feature in plan.features])
        self._clock_us = int(NO_TIME)
        self._backlog = Backlog(repeat_us)
        self._rest_until_s = -np.inf
        self._lost = self._lacked = False
        record = max((int(words) for words in plan.program.state.tables[:, layout.RECORD_WORDS]), default=1)
        self._record, self._sample = np.zeros(record, dtype=np.int64), np.zeros(layout.MAX_LAG)

    @property
    def library(self) -> Library:
        """What runs on the servers."""
        return self._library

    @property
    def clock_us(self) -> int:
        """The newest time that was seen by this engine, or by any other when it last heard of them."""
        return self._clock_us

    @property
    def behind(self) -> int:
        """How many transactions wait to be applied."""
        return self._backlog.behind

    @property
    def is_open(self) -> bool:
        """Whether the servers are left alone, since they did not answer."""
        return self._clock_s() < self._rest_until_s

    @property
    def entities(self) -> int:
        """0: those of a shared state are the server's to count."""
        return 0

    @property
    def state_bytes(self) -> int:
        """0: what a shared state takes is the server's to tell."""
        return 0

    @property
    def index_bytes(self) -> int:
        """0, likewise."""
        return 0

    def resume(self, writer: str | None = None) -> int | None:
        """Take up where a writer left off, and go on in its name.

        Args:
            writer: Its name; this replica's own by default.

        Returns:
            The arrival number up to which what it recorded is applied for certain; None for a writer that is new.

        Raises:
            StateError: The servers do not answer.
        """
        self._clock_us, position = self.writers.resume(writer)
        self.rewind(position or 0)
        return position

    def clear(self) -> None:
        """Remove the state, of all writers, and begin anew.

        Raises:
            StateError: The servers do not answer.
        """
        self._servers.clear()
        self._clock_us = int(NO_TIME)
        self.writers.begin()
        self.rewind(0)

    def rewind(self, position: int) -> None:
        """Go on from a position: what is applied again is recognised."""
        self.observed = position
        self.writers.rewind(position)
        self._backlog.rewind(position)

    def recorded(self, observed: int, number: int) -> None:
        """Learn under which arrival numbers transactions are recorded; from any thread.

        Args:
            observed: How many were observed, as `observed` said it then; in order.
            number: Those of them that are recorded have no greater one.
        """
        if not self._lost:
            self.writers.recorded(observed, number)

    def lacked(self) -> tuple[str, ...]:
        """Return the features that were missing since this was asked last, because the servers did not answer."""
        lacked, self._lacked = self._lacked, False
        return tuple(name for name, reads in zip(self.plan.names, self._stateful, strict=True) if lacked and reads)

    def observe(self, batch: Batch) -> Floats:
        """Compute the features of N transactions in arrival order, each before it is applied itself.

        Args:
            batch: Transactions that were not observed before; one that was gets the features of then.

        Returns:
            float64 (N, F); NaN is missing. See `lacked`.
        """
        if not len(batch):
            return self._warm_up(batch)
        clocks = np.maximum.accumulate(np.maximum(batch.time_us, self._clock_us))
        self._clock_us = int(clocks[-1])
        ids = transaction_hashes(batch.ids)
        parts = [slice(start, start + ROUND_TRIP_ROWS) for start in range(0, len(batch), ROUND_TRIP_ROWS)]
        works = [
            Work(one, one.keys, one.time_us, clocks[part], ids[part])
            for part in parts
            for one in (batch if len(parts) == 1 else batch.take(part),)
        ]
        self.observed += len(batch)  # also what waits: nobody has to hand it over again
        features = self._apply(works)
        if len(features) < len(works):
            self._lacked = True
            return self._without(batch)
        return np.concatenate(features) if len(features) > 1 else features[0]

    def learn(self, keys: Keys, available_us: Times, ids: Keys | None = None) -> None:
        """Apply labels of fraud, in order of arrival; one that was applied before moves nothing.

        Args:
            keys: Of the transactions that they are about, uint64 (E, L), as in `Batch.keys`.
            available_us: When each became known, int64 (L,).
            ids: Of the same transactions, uint64 (L,), as `port.transaction_hashes` has them.
        """
        assert ids is not None
        self._learn(keys, available_us, ids)

    def relearn(self, keys: Keys, available_us: Times, ids: Keys) -> None:
        """Apply those labels that were not applied before; one that no feature can see any more is left out."""
        self._learn(keys, available_us, ids, again=True)

    def _learn(self, keys: Keys, available_us: Times, ids: Keys, *, again: bool = False) -> None:
        if self._teachers and len(available_us):
            clocks = np.full(len(available_us), self._clock_us)
            self._apply([Work(None, keys, available_us, clocks, ids, again)])

    def settle(self) -> None:
        """Apply all that waits, however long it takes, and say so.

        Raises:
            StateError: The servers do not answer, or did not for so long that not all could wait.
        """
        if self._lost:
            raise StateError("state_behind", "the shared feature state lacks transactions of the ledger; start again")
        self._rest_until_s = -np.inf
        self._connect()
        while self._backlog:
            before = self.behind
            self._apply([])
            if self.behind == before and self._backlog:
                raise StateError(UNAVAILABLE, "the shared feature state does not answer; see the log")
        self._wait_for_replicas()
        self._backlog.settle()
        self._say_position()
        self._wait_for_replicas()  # for when the state was begun: from now on another one is refused

    def _wait_for_replicas(self) -> None:
        """Wait until replicas have what was applied, or for as long as that is in doubt."""
        ends_s = self._clock_s() + RESENT_S
        while not self._servers.replicated() and self._clock_s() < ends_s:
            pass  # asking took a while

    def _say_position(self) -> None:
        ((told,),) = self._servers.exchange([self.writers.progress(self._clock_us, self._backlog.settled)])
        self.writers.heard(told)

    def close(self) -> None:
        """Apply all that waits and say how far this writer has come, where the servers answer, and leave them."""
        if (self._servers.connected or self._backlog) and not self._lost:
            try:
                self.settle()
            except StateError as error:
                LOG.warning("what waits is left to the ledger: %s: %s", error.code, error.message)
        self._servers.close()

    def _caller(self, function: str, place: int) -> Caller:
        return Caller(self._library, function, place, self._space)

    def _apply(self, works: Sequence[Work]) -> list[Floats]:
        """Apply what waits and then `works`; return the features of those of `works` that were reached."""
        if self._lost:
            return []
        self._backlog.add(works)
        features: list[Floats] = []
        for is_last in (False, True):
            try:
                self._work_off(len(works), features)
                break
            except StateError as error:
                if error.code == STALE and not is_last:
                    continue
                self._rest_until_s = self._clock_s() + REST_S
                LOG.warning("deciding without histories: %s: %s", error.code, error.message)
                if error.code == LOST:
                    self._leave_to_the_ledger(error.message)
                break
        if self.behind > self._max_behind:
            self._leave_to_the_ledger(f"more than {self._max_behind} transactions wait for the shared feature state")
        return features

    def _work_off(self, own: int, features: list[Floats]) -> None:
        """Apply some of what waits, and then the last `own` pieces of it, whose features are added."""
        ends_s, rows_left = self._clock_s() + CATCH_UP_S, CATCH_UP_ROWS
        while self._backlog and not self.is_open:
            if len(self._backlog) > own and (rows_left <= 0 or self._clock_s() > ends_s):
                return  # nobody waits for all of it
            self._connect()
            work = self._backlog.first
            found = self._ask(work) if work.batch is not None else self._teach(work)
            self._backlog.done(self._clock_s(), self._clock_us)
            rows_left -= len(work.time_us)
            if len(self._backlog) < own and work.sent_s is None:
                features.append(found)

    def _connect(self) -> None:
        if not self._servers.connected:
            self._servers.connect()
            self._backlog.send_again(self._clock_us)

    def _leave_to_the_ledger(self, why: str) -> None:
        LOG.error("histories are missing until this process starts again and takes them from the ledger: %s", why)
        self._lost = True
        self._backlog.clear()

    def _warm_up(self, batch: Batch) -> Floats:
        """Do with no transactions what is compiled, or read from a cache, at its first use."""
        work = Work(batch, batch.keys, batch.time_us, batch.time_us, np.empty(0, dtype=np.uint64))
        regs = self._registers(batch)
        for table, caller in zip(self._library.tables, self._callers, strict=True):
            keys, _ = self._calls(table, caller, work, regs)
            self._take(table, keys, [], work, regs)
        return self._end(regs)

    def _ask(self, work: Work) -> Floats:
        assert work.batch is not None
        regs = self._registers(work.batch)
        # How far this writer is known to have come: what it is about to send is not in it.
        found, asked = [], [self.writers.progress(int(work.clocks[-1]), self._backlog.settled)]
        for table, caller in zip(self._library.tables, self._callers, strict=True):
            keys, calls = self._calls(table, caller, work, regs)
            found.append(keys)
            asked.append(calls)
        told, *answers = self._servers.exchange(asked)
        for table, keys, answer in zip(self._library.tables, found, answers, strict=True):
            late = self._take(table, keys, answer, work, regs)
            self.late += 0 if table.learns else late
        self._clock_us = max(self._clock_us, self.writers.heard(told[0]))
        return self._end(regs)

    def _take(self, table: SharedTable, keys: Keys, answers: list[Any], work: Work, regs: Floats) -> int:
        """Read the features of a table from what the server answered; return how many transactions were late."""
        status, words = _unpacked(table, keys, answers)
        late: int = rows.take(
            self._words, table.number, table.words, table.kinds, status, words, work.time_us, regs, self._record,
            self._sample,
        )  # fmt: skip
        return late

    def _end(self, regs: Floats) -> Floats:
        out = np.empty((regs.shape[1], len(self.plan.features)))
        rows.end(self._words, regs, out)
        return out

    def _teach(self, work: Work) -> Floats:
        regs = np.zeros((self.plan.program.registers, len(work.time_us)))
        tables = self._library.tables
        asked = []
        for place, caller in self._teachers.items():
            keys, calls = self._calls(tables[place], caller, work, regs)
            if work.again:  # the ids of labels are kept for as long as the labels
                seen = (work.time_us > work.clocks - tables[place].horizon_us)[keys != 0]
                calls = Calls(calls.tags[seen], calls.rows[seen])
            asked.append(calls)
        self._servers.exchange(asked)
        return np.empty((0, len(self.plan.features)))

    def _calls(self, table: SharedTable, caller: Caller, work: Work, regs: Floats) -> tuple[Keys, Calls]:
        """Return the entity of each transaction in a table, uint64 (n,), 0 for none, and the calls for the others."""
        count = len(work.time_us)
        keys, sent = np.empty(count, dtype=np.uint64), np.empty((count, table.sent_words))
        sent[:, 0], sent[:, 1] = work.ids >> _HALF_BITS, work.ids & _HALF
        rows.ask(self._words, table.number, table.inputs, work.keys, work.time_us, work.clocks, regs, keys, sent)
        there = keys != 0
        return keys, caller.calls(keys[there], sent[there]) if not there.all() else caller.calls(keys, sent)

    def _registers(self, batch: Batch) -> Floats:
        regs = np.zeros((self.plan.program.registers, len(batch)))
        for register, value in self.plan.program.constants:
            regs[register] = value
        rows.begin(self._words, batch.time_us, batch.keys, batch.values, regs)
        return regs

    def _without(self, batch: Batch) -> Floats:
        """Return the features of the transactions alone; all others are missing."""
        out = self._end(self._registers(batch))
        out[:, self._stateful] = np.nan
        return out


def _unpacked(table: SharedTable, keys: Keys, answers: list[Any]) -> tuple[Times, Floats]:
    """Return how each transaction was answered, as `rows.take` has it, and the answers as words."""
    status = (keys != 0).astype(np.int64)
    words = np.zeros((len(keys), table.answer_words))
    there = np.flatnonzero(status)
    if table.learns:  # of an entity without labels nothing is kept
        known = np.array([bool(one) for one in answers], dtype=np.bool_)
        status[there[~known]] = ABSENT
        there = there[known]
    packed = np.frombuffer(b"".join(answers), dtype="<f8")
    if len(packed) != len(there) * table.answer_words:
        raise StateError(
            "bad_state",
            f"expected {len(there)} answers of {table.answer_words} words from the shared feature state, but got "
            f"{len(packed)} words",
        )
    words[there] = packed.reshape(len(there), table.answer_words)
    return status, words


def _read_as_sums(plan: FeaturePlan) -> Any:
    """Return the program with extrema read as sums are: the server answers the value, not where it lies."""
    state = plan.program.state
    outputs = state.outputs.copy()
    kinds = outputs[:, layout.O_KIND]
    kinds[kinds == layout.OUT_EXTREMUM] = layout.OUT_SUM
    return plan.program._replace(state=state._replace(outputs=outputs))


def _reads_history(feature: Any) -> bool:
    return any("entity" in one.param for one in nodes(feature))
