"""The ledger cannot be written: the disk is full, another process holds it, it is read-only."""

from __future__ import annotations

import os
import resource
import shutil
import sqlite3
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from benchmarks.faults import interface
from benchmarks.faults.audit import DATABASE, audit
from benchmarks.faults.client import Answer
from benchmarks.faults.ground import Ground, Source, array_of
from benchmarks.faults.load import Load, send_again, settle, transactions_of
from benchmarks.faults.refused import refused_start
from benchmarks.faults.row import Row, Sizes
from benchmarks.faults.server import Server
from benchmarks.serving.process import NotRunError

CLIENTS = 4
_RIGHTS = "dac_override", "dac_read_search"  # by which root writes what it may not write
_BEFORE_S, _AFTER_S, _FULL_S = 1.0, 1.0, 3.0
_FILL_LIMIT_S = 60.0
_POLL_S = 0.05
_SPARE_BYTES = 256 << 10  # that the ledger's files may still grow


def disk_full(ground: Ground, _sizes: Sizes) -> Row:
    """Let no file of the server grow, and then let them grow again."""
    folder = ground.folder("disk-full")

    def broken(server: Server, load: Load) -> None:
        largest = max(path.stat().st_size for path in folder.glob(f"{DATABASE}*"))
        resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (largest + _SPARE_BYTES, resource.RLIM_INFINITY))
        _await_refusal(load)
        time.sleep(_FULL_S)
        resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))

    return _interrupted(
        ground, folder, "the disk is full", "the limit of its files' size, lowered and raised again", broken
    )


def locked(ground: Ground, sizes: Sizes) -> Row:
    """Hold the ledger in another connection, for longer than a write waits."""
    folder = ground.folder("locked")

    def broken(_server: Server, _load: Load) -> None:
        with closing(sqlite3.connect(folder / DATABASE, isolation_level=None)) as other:
            other.execute("PRAGMA busy_timeout = 10000")
            other.execute("BEGIN EXCLUSIVE")
            time.sleep(sizes.locked_s)
            other.execute("ROLLBACK")

    return _interrupted(
        ground,
        folder,
        "another process locks the ledger",
        f"BEGIN EXCLUSIVE, for {sizes.locked_s:g} s",
        broken,
    )


def _interrupted(ground: Ground, folder: Path, fault: str, done: str, broken: Callable[[Server, Load], None]) -> Row:
    """Break the ledger under a load, and see who was told what and whether all is there in the end."""
    with Server(folder) as server:
        with Load(server, Source(ground.traffic, sizes=(1, 1, 5)), CLIENTS) as load:
            time.sleep(_BEFORE_S)
            broken(server, load)
            mended = len(load.sent)
            again = _await_decision(load, mended)
            time.sleep(_AFTER_S)
        refused = [one.answer for one in load.refused if one.answer is not None]
        right = sum(_promised(one) for one in refused)
        kinds = Counter(f"{one.status} {one.code}" for one in refused)
        settled = settle(server, load.refused + load.unknown)
        acknowledged = load.acknowledged + settled
        lost = send_again(server, acknowledged)
        grown = server.health().ledger_transactions - transactions_of(acknowledged)
    found = audit(folder)
    told = any(one.code == interface.LEDGER_FAILED for one in refused)
    held = told and right == len(refused) and not load.unknown and again and not lost and not grown
    return Row(
        fault,
        done,
        f"503 {interface.LEDGER_FAILED} with Retry-After while it lasts, then on without a restart; nothing lost, "
        "nothing doubled",
        f"{right} of {len(refused)} refusals as promised ({', '.join(kinds)}), {len(load.unknown)} broken, "
        f"{'decides again' if again else 'DOES NOT DECIDE AGAIN'}, "
        f"{lost} lost, {grown} doubled, features and state {'equal' if found.clean else 'DIFFER'}",
        held=held and found.clean,
        figures={"lost": lost, "doubled": abs(grown), "state_differs": found.features_differ + found.state_differs},
    )


def _promised(answer: Answer) -> bool:
    """Whether a refusal says what it should."""
    return answer.status == 503 and answer.code == interface.LEDGER_FAILED and answer.retry_after is not None


def _await_refusal(load: Load) -> None:
    until = time.monotonic() + _FILL_LIMIT_S
    while not load.refused and time.monotonic() < until:
        time.sleep(_POLL_S)


def _await_decision(load: Load, after: int) -> bool:
    until = time.monotonic() + _FILL_LIMIT_S
    while time.monotonic() < until:
        if any(one.answer is not None and one.answer.status == 200 for one in load.sent[after:]):
            return True
        time.sleep(_POLL_S)
    return False


def read_only(ground: Ground, _sizes: Sizes) -> Row:
    """Start where the ledger, or the folder for it, may not be written."""
    outcome = f"the start ends with one line that names the ledger, exit code {interface.REFUSED_EXIT}, no traceback"
    done = "a folder, and a file, without the right to write"
    before = _without_rights()
    seen, held = [], True
    for name in ("folder", "file"):
        folder = ground.folder(f"read-only-{name}")
        if name == "file":
            with Server(folder) as server:
                server.predict(array_of(ground.traffic, 0, 10))
            (folder / DATABASE).chmod(0o444)
        else:
            folder.chmod(0o555)
        (folder / "server.log").touch()
        found = refused_start(Server(folder), "ledger", before)
        folder.chmod(0o755)
        seen.append(f"{name}: {found.seen}")
        held = held and found.held
    return Row("the ledger is read-only", done, outcome, "; ".join(seen), held)


def _without_rights() -> list[str]:
    """Return the command under which root is a user like others."""
    if os.geteuid():
        return []
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        raise NotRunError("root may write everything, and there is no setpriv (Debian package util-linux)")
    return [setpriv, "--bounding-set", ",".join(f"-{right}" for right in _RIGHTS)]
