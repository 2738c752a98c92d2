"""Connections to Valkey or Redis, one server or the primaries of a cluster: one round trip for all calls of a batch."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NoReturn
from urllib.parse import urlsplit

import numpy as np
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tollgate.errors import ConfigError, StateError
from tollgate.features.shared.calls import SLOTS, Calls, one_call
from tollgate.features.shared.library import Library

LOG = logging.getLogger(__name__)

_REFUSALS = (redis.RedisError, OSError)
_SAFE_POLICY = "noeviction"  # any other forgets entities, and with them what was counted
_MARKS = 64  # keys over all slots that say that a state is there: an empty server is told from one with no history
UNAVAILABLE, STALE, LOST = "state_unavailable", "state_stale", "state_lost"  # codes of errors
_WAIT_SHARE = 0.5  # of the time for an answer: what replicas may take
_LOST_REPLY = "LOST "  # begins what `history.lua` answers to a writer of another state than is there
_SCANNED = 1000  # keys a step, where a state is removed


@dataclass(frozen=True, slots=True)
class Address:
    """Where the state is.

    Attributes:
        urls: redis:// or rediss:// of the server, or of some servers of a cluster.
        cluster: Whether it is a cluster.
        password: None for none.
        timeout_s: What connecting, and each answer, may take.
    """

    urls: tuple[str, ...]
    cluster: bool = False
    password: str | None = None
    timeout_s: float = 0.02


class Servers:
    """Sends calls and returns their answers. Not thread-safe."""

    def __init__(self, address: Address, library: Library, space: str) -> None:
        """Remember where to connect to; that happens with the first exchange.

        Args:
            address: Where the state is.
            library: What the servers run.
            space: What the keys of the state begin with.

        Raises:
            ConfigError: The address is not one.
        """
        if not address.urls or (len(address.urls) > 1 and not address.cluster):
            raise ConfigError(
                "bad_config",
                f"[state.redis] urls: expected one server, or some of a cluster with cluster = true, but got "
                f"{len(address.urls)}",
            )
        self._address = address
        self._library = library
        self._space = space
        self._marked = False
        self._nodes: list[Any] = []
        self._node_of = np.zeros(SLOTS, dtype=np.int64)

    @property
    def connected(self) -> bool:
        """Whether there are connections that nothing is known to be wrong with."""
        return bool(self._nodes)

    def close(self) -> None:
        """Drop all connections; the next exchange makes new ones."""
        nodes, self._nodes = self._nodes, []
        for node in nodes:
            node.disconnect()

    def connect(self) -> None:
        """Connect to all servers, and make them ready where they are new.

        Raises:
            StateError: One does not answer; with the code `LOST`, servers have lost what they had.
        """
        try:
            self._connect()
            self._mark()
        except _REFUSALS as error:
            self._give_up(error)

    def exchange(self, asked: Sequence[Calls]) -> list[list[Any]]:
        """Return the answers to several lots of calls, each lot's in its order.

        Raises:
            StateError: Some were not answered; any of them may have been done, and there is no connection any more.
                With the code `STALE`, new ones may find a server that answers: a connection was idle for too long, or
                another server has taken over. With the code `LOST`, the state is another one than it was.
        """
        if not self._nodes:
            self.connect()
        try:
            return self._answers(asked)
        except redis.TimeoutError as error:
            self._give_up(error)
        except _REFUSALS as error:
            self._give_up(error, LOST if str(error).startswith(_LOST_REPLY) else STALE)

    def replicated(self) -> bool:
        """Wait until all replicas have what was applied; return whether they do. Primaries without any have it.

        Raises:
            StateError: A server does not answer.
        """
        try:
            for node in self._nodes:
                count = int(_info(node, "replication").get("connected_slaves", 0))
                wait_ms = int(1000 * self._address.timeout_s * _WAIT_SHARE)
                if count and int(_asked(node, "WAIT", count, max(wait_ms, 1))) < count:
                    return False
        except _REFUSALS as error:
            self._give_up(error)
        return True

    def clear(self) -> None:
        """Remove the state of this plan from all servers.

        Raises:
            StateError: A server does not answer.
        """
        self.close()
        self._marked = False
        try:
            self._connect()
            for node in self._nodes:
                cursor = b"0"
                while True:
                    cursor, keys = _asked(node, "SCAN", cursor, "MATCH", f"{self._space}:*", "COUNT", _SCANNED)
                    for key in keys:
                        _asked(node, "UNLINK", key)
                    if cursor == b"0":
                        break
        except _REFUSALS as error:
            self._give_up(error)
        self._mark()

    def _give_up(self, error: Exception, code: str = UNAVAILABLE) -> NoReturn:
        self.close()
        raise StateError(code, f"the shared feature state gave no answer: {error}") from error

    def _answers(self, asked: Sequence[Calls]) -> list[list[Any]]:
        if len(self._nodes) == 1:
            (node,) = self._nodes
            node.send_packed_command([b"".join([calls.rows.tobytes() for calls in asked])], check_health=False)
            return [[node.read_response() for _ in range(len(calls.rows))] for calls in asked]
        answers: list[list[Any]] = [[None] * len(calls.rows) for calls in asked]
        nodes_of = [self._node_of[calls.slots()] for calls in asked]
        expected = []
        for number, node in enumerate(self._nodes):
            places = [np.flatnonzero(one == number) for one in nodes_of]
            if any(len(one) for one in places):
                lots = [calls.rows[one].tobytes() for calls, one in zip(asked, places, strict=True)]
                node.send_packed_command([b"".join(lots)], check_health=False)
                expected.append((node, places))
        for node, places in expected:
            for lot, rows in enumerate(places):
                for row in rows.tolist():
                    answers[lot][row] = node.read_response()
        return answers

    def _mark(self) -> None:
        """See whether all servers have what they had, and mark a new state."""
        tags = [b"%d" % number for number in range(_MARKS)]
        keys = [f"{self._space}:{{{tag.decode()}}}".encode() for tag in tags]
        found = self._answers([one_call(tag, b"GET", key) for tag, key in zip(tags, keys, strict=True)])
        there = sum(one is not None for (one,) in found)
        if there == 0 and not self._marked:
            self._answers([one_call(tag, b"SET", key, b"1") for tag, key in zip(tags, keys, strict=True)])
        elif there < _MARKS:
            self.close()
            raise StateError(
                LOST,
                f"expected the shared feature state {self._space}, but only {there} of its {_MARKS} marks are there: "
                "servers have lost what they had; compute it again with 'tollgate backfill --anew'",
            )
        self._marked = True

    def _connect(self) -> None:
        """Connect to the primaries, and load the functions that they do not have yet."""
        error: Exception | None = None
        for url in self._address.urls:
            try:
                first = self._connection(url)
                break
            except _REFUSALS as refusal:
                error = refusal
        else:
            assert error is not None
            raise error
        self._nodes = [first]
        self._node_of[:] = 0
        if self._address.cluster:
            self._find_primaries(first)
        for node in self._nodes:
            self._prepare(node)

    def _connection(self, url: str) -> Any:
        timeout_s = self._address.timeout_s
        pool: Any = redis.ConnectionPool.from_url(
            url, password=self._address.password, socket_timeout=timeout_s, socket_connect_timeout=timeout_s,
            retry=Retry(NoBackoff(), 0), protocol=2,
        )  # fmt: skip
        connection = pool.make_connection()
        connection.connect()
        return connection

    def _find_primaries(self, first: Any) -> None:
        url = urlsplit(self._address.urls[0])
        user, at, _ = url.netloc.rpartition("@")
        known: dict[tuple[str, int], int] = {}
        self._node_of[:] = -1
        nodes: list[Any] = []
        for start, stop, primary, *_ in _asked(first, "CLUSTER", "SLOTS"):
            place = (primary[0].decode() if primary[0] else first.host, int(primary[1]))
            if place not in known:
                known[place] = len(nodes)
                host = f"[{place[0]}]" if ":" in place[0] else place[0]
                nodes.append(self._connection(url._replace(netloc=f"{user}{at}{host}:{place[1]}").geturl()))
            self._node_of[start : stop + 1] = known[place]
        first.disconnect()
        self._nodes = nodes
        if (self._node_of < 0).any():
            raise redis.RedisError("expected a primary for every slot of the cluster")

    def _prepare(self, node: Any) -> None:
        try:
            _asked(node, "FUNCTION", "LOAD", self._library.code)
        except redis.ResponseError as error:
            if "already exists" not in str(error):
                raise
        memory = _info(node, "memory")
        if memory.get("maxmemory", "0") != "0" and memory.get("maxmemory_policy") != _SAFE_POLICY:
            raise redis.ResponseError(
                f"expected maxmemory-policy {_SAFE_POLICY}, but got {memory.get('maxmemory_policy')}: a server that "
                "evicts forgets what was counted"
            )


def _info(node: Any, section: str) -> dict[str, str]:
    return dict(line.split(":", 1) for line in _asked(node, "INFO", section).decode().splitlines() if ":" in line)


def _asked(node: Any, *words: Any) -> Any:
    node.send_command(*words)
    return node.read_response()
