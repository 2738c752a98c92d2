"""Servers of Redis on free loopback ports: one, or a cluster of primaries with a replica each."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import redis

PROGRAM = "redis-server"
PACKAGE = f"{PROGRAM}: on Debian, apt-get install redis-server"
START_LIMIT_S = 20.0
NODE_TIMEOUT_MS = 1000  # without a word from a primary, after which its replica takes over
_TRIED_EVERY_S = 0.02
_BUS_OFFSET = 10_000  # of a cluster's own port


def installed() -> bool:
    """Whether a server can be started here."""
    return shutil.which(PROGRAM) is not None


def free_port() -> int:
    """Return a port that nobody listens on, with room for the cluster's own port above it."""
    while True:
        with socket.socket() as one:
            one.bind(("127.0.0.1", 0))
            port: int = one.getsockname()[1]
        if port + _BUS_OFFSET > 65_535:
            port -= _BUS_OFFSET
        with suppress(OSError), socket.socket() as one, socket.socket() as bus:
            one.bind(("127.0.0.1", port))
            bus.bind(("127.0.0.1", port + _BUS_OFFSET))
            return port


class Server:
    """One process; `kill` is kill -9."""

    def __init__(self, folder: Path, *options: str) -> None:
        """Start it and wait until it answers."""
        folder.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        self._command = [
            PROGRAM, "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(folder), "--save", "",
            "--logfile", str(folder / "log"), *options,
        ]  # fmt: skip
        self.client: Any = redis.Redis(port=self.port)
        self.start()

    @property
    def url(self) -> str:
        """Where it is."""
        return f"redis://127.0.0.1:{self.port}"

    def start(self, password: str | None = None) -> None:
        """Start it, again where it was killed."""
        secured = [] if password is None else ["--requirepass", password]
        self._process = subprocess.Popen([*self._command, *secured], stdout=subprocess.DEVNULL)
        until("the server answers", self._answers)

    def kill(self) -> None:
        """End it as a power cut does."""
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()

    def stop(self) -> None:
        """End it, however it is."""
        self.client.close()
        self.kill()

    def _answers(self) -> bool:
        try:
            return bool(self.client.ping())
        except redis.AuthenticationError:
            return True
        except redis.RedisError:
            return False


class Cluster:
    """Primaries with a replica each."""

    def __init__(self, folder: Path, primaries: int = 3) -> None:
        """Start it and wait until every slot is served and every replica follows."""
        options = (
            "--cluster-enabled", "yes", "--cluster-node-timeout", str(NODE_TIMEOUT_MS),
            "--cluster-replica-validity-factor", "0", "--repl-diskless-sync-delay", "0",
            "--cluster-require-full-coverage", "no",
        )  # fmt: skip
        self.servers = [Server(folder / str(number), *options) for number in range(2 * primaries)]
        self.primaries = self.servers[:primaries]
        try:
            self._form(primaries)
        except BaseException:
            self.stop()
            raise

    @property
    def urls(self) -> tuple[str, ...]:
        """Where to ask for the slots."""
        return tuple(one.url for one in self.servers)

    def stop(self) -> None:
        """End all."""
        for one in self.servers:
            one.stop()

    def primary_of(self, key: str) -> Server:
        """Return the server that has a key now."""
        slot = self._any().execute_command("CLUSTER KEYSLOT", key)
        for first, last, (_, port, *_), *_ in self._any().execute_command("CLUSTER SLOTS"):
            if first <= slot <= last:
                return next(one for one in self.servers if one.port == port)
        raise LookupError(f"no server has slot {slot}")

    def primaries_now(self) -> list[Server]:
        """Return the servers that are primaries at the moment, of those that run."""
        return [one for one in self.servers if _is_primary(one)]

    def until_taken_over(self) -> None:
        """Wait until replicas stand in for all primaries that were killed."""
        until("replicas have taken over", lambda: len(self.primaries_now()) == len(self.primaries))

    def until_whole(self) -> None:
        """Wait until every server says that every slot is served; all must run."""
        until("every slot is served", lambda: all(map(_is_whole, self.servers)))

    def _any(self) -> Any:
        for one in self.servers:
            with suppress(redis.RedisError):
                one.client.ping()
                return one.client
        raise LookupError("no server of the cluster answers")

    def _form(self, primaries: int) -> None:
        first = self.servers[0]
        for number, one in enumerate(self.servers):
            one.client.execute_command("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
            if number:
                one.client.execute_command("CLUSTER", "MEET", "127.0.0.1", first.port)
        edges = [16_384 * place // primaries for place in range(primaries + 1)]
        for place, one in enumerate(self.primaries):
            one.client.execute_command("CLUSTER", "ADDSLOTSRANGE", edges[place], edges[place + 1] - 1)
        names = [one.client.execute_command("CLUSTER", "MYID") for one in self.primaries]
        until("all have met", lambda: all(_knows(one, len(self.servers)) for one in self.servers))
        for place, one in enumerate(self.servers[primaries:]):
            one.client.execute_command("CLUSTER", "REPLICATE", names[place])
        until("replicas follow", lambda: _linked(self.servers[primaries:]))
        self.until_whole()


def _is_primary(server: Server) -> bool:
    with suppress(redis.RedisError):
        return bool(server.client.info("replication")["role"] == "master")
    return False


def _knows(server: Server, count: int) -> bool:
    return int(server.client.execute_command("CLUSTER INFO")["cluster_known_nodes"]) == count


def _is_whole(server: Server) -> bool:
    return bool(server.client.execute_command("CLUSTER INFO")["cluster_state"] == "ok")


def _linked(replicas: Sequence[Server]) -> bool:
    return all(one.client.info("replication").get("master_link_status") == "up" for one in replicas)


def until(what: str, holds: Any, limit_s: float = START_LIMIT_S) -> None:
    """Wait until something holds."""
    end = time.monotonic() + limit_s
    while not holds():
        if time.monotonic() > end:
            raise TimeoutError(f"expected within {limit_s} s that {what}")
        time.sleep(_TRIED_EVERY_S)
