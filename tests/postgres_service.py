"""A real PostgreSQL for tests: a schema of its own for each ledger, and a server that can be killed."""

import importlib.util
import itertools
import shutil
import subprocess
import sys
import tempfile
from importlib.machinery import SourceFileLoader
from pathlib import Path

from sqlalchemy import create_engine, text

from services import lack

SCRIPT = Path(__file__).parents[1] / "scripts" / "postgres"
_NUMBERS = itertools.count(1)
_LIMIT_S = 120


def lacking():
    """Say what is not installed, or nothing."""
    loader = SourceFileLoader("postgres_script", str(SCRIPT))
    script = importlib.util.module_from_spec(importlib.util.spec_from_loader(loader.name, loader))
    loader.exec_module(script)
    if importlib.util.find_spec("psycopg") is None:
        return "needs psycopg: pip install 'tollgate[postgres]'"
    return None if script.programs() else "needs PostgreSQL; on Debian: apt-get install postgresql"


class Server:
    """One server, in a folder of its own."""

    def __init__(self, *settings):
        self._settings = [part for one in settings for part in ("--set", one)]
        self.folder = Path(tempfile.mkdtemp(prefix="tollgate-postgres-"))
        self.folder.chmod(0o755)  # the server may run as another user
        self.url = self.start()

    def _run(self, what, *more):
        command = [sys.executable, SCRIPT, what, "--folder", self.folder / "run", *more]
        return subprocess.run(command, check=True, text=True, stdout=subprocess.PIPE, timeout=_LIMIT_S).stdout.strip()

    def start(self):
        """Start it, on the port that it had."""
        return self._run("start", *self._settings)

    def kill(self):
        """End it as a power cut would, but for the disk."""
        self._run("kill")

    def close(self):
        """End it and remove all that it had."""
        self._run("stop")
        shutil.rmtree(self.folder)

    def ledger(self):
        """Return the URL of a ledger that does not exist yet."""
        schema = f"ledger_{next(_NUMBERS)}"
        self.run(f"CREATE SCHEMA {schema}")
        return f"{self.url}?options=-csearch_path%3D{schema}"

    def run(self, sql, url=None):
        """Run a statement, in the schema of a ledger where its URL is given; return its rows."""
        engine = create_engine(url or self.url)
        try:
            with engine.begin() as connection:
                result = connection.execute(text(sql))
                return result.all() if result.returns_rows else []
        finally:
            engine.dispose()


def start(*settings):
    """Return a new server; skip the test where there is none to be had."""
    if why := lacking():
        lack("postgres", why)
    return Server(*settings)
