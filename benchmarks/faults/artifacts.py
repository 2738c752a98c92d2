"""Files that are not what was stored: the saved state, and bundles."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.faults import interface
from benchmarks.faults.audit import save_another_plan, snapshot_of
from benchmarks.faults.ground import BUNDLES, Ground, array_of
from benchmarks.faults.refused import refused_start
from benchmarks.faults.row import Row, Sizes
from benchmarks.faults.server import Server

_BEFORE, _AFTER = 400, 60  # transactions
_NOTICE_S = 4.0  # in which a server notices another champion


def flip(path: Path) -> None:
    """Change one bit in the middle of a file."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def cut(path: Path) -> None:
    """Leave the first half of a file."""
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])


def snapshot(ground: Ground, _sizes: Sizes) -> Row:
    """Start on a ledger beside which lies a state that cannot be used."""
    first = ground.folder("snapshot", deadline_ms=interface.NO_DEADLINE_MS)
    bundle = interface.champion(first / BUNDLES)
    with Server(first) as server:
        server.predict(array_of(ground.traffic, 0, _BEFORE))
    damages: dict[str, Callable[[Path], None]] = {
        "intact": lambda _path: None,
        "one bit flipped": flip,
        "cut short": cut,
        "of another plan": lambda path: save_another_plan(path, bundle),
    }
    told, answers = {}, {}
    for name, damage in damages.items():
        folder = ground.work / "snapshot-damaged"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(first, folder)
        path = snapshot_of(folder)
        assert path is not None
        damage(path)
        with Server(folder) as server:
            told[name] = interface.REBUILT in server.log
            client = server.client()
            answers[name] = [client.predict(ground.traffic.body(_BEFORE + place)).body for place in range(_AFTER)]
            answers[name].append(str(server.health().observed).encode())
            client.close()
    damaged = [name for name in damages if name != "intact"]
    said = [name for name in damaged if told[name]]
    same = [name for name in damaged if answers[name] == answers["intact"]]
    return Row(
        "the saved state is damaged",
        f"{', '.join(damaged)}; then a start",
        "the start says so and replays the ledger; the same answers as with the intact one",
        f"said so: {len(said)} of {len(damaged)}; same answers: {len(same)} of {len(damaged)}"
        f"{'; said so of the intact one' if told['intact'] else ''}",
        held=said == damaged and same == damaged and not told["intact"],
    )


def bundle_at_start(ground: Ground, _sizes: Sizes) -> Row:
    """Start with a champion that is not what was stored."""
    seen, held = [], True
    for name in ("model.onnx", "manifest.json"):
        folder = ground.folder("bundle")
        flip(interface.champion(folder / BUNDLES).path / name)
        found = refused_start(Server(folder), name)
        seen.append(found.seen)
        held = held and found.held
    return Row(
        "the champion is damaged",
        "one bit of model.onnx, and of manifest.json; then a start",
        f"the start ends with one line that names the file, exit code {interface.REFUSED_EXIT}",
        "; ".join(seen),
        held,
    )


def bundle_promoted(ground: Ground, _sizes: Sizes) -> Row:
    """Promote a damaged bundle while the server decides, as an operator and behind its back."""
    folder = ground.folder("promoted", deadline_ms=interface.NO_DEADLINE_MS)
    registry = folder / BUNDLES
    good = interface.champion(registry)
    bad = interface.store_another(registry)
    flip(bad.path / "model.onnx")
    with Server(folder) as server:
        client = server.client()
        with server.internal() as internal:
            refusal = interface.promote(internal, bad.id)
        interface.point_at(registry, bad.id)
        time.sleep(_NOTICE_S)
        answers = [client.predict(ground.traffic.body(place)) for place in range(_AFTER)]
        by_old = sum(one.status == 200 and f'"{good.id}"'.encode() in one.body for one in answers)
        client.close()
    return Row(
        "a damaged bundle is promoted",
        "by the internal port, and by the pointer in the registry; while it decides",
        f"refused with {interface.DAMAGED_BUNDLE}; the old champion goes on",
        f"{refusal.status} {refusal.code}; {by_old} of {len(answers)} decided by the old one",
        held=refusal.code == interface.DAMAGED_BUNDLE and by_old == len(answers),
    )
