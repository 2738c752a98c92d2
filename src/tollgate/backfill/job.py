"""What a backfill reads and writes, whoever computes it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
import polars as pl
from numpy.typing import NDArray

from tollgate.features import FeaturePlan
from tollgate.features.arrivals import NOT_FRAUD, Times
from tollgate.files import Chunk, Rejected, TransactionFile, rejected_line
from tollgate.folders import Folder, Found, open_folder
from tollgate.frame import LabelFields
from tollgate.intake import TransactionReader
from tollgate.money import Money
from tollgate.parquet import write_parquet
from tollgate.parts import open_part
from tollgate.resumption import written_name

DESCRIPTION = "_features.json"  # written last: with it the output is complete
REJECTED = "_rejected"  # a folder that readers of Parquet pass over
REPEATED = "_repeated"  # in it: ids that came in an earlier file, where they are found together

Floats = NDArray[np.float64]


class Outcome(NamedTuple):
    """What a backfill did.

    Attributes:
        rows: Transactions whose features were written.
        rejected: Rows that could not be used.
        late: How often one came to an entity after a newer one; None where nobody counted.
    """

    rows: int
    rejected: int
    late: int | None


@dataclass(frozen=True, slots=True)
class Job:
    """Features of a set of files, into files of the same names.

    It is plain data, and goes to other machines as it is; `key` therefore must be made for it and be no secret that
    anything else is hashed under.

    Attributes:
        data: Folder or URL of the set.
        output: Folder or URL that the features go to.
        plan: The features.
        money: The base currency and the rates into it.
        labels: Where to find labels; None where there are none.
        sort: Read each file in order of the effective time instead of its own.
        key: That entities are hashed under, 16 to 64 bytes.
    """

    data: str
    output: str
    plan: FeaturePlan
    money: Money
    labels: LabelFields | None
    sort: bool
    key: bytes

    def reader(self) -> TransactionReader:
        """Return what reads the files."""
        return TransactionReader(self.plan.schema, self.money, self.key)

    def target(self) -> Folder:
        """Return where the features go."""
        return open_folder(self.output)

    def open_part(self, part: Found, path: Path, reader: TransactionReader) -> TransactionFile:
        """Return one file of the set, which is at `path` now."""
        return open_part(part, path, reader, self.labels, sort=self.sort)

    @property
    def columns(self) -> dict[str, Any]:
        """The columns that are written."""
        labels = {} if self.labels is None else {"is_fraud": pl.Boolean, "label_available": pl.Datetime("us", "UTC")}
        return {
            "transaction_id": pl.String, "effective_time": pl.Datetime("us", "UTC"), **labels,
            **dict.fromkeys(self.plan.names, pl.Float64),
        }  # fmt: skip

    def frame(
        self,
        ids: Iterable[str],
        time_us: Times,
        is_fraud: NDArray[np.bool_] | None,
        available_us: Times | None,
        features: Floats,
    ) -> pl.DataFrame:
        """Return N rows as they are written; features float64 (N, F)."""
        columns: list[Any] = [list(ids), time_us]
        if self.labels is not None:
            columns += [is_fraud, available_us]
        columns += list(features.T)
        return pl.DataFrame(
            [
                pl.Series(name, values, dtype=pl.Int64).cast(kind) if kind == pl.Datetime else pl.Series(name, values)
                for (name, kind), values in zip(self.columns.items(), columns, strict=True)
            ],
        )

    def write(self, part: str, frames: Iterable[pl.DataFrame]) -> None:
        """Write the features of one file, whole or not at all."""
        with self.target().put(written_name(part)) as path:
            write_parquet(frames, self.columns, path)

    def write_rejected(self, name: str, rejected: Iterable[Rejected]) -> bool:
        """Write rows that could not be used to a side file, or remove an old one; return whether there are any."""
        lines = [rejected_line(one) for one in rejected]
        target, name = self.target(), f"{REJECTED}/{name}.jsonl"
        if not lines:
            target.remove(name)
            return False
        with target.put(name) as path:
            path.write_bytes(b"\n".join(lines) + b"\n")
        return True

    def count_rejected(self, name: str) -> int:
        """Return how many rows the side file of that name has."""
        return (self.target().read(f"{REJECTED}/{name}.jsonl") or b"").count(b"\n")

    def describe(self, outcome: Outcome) -> None:
        """Note beside the output what it is, now that it is complete."""
        document = {"rows": outcome.rows, "rejected": outcome.rejected, "features": self.plan.to_data()}
        with self.target().put(DESCRIPTION) as path:
            path.write_bytes(msgspec.json.encode(document))


def known_us(chunk: Chunk) -> Times | None:
    """Return when each row of a chunk became or becomes known as fraud, int64 (N,); None without labels."""
    if chunk.is_fraud is None or chunk.available_us is None:
        return None
    return np.where(chunk.is_fraud, chunk.available_us, NOT_FRAUD)
