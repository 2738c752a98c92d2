"""Flink as both jobs want it: which Python its workers run, where its jars are, and where to go on."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

from pyflink.common import Configuration

from tollgate.errors import ConfigError

_CONNECTOR = "flink-sql-connector-kafka-*.jar"
_COMPLETE = "_metadata"  # a checkpoint without it was not finished


def configuration(settings: Mapping[str, str]) -> Configuration:
    """Return a job's configuration; what a cluster or `flink run -D` sets besides stays."""
    # The job's own modules go along to the workers; Tollgate itself is installed in their environment.
    own = {
        "python.executable": sys.executable,
        "python.client.executable": sys.executable,
        "python.files": str(Path(__file__).parents[1]),
    }
    made = Configuration()
    for name, value in {**own, **settings}.items():
        made.set_string(name, value)
    return made


def connector(jars: Path) -> str:
    """Return the URL of the Kafka connector in a folder.

    Raises:
        ConfigError: There is none, or several.
    """
    found = sorted(jars.glob(_CONNECTOR))
    if len(found) != 1:
        raise ConfigError(
            "no_connector",
            f"expected one {_CONNECTOR} in {jars}, but there are {len(found)}; integrations/flink/setup brings it, "
            "--jars says where else it is",
        )
    return found[0].resolve().as_uri()


def newest_checkpoint(folder: Path) -> Path | None:
    """Return the newest finished checkpoint of any job in a folder, or None."""
    found = [path.parent for path in folder.glob(f"*/chk-*/{_COMPLETE}")]
    return max(found, key=lambda path: (path / _COMPLETE).stat().st_mtime_ns, default=None)
