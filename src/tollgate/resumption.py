"""How far the scoring of a set came, so that the next run goes on there.

What a file's decisions are depends on all files before it, through the feature state. So a file that is there is not
done again only where the state behind it is there too, of the same features, bundle, rules and lists, under the same
hash key, and where nothing that went into it has changed. Beside the output stand `_progress.json` and, in `_state`,
the state after a number of files: first the output is durable, then the state, then the note of it.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from typing import NamedTuple

import msgspec
import numpy as np

from tollgate.errors import InputError, SnapshotError
from tollgate.features.engine import FeatureEngine
from tollgate.features.plan import FeaturePlan
from tollgate.features.snapshot import restore, save
from tollgate.folders import Folder, Found
from tollgate.parts import SeenIds

PROGRESS = "_progress.json"
_STATES = "_state"


def written_name(name: str) -> str:
    """Return the name of the output of a file, below the root of all outputs."""
    folder, _, last = name.rpartition("/")
    return f"{folder}/{last.rsplit('.', 1)[0]}.parquet".lstrip("/")


class Done(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A file of the set that is scored.

    Attributes:
        name: Below the root, of input and output.
        size: Of the input, in bytes.
        version: Of the input.
        written: Bytes of the output.
        counts: Decisions by outcome.
        rejected: Rows that could not be used.
    """

    name: str
    size: int
    version: str
    written: int
    counts: dict[str, int]
    rejected: int


class _Progress(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    fingerprint: str
    done: tuple[Done, ...]
    ids_sha256: str
    used: dict[str, tuple[int, int]]


class Resumed(NamedTuple):
    """Where to go on.

    Attributes:
        done: The files that need not be scored again.
        engine: With the state after them.
        seen: The ids in them.
        used: What the rules have used of their limits.
        why: Why files that are there are scored again; empty where none is.
    """

    done: list[Done]
    engine: FeatureEngine
    seen: SeenIds
    used: dict[str, tuple[int, int]]
    why: str


class Resumption:
    """Notes how far a scoring came, and finds it again."""

    def __init__(self, output: Folder, plan: FeaturePlan, fingerprint: str, hash_key: bytes | None) -> None:
        """Say what is scored.

        Args:
            output: Where the decisions go.
            plan: The features.
            fingerprint: Of all else that a decision depends on.
            hash_key: That entities and ids are hashed under; None where it ends with this process, so that no later
                one can use the state.
        """
        self._output = output
        self._plan = plan
        self._key = hash_key
        key = hash_key or b""
        self._fingerprint = hashlib.blake2b(fingerprint.encode(), digest_size=16, key=key[:64]).hexdigest()

    def resume(self, parts: Sequence[Found]) -> Resumed:
        """Return where to go on with these files; at their beginning where what is there cannot be trusted."""
        anew = Resumed([], FeatureEngine(self._plan), SeenIds(), {}, "")
        content = self._output.read(PROGRESS)
        if content is None:
            return anew
        try:
            progress = msgspec.json.decode(content, type=_Progress)
            self._check(progress, parts)
            engine, seen = self._restore(progress)
        except (msgspec.DecodeError, InputError, SnapshotError) as error:
            self._output.remove(PROGRESS)
            return anew._replace(why=error.message if isinstance(error, InputError | SnapshotError) else str(error))
        return Resumed(list(progress.done), engine, seen, progress.used, "")

    def _check(self, progress: _Progress, parts: Sequence[Found]) -> None:
        if self._key is None:
            raise _untrusted("the state was kept under a hash key that this process does not have")
        if progress.fingerprint != self._fingerprint:
            raise _untrusted("bundle, rules, lists, settings or hash key are other ones than when they were scored")
        for number, one in enumerate(progress.done):
            there = parts[number] if number < len(parts) else None
            if there is None or (there.name, there.size, there.version) != (one.name, one.size, one.version):
                raise _untrusted(f"the input is not the same any more, from {one.name} on")
        written = {one.name: one.size for one in self._output.find()}
        for one in progress.done:
            if written.get(written_name(one.name)) != one.written:
                raise _untrusted(f"the decisions of {one.name} are not as they were written")

    def _restore(self, progress: _Progress) -> tuple[FeatureEngine, SeenIds]:
        place = f"{_STATES}/{len(progress.done)}"
        ids = self._output.read(f"{place}.ids")
        if ids is None or hashlib.sha256(ids).hexdigest() != progress.ids_sha256:
            raise _untrusted("the ids that were seen are damaged or gone")
        with self._output.fetch(f"{place}.state") as path:
            found = restore(self._plan, path, key_check=self._fingerprint.encode())
        return found.engine, SeenIds(np.load(io.BytesIO(ids), allow_pickle=False))

    def keep(
        self, done: Sequence[Done], engine: FeatureEngine, seen: SeenIds, used: dict[str, tuple[int, int]]
    ) -> None:
        """Note that these files are scored, with the state after them. The output of each must be durable."""
        if self._key is None:
            return
        place = f"{_STATES}/{len(done)}"
        buffer = io.BytesIO()
        np.save(buffer, seen.hashes, allow_pickle=False)
        ids = buffer.getvalue()
        with self._output.put(f"{place}.ids") as path:
            path.write_bytes(ids)
        with self._output.put(f"{place}.state") as path:
            save(engine, path, len(done), key_check=self._fingerprint.encode())
        progress = _Progress(self._fingerprint, tuple(done), hashlib.sha256(ids).hexdigest(), used)
        with self._output.put(PROGRESS) as path:
            path.write_bytes(msgspec.json.encode(progress))
        for one in self._output.find():
            if one.name.startswith(f"{_STATES}/") and not one.name.startswith(f"{place}."):
                self._output.remove(one.name)


def _untrusted(why: str) -> InputError:
    return InputError("other_run", why)
