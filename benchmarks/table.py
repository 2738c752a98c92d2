"""How every benchmark says what it found: a table to read, and last one line of JSON."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.table import Table

_WIDTH = 120  # columns, also where the output is no terminal


def show(title: str, headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table on the standard output; the first column is text, the others are figures."""
    table = Table(title=title, title_justify="left")
    for place, heading in enumerate(headings):
        table.add_column(heading, justify="left" if place == 0 else "right")
    for row in rows:
        table.add_row(*row)
    Console(width=_WIDTH).print(table)


def finish(measures: Mapping[str, float | str | None]) -> None:
    """Print the measures as the last line, JSON; None is what could not be measured here."""
    print(json.dumps({name: _rounded(value) for name, value in measures.items()}))


def _rounded(value: float | str | None) -> float | str | None:
    return value if value is None or isinstance(value, int | str) else float(f"{value:.4g}")


class Progress:
    """Says on the error stream what is being done, and since when the benchmark runs."""

    def __init__(self) -> None:
        self._start = time.perf_counter()

    def __call__(self, what: str) -> None:
        """Say what begins now."""
        print(f"[{time.perf_counter() - self._start:6.1f} s] {what}", file=sys.stderr, flush=True)
