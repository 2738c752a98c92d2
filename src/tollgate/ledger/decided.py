"""What was decided since a moment, as columns, wherever it lies: for who looks back at decisions, beside the writer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray
from sqlalchemy import Engine, Row, func, select

from tollgate.errors import LedgerError
from tollgate.ledger import archived
from tollgate.ledger.connection import reading
from tollgate.ledger.group import Shadow
from tollgate.ledger.settings import ArchiveMark, archive_mark
from tollgate.ledger.stretches import opened
from tollgate.ledger.tables import GROUPS

CHUNK_ROWS = 8192  # transactions handed on together: groups of a few would cost more than what they hold
_GROUPS_AT_ONCE = 256  # read by one query
_KINDS_AT_ONCE = 2  # gathered side by side: a champion's and a canary's

_GROUPS = select(GROUPS.c.first, GROUPS.c.count, GROUPS.c.observed_us, GROUPS.c.bundle, GROUPS.c.payload)

Times = NDArray[np.int64]
_Kind = tuple[str, str | None, int | None]  # bundle, challenger, width of the features: what can be joined


class Decided(NamedTuple):
    """N decided transactions in order of arrival, all by one bundle, beside one challenger or none.

    Attributes:
        bundle: Content id of the bundle that decided.
        ids: The transaction ids.
        effective_us: Their own times, int64 (N,), microseconds since 1970-01-01 UTC.
        observed_us: When they were observed, int64 (N,).
        bodies: Their fields, JSON.
        answers: The decisions, JSON.
        features: What was decided on, float64 (N, F), or None.
        shadow: The challenger's scores, or None.
    """

    bundle: str
    ids: list[str]
    effective_us: Times
    observed_us: Times
    bodies: list[bytes]
    answers: list[bytes]
    features: NDArray[np.float64] | None
    shadow: Shadow | None

    def take(self, rows: NDArray[np.bool_]) -> Decided:
        """Return the chosen rows, bool (N,), in their order."""
        places = np.flatnonzero(rows).tolist()
        return Decided(
            self.bundle,
            [self.ids[row] for row in places],
            self.effective_us[rows],
            self.observed_us[rows],
            [self.bodies[row] for row in places],
            [self.answers[row] for row in places],
            None if self.features is None else self.features[rows],
            None if self.shadow is None else Shadow(self.shadow.bundle, self.shadow.scores[rows]),
        )


def decided_since(engine: Engine, since_us: int) -> Iterator[Decided]:
    """Yield what was decided from an effective time on, in chunks; imported history is left out.

    What one bundle decided comes in order of arrival; beside a canary, chunks of the two take turns.

    Each part is read on its own, so that a writer and an archiving may go on meanwhile.

    Raises:
        LedgerError: It could not be read.
    """
    waiting: dict[_Kind, list[Decided]] = {}
    rows = 0
    for part in _parts(engine, since_us):
        recent = part.effective_us >= since_us
        if not recent.any():
            continue
        one = part if recent.all() else part.take(recent)
        kind = _kind(one)
        if rows >= CHUNK_ROWS or (kind not in waiting and len(waiting) == _KINDS_AT_ONCE):
            yield from map(_joined, waiting.values())
            waiting, rows = {}, 0
        waiting.setdefault(kind, []).append(one)
        rows += len(one.ids)
    yield from map(_joined, waiting.values())


def newest_us(engine: Engine) -> int | None:
    """Return the newest effective time of what is recorded and not archived, or was archived last; None of nothing.

    Raises:
        LedgerError: It could not be read.
    """
    with reading(engine) as connection:
        newest = connection.scalar(select(func.max(GROUPS.c.most_us)).where(GROUPS.c.bundle.is_not(None)))
        return archive_mark(connection).horizon_us if newest is None else int(newest)


def _parts(engine: Engine, since_us: int) -> Iterator[Decided]:
    position = 0
    query = _GROUPS.where(GROUPS.c.bundle.is_not(None), GROUPS.c.most_us >= since_us).order_by(GROUPS.c.first)
    while True:
        with reading(engine) as connection:
            groups = connection.execute(query.where(GROUPS.c.first > position).limit(_GROUPS_AT_ONCE)).all()
            mark = archive_mark(connection)  # read last: what is marked is deleted after
        if mark.last > position:
            yield from _archived(mark, position, since_us)
            position = mark.last
        elif groups:
            for group in groups:
                yield from _group(engine, group)
            position = groups[-1].first + groups[-1].count - 1
        else:
            return


def _group(engine: Engine, group: Row[*tuple[Any, ...]]) -> Iterator[Decided]:
    packed = opened(engine, group.first, group.payload)
    rows = range(len(packed))
    whole = Decided(
        str(group.bundle),
        [packed.id(row) for row in rows],
        packed.effective_us,
        np.full(len(packed), group.observed_us, dtype=np.int64),
        [packed.body(row) for row in rows],
        [packed.answer(row) or b"" for row in rows],
        packed.features,
        packed.shadow,
    )
    tried = packed.tried
    if tried is None:
        yield whole
        return
    if not tried.rows.all():
        yield whole.take(~tried.rows)
    yield whole.take(tried.rows)._replace(bundle=tried.bundle)


def _archived(mark: ArchiveMark, after: int, since_us: int) -> Iterator[Decided]:
    folder = Path(mark.folder)
    for file in archived.check(folder, mark.last):
        if file.first + file.rows - 1 <= after:
            continue
        wanted = (
            pl.col("seq").is_between(after + 1, mark.last)
            & (pl.col("effective_us") >= since_us)
            & pl.col("answer").is_not_null()
        )
        try:
            for frame in pl.scan_parquet(file.path).filter(wanted).collect_batches(chunk_size=CHUNK_ROWS):
                for part in frame.partition_by("bundle", "shadow_bundle", maintain_order=True):
                    yield _of_frame(part.sort("seq"))
        except (pl.exceptions.PolarsError, OSError) as error:
            raise LedgerError(
                "archive_failed", f"could not read {file.path}: {error}; restore it from a copy"
            ) from error


def _of_frame(frame: pl.DataFrame) -> Decided:
    features, challenger = frame["features"], frame["shadow_bundle"][0]
    shadow = None if challenger is None else Shadow(challenger, frame["shadow_score"].to_numpy().astype(np.float64))
    return Decided(
        frame["bundle"][0],
        frame["transaction_id"].to_list(),
        frame["effective_us"].to_numpy(),
        frame["observed_us"].to_numpy(),
        frame["body"].to_list(),
        frame["answer"].to_list(),
        None
        if features.null_count()
        else np.frombuffer(b"".join(features.to_list()), dtype="<f8").reshape(len(frame), -1),
        shadow,
    )


def _kind(one: Decided) -> _Kind:
    """Return what those have in common that can be joined."""
    challenger = None if one.shadow is None else one.shadow.bundle
    return one.bundle, challenger, None if one.features is None else one.features.shape[1]


def _joined(parts: Sequence[Decided]) -> Decided:
    if len(parts) == 1:
        return parts[0]
    features = [one.features for one in parts if one.features is not None]
    shadows = [one.shadow for one in parts if one.shadow is not None]
    return Decided(
        parts[0].bundle,
        [identifier for one in parts for identifier in one.ids],
        np.concatenate([one.effective_us for one in parts]),
        np.concatenate([one.observed_us for one in parts]),
        [body for one in parts for body in one.bodies],
        [answer for one in parts for answer in one.answers],
        np.concatenate(features) if features else None,
        Shadow(shadows[0].bundle, np.concatenate([one.scores for one in shadows])) if shadows else None,
    )
