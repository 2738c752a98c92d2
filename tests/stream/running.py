"""Runs `tollgate stream` as a user does: in a process of its own."""

import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager
from pathlib import Path

from cli.running import ENVIRONMENT, START_LIMIT_S

_CONFIG = """
[ledger]
{ledger}

[stream]
bootstrap = "{bootstrap}"
group = "{group}"
batch = {batch}
poll_ms = 20

[stream.topics]
transactions = "{topics.transactions}"
decisions = "{topics.decisions}"
alerts = "{topics.alerts}"
dead_letters = "{topics.dead_letters}"
labels = "{topics.labels}"

[stream.consumer]
"session.timeout.ms" = 6000
"""


class Running:
    """A running worker and its internal port."""

    def __init__(self, process, internal):
        self.process, self.internal = process, internal

    def get(self, path):
        with urllib.request.urlopen(self.internal + path, timeout=10) as answer:
            return answer.read().decode()


def configure(folder, settings, batch=64, ledger='url = "sqlite:///tollgate.db"', more=""):
    """Write the worker's configuration beside the bundles of a folder."""
    Path(folder, "tollgate.toml").write_text(
        _CONFIG.format(
            bootstrap=settings.bootstrap, group=settings.group, topics=settings.topics, batch=batch, ledger=ledger
        )
        + more
    )


@contextmanager
def streaming(folder, env=None):
    """Run a worker until the block is left."""
    command = [sys.executable, "-m", "tollgate", "stream", "--internal-port", "0"]
    with Path(folder, "worker.log").open("a") as log:
        process = subprocess.Popen(
            command, cwd=folder, env=ENVIRONMENT | (env or {}), stdout=subprocess.PIPE, stderr=log, text=True
        )
    try:
        assert process.stdout.readline().startswith("streaming "), Path(folder, "worker.log").read_text()
        yield Running(process, process.stdout.readline().split(": ")[1].split()[0])
    finally:
        process.terminate()
        process.wait(30)
        process.stdout.close()


def until(condition):
    """Wait for a condition; what cannot be asked yet is not there yet."""
    limit = time.monotonic() + START_LIMIT_S
    while True:
        try:
            if condition():
                return
        except OSError:
            pass
        assert time.monotonic() < limit
        time.sleep(0.02)
