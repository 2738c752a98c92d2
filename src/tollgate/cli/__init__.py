"""The command line: the one place that wires the parts together and reads the environment."""

from tollgate.cli.app import main

__all__ = ["main"]
