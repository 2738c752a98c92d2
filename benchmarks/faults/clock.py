"""The machine's clock jumps."""

from __future__ import annotations

import shutil
import time
from collections import Counter
from itertools import pairwise
from pathlib import Path

from benchmarks.faults import interface
from benchmarks.faults.audit import audit, observed_us
from benchmarks.faults.ground import Ground, Source
from benchmarks.faults.load import Load, transactions_of
from benchmarks.faults.row import Row, Sizes
from benchmarks.faults.server import Server
from benchmarks.serving.process import NotRunError

JUMP_S = 3600
_TOLD_S = 60  # of the jump: what the servers' own work may take away from it
_CLIENTS, _BEFORE_S, _AFTER_S = 3, 1.5, 3.0
_RATE_PER_S, _ANY_RATE_PER_S = 20, 1_000_000  # of the keys
_PACED, _PACE_S = 30, 0.1  # requests after the jump, at half that rate
_S_US = 1_000_000
_LIBRARIES = ("/usr/lib", "/usr/lib64", "/usr/local/lib")


def jump(ground: Ground, _sizes: Sizes) -> Row:
    """Set the clock of the server back by an hour while it decides."""
    library = _library()
    folder = ground.folder("clock")
    offset = folder / "offset"
    _set(offset, 0)
    fake = {
        "LD_PRELOAD": str(library),
        "FAKETIME_TIMESTAMP_FILE": str(offset),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }
    config = folder / "tollgate.toml"
    headers = interface.api_key(config, "load", _ANY_RATE_PER_S)
    slow = interface.api_key(config, "paced", _RATE_PER_S)
    source = Source(ground.traffic)
    with Server(folder, extra=fake) as server:
        with Load(server, source, _CLIENTS, headers=headers) as load:
            time.sleep(_BEFORE_S)
            before = len(load.sent)
            _set(offset, -JUMP_S)
            time.sleep(_AFTER_S)
        after = [one for one in load.sent[before:] if one.answer is not None and one.answer.status == 200]
        client, paced = server.client(headers=slow), Counter[int]()
        for _ in range(_PACED):
            paced[client.predict(source.body()[0]).status] += 1
            time.sleep(_PACE_S)
        client.close()
        decided = transactions_of(load.acknowledged) + paced[200]
        counted = server.health().observed
    times = observed_us(folder)
    back_s = max(earlier - later for earlier, later in pairwise(times)) / _S_US
    found = audit(folder)
    jumped = back_s > JUMP_S - _TOLD_S
    return Row(
        "the clock jumps back an hour",
        "libfaketime, changed while it decides",
        "decides on; no window is emptied (features equal those of a replay); a key at half its rate is never refused",
        f"{'jumped' if jumped else 'DID NOT JUMP'} {back_s:,.0f} s; {len(after):,} decided after it, "
        f"{len(load.refused)} refused; of the key {paced[200]} of {_PACED}; features and state "
        f"{'equal' if found.clean else 'DIFFER'}",
        held=jumped and len(after) > 0 and not load.refused and paced[200] == _PACED and found.clean
        and counted == decided,
        figures={"state_differs": found.features_differ + found.state_differs},
    )  # fmt: skip


def _library() -> Path:
    for folder in _LIBRARIES:
        for path in Path(folder).glob("**/libfaketimeMT.so.1"):
            return path
    raise NotRunError("no libfaketime (Debian package faketime)")


def _set(path: Path, offset_s: int) -> None:
    beside = path.with_suffix(".new")
    beside.write_text(f"{offset_s:+d}\n")
    shutil.move(beside, path)
