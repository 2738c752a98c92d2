"""The virtual environments of the peers: made once, one for each framework, with the versions of `peers.txt`.

One for each, since their pins contradict each other, and one that cannot be installed must not take the others along.
"""

from __future__ import annotations

import sys
from pathlib import Path

from benchmarks.serving.process import finished

REQUIREMENTS = Path(__file__).with_name("peers.txt")
_INSTALL_LIMIT_S = 900


def requirements() -> dict[str, list[str]]:
    """Return the pinned packages of each environment: its name in brackets, then a package a line."""
    found: dict[str, list[str]] = {}
    name = ""
    for line in REQUIREMENTS.read_text(encoding="utf-8").splitlines():
        text = line.partition("#")[0].strip()
        if text.startswith("["):
            name = text.strip("[]")
            found[name] = []
        elif text:
            found[name].append(text)
    return found


def python_of(name: str, folder: Path) -> Path:
    """Return the interpreter of an environment below `folder`, made where it is not there or is of other versions.

    Raises:
        NotRunError: It could not be made.
    """
    packages = requirements()[name]
    place = folder / name
    python, marker = place / "bin" / "python", place / "installed.txt"
    if marker.is_file() and marker.read_text() == "\n".join(packages):
        return python
    finished([sys.executable, "-m", "venv", "--clear", str(place)], f"making {place}", _INSTALL_LIMIT_S)
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *packages]
    finished(pip, f"installing {name}", _INSTALL_LIMIT_S)
    marker.write_text("\n".join(packages))
    return python
