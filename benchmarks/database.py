"""A PostgreSQL server of a benchmark's own, which syncs as it would in earnest, and can be killed."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Self

from benchmarks.serving.material import ROOT
from benchmarks.serving.process import NotRunError

_SCRIPT = ROOT / "scripts" / "postgres"
_LIMIT_S = 120.0


class Database:
    """As a context it runs, and is ended and removed at the end."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="tollgate-postgres-"))
        self._folder.chmod(0o755)  # the server may run as another user
        self._made = 0
        self.url = self.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self._run("stop")
        shutil.rmtree(self._folder)

    def start(self) -> str:
        """Start it, on the port that it had, and return its URL.

        Raises:
            NotRunError: It is not installed, or did not start.
        """
        return self._run("start")

    def kill(self) -> None:
        """SIGKILL to all of its processes."""
        self._run("kill")

    def ledger(self) -> str:
        """Return the URL of a ledger that does not exist yet."""
        self._made += 1
        schema = f"ledger_{self._made}"
        host, database = self.url.split("//")[1].split("/")
        user, address = host.split("@")
        command = ("psql", "-q", "-h", address.split(":")[0], "-p", address.split(":")[1], "-U", user, database, "-c")
        subprocess.run((*command, f"CREATE SCHEMA {schema}"), check=True, timeout=_LIMIT_S)
        return f"{self.url}?options=-csearch_path%3D{schema}"

    def _run(self, what: str) -> str:
        command = (sys.executable, _SCRIPT, what, "--folder", self._folder / "run")
        try:
            done = subprocess.run(command, check=True, text=True, capture_output=True, timeout=_LIMIT_S)
        except subprocess.CalledProcessError as error:
            raise NotRunError(f"PostgreSQL: {error.stderr.strip()}") from None
        return done.stdout.strip()
