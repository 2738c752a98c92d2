"""Snapshots while the server runs: another process computes them from the ledger, and the scorer waits for nothing."""

from __future__ import annotations

import asyncio
import logging
import subprocess
from collections.abc import Callable, Sequence

LOG = logging.getLogger(__name__)

_TERM_S = 5.0


class Snapshots:
    """Runs `tollgate backfill` every so often, if something was decided since; only one at a time."""

    def __init__(self, command: Callable[[], Sequence[str]], every_s: float, position: Callable[[], int]) -> None:
        """Say what to run.

        Args:
            command: Gives the program and its arguments, of the bundle that decides now.
            every_s: How often.
            position: Of the ledger: what has not moved needs no snapshot.
        """
        self._command = command
        self._every_s = every_s
        self._position = position
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Start, in the running loop."""
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def stop(self) -> None:
        """Stop, and end a process that is under way."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        saved = self._position()
        while True:
            await asyncio.sleep(self._every_s)
            position = self._position()
            if position == saved:
                continue
            process = await asyncio.create_subprocess_exec(
                *self._command(), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
            )
            try:
                _, said = await process.communicate()
            except asyncio.CancelledError:
                process.terminate()
                await asyncio.wait_for(process.wait(), _TERM_S)
                raise
            if process.returncode == 0:
                saved = position
                LOG.info("saved the feature state after %d transactions", position)
            else:
                LOG.warning("saving the feature state failed", extra={"said": said.decode("utf-8", "replace")[-500:]})
