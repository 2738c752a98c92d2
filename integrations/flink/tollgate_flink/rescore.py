"""The job `rescore`: a file of transactions, decided again by Tollgate's own engine and judge inside Flink.

Features are computed by one task, in the order of the file: a transaction has a card, a device, a merchant and an
address, each with a history of its own, and no key keeps all of them together. Judging needs no history, and goes to as
many tasks as there are. Both work on the chunks that `tollgate score` makes of the file, so that at any parallelism the
same numbers go through the same calls.
"""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray
from pyflink.common import Types, WatermarkStrategy
from pyflink.datastream import FlatMapFunction, MapFunction, RuntimeContext, StreamExecutionEnvironment
from pyflink.datastream.connectors.number_seq import NumberSequenceSource

from tollgate.bundle import Bundle, Registry
from tollgate.cli.decisions import OUTCOMES, decision_frame
from tollgate.cli.wiring import judge_of, plan_of, policy_of
from tollgate.control import ListEntry
from tollgate.errors import ConfigError, InputError
from tollgate.features import FeatureEngine
from tollgate.files import CHUNK_ROWS, Chunk, TransactionFile, rejected_line
from tollgate.intake import TransactionReader
from tollgate.steps import run as run_steps
from tollgate.transaction import Batch
from tollgate_flink.environment import configuration

_SAID, _UNFINISHED = ".json", ".unfinished"  # endings of files that are gone when the job is done
_SETTINGS = {
    "restart-strategy.type": "fixed-delay",
    "restart-strategy.fixed-delay.attempts": "3",  # each begins anew, and writes the same parts again
    "python.fn-execution.bundle.size": "1",  # a piece is large: one at a time
}


@dataclass(frozen=True, slots=True)
class Rescoring:
    """What is decided, and by what.

    Attributes:
        data: The file, where every worker finds it.
        sort: Read it in order of the effective time.
        bundles: Folder of the registry, likewise.
        bundle: Content id.
        entries: Of lists, as they were when the job was submitted.
        rules: A rule set, JSON, likewise; None if there is none.
        hash_key: Of this job alone: entities in the lists are hashed as those of the transactions are.
    """

    data: Path
    sort: bool
    bundles: Path
    bundle: str
    entries: tuple[ListEntry, ...]
    rules: bytes | None
    hash_key: bytes

    def loaded(self) -> tuple[Bundle, TransactionReader]:
        """Return the bundle, and what reads transactions of its schema."""
        bundle = Registry(self.bundles).load(self.bundle)
        return bundle, TransactionReader(bundle.manifest.schema_, bundle.manifest.money, self.hash_key)

    def file(self, reader: TransactionReader) -> TransactionFile:
        """Return the opened file."""
        return TransactionFile(self.data, reader, sort=self.sort)


@dataclass(frozen=True, slots=True)
class Piece:
    """A chunk of the file on its way from the features to the judge.

    Attributes:
        number: Of the chunk, from 0.
        ids: The N transaction ids.
        time_us: As in a batch, as `keys` and `values` are.
        features: float64 (N, F).
        rejected: The rows that could not be used, each as a line of JSON.
        late: How many times a transaction came after a newer one of the same entity, up to here.
    """

    number: int
    ids: Sequence[str]
    time_us: NDArray[np.int64]
    keys: NDArray[np.uint64]
    values: NDArray[np.float64]
    features: NDArray[np.float64]
    rejected: tuple[bytes, ...]
    late: int


class _Part(msgspec.Struct, frozen=True):
    """What is in a part, as it lies beside it until the job is done: a job that began anew has no other memory."""

    outcomes: tuple[int, ...]
    rejected: tuple[msgspec.Raw, ...]
    late: int


@dataclass(frozen=True, slots=True)
class Rescored:
    """What was written of all.

    Attributes:
        outcomes: How many transactions got each.
        rejected: The rows that could not be used, in order, each as a line of JSON.
        late: How many times a transaction came after a newer one of the same entity.
    """

    outcomes: Counter[str]
    rejected: tuple[bytes, ...]
    late: int


class _Observe(FlatMapFunction):
    """Reads the file and computes features: with each call as much of it as is due, so that nothing piles up."""

    def __init__(self, rescoring: Rescoring) -> None:
        self._rescoring = rescoring

    def open(self, runtime_context: RuntimeContext) -> None:  # noqa: ARG002  # Flink's
        bundle, reader = self._rescoring.loaded()
        self._engine = FeatureEngine(plan_of(bundle))
        self._chunks: Iterator[Chunk] = self._rescoring.file(reader).chunks()
        self._rows = self._number = 0

    def flat_map(self, value: int) -> Iterator[Piece]:
        due = (value + 1) * CHUNK_ROWS
        while self._rows < due and (chunk := next(self._chunks, None)) is not None:
            self._rows += len(chunk.batch) + len(chunk.rejected)
            batch = chunk.batch
            features = self._engine.observe(batch)
            yield Piece(
                self._number, batch.ids, batch.time_us, batch.keys, batch.values, features,
                tuple(rejected_line(one) for one in chunk.rejected), self._engine.late,
            )  # fmt: skip
            self._number += 1


class _Decide(MapFunction):
    """Judges pieces and writes each as a part, whole or not at all: written again, it is the same."""

    def __init__(self, rescoring: Rescoring, folder: Path) -> None:
        self._rescoring = rescoring
        self._folder = folder

    def open(self, runtime_context: RuntimeContext) -> None:  # noqa: ARG002  # Flink's
        bundle, reader = self._rescoring.loaded()
        self._schema = reader.schema
        self._judge = judge_of(bundle, policy_of(bundle, reader, self._rescoring.entries, self._rescoring.rules))

    def map(self, value: Piece) -> int:
        batch = Batch(self._schema, value.ids, value.time_us, value.keys, value.values)
        judgement = run_steps(self._judge.judge(batch, value.features, batch.time_us))
        if len(batch):
            frame = decision_frame(batch, judgement, self._judge.bundle)
            _replace(self._folder / f"part-{value.number:06}.parquet", frame.write_parquet)
        counts = np.bincount(judgement.outcomes, minlength=len(OUTCOMES)).tolist()
        said = msgspec.json.encode(_Part(tuple(counts), tuple(map(msgspec.Raw, value.rejected)), value.late))
        _replace(self._folder / f"part-{value.number:06}{_SAID}", lambda path: path.write_bytes(said))
        return value.number


def _replace(path: Path, write: Callable[[Path], object]) -> None:
    part = path.with_name(f"{path.name}.{os.getpid()}{_UNFINISHED}")
    write(part)
    part.replace(path)


def run(rescoring: Rescoring, output: Path, parallelism: int, name: str) -> Rescored:
    """Decide the file; the decisions are in `output` as parts, whose names are in the file's order.

    Args:
        rescoring: What to decide.
        output: A folder that every worker finds, and that is not there yet. It is there when all is in it.
        parallelism: Of judging.
        name: Of the job.

    Raises:
        ConfigError: The output is there.
        InputError: The file cannot be read, or has no row that can be used.
        BundleError: The bundle cannot be loaded.
    """
    if output.exists():
        raise ConfigError("output_exists", f"expected no {output} yet; remove it, or write elsewhere", path=str(output))
    rows = rescoring.file(rescoring.loaded()[1]).rows  # what is wrong shows here, not in a worker
    folder = output.with_name(output.name + ".part")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    environment = StreamExecutionEnvironment.get_execution_environment(configuration(_SETTINGS))
    chunks = -(-rows // CHUNK_ROWS)
    turns = environment.from_source(NumberSequenceSource(0, chunks - 1), WatermarkStrategy.no_watermarks(), "turns")
    pieces = (
        turns.set_parallelism(1)
        .flat_map(_Observe(rescoring), Types.PICKLED_BYTE_ARRAY()).set_parallelism(1).name("features")
    )  # fmt: skip
    pieces.rebalance().map(_Decide(rescoring, folder), Types.INT()).set_parallelism(parallelism).name("decisions")
    environment.execute(name)
    done = _gathered(folder)
    if not done.outcomes.total():
        raise InputError("no_rows", f"no row of {rescoring.data} could be used", file=str(rescoring.data))
    folder.rename(output)
    return done


def _gathered(folder: Path) -> Rescored:
    """Return what the parts say, and leave the parts alone in the folder."""
    outcomes: Counter[str] = Counter()
    rejected: list[bytes] = []
    late = 0
    for path in sorted(folder.glob(f"*{_SAID}")):
        said = msgspec.json.decode(path.read_bytes(), type=_Part)
        outcomes.update(dict(zip(OUTCOMES, said.outcomes, strict=True)))
        rejected += map(bytes, said.rejected)
        late = max(late, said.late)
        path.unlink()
    for unfinished in folder.glob(f"*{_UNFINISHED}"):  # of a task that was killed
        unfinished.unlink()
    return Rescored(outcomes, tuple(rejected), late)
