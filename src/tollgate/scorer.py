"""THE path: transactions in, decisions out; the same for HTTP and streams, and its judge for files too."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from itertools import repeat
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from tollgate.admission import Admission, Admitted, Submission
from tollgate.commits import Commits
from tollgate.decision import Outcome
from tollgate.errors import ConflictError, LedgerError, TollgateError
from tollgate.features import Arrivals, Engine
from tollgate.judge import Judge, Judgement
from tollgate.label import Label, LabelResult
from tollgate.ledger import LEDGER_MOVED, Counts, Group, Ledger, Recorded
from tollgate.ledger import Shadow as ShadowScore
from tollgate.ledger import Tried as TriedRows
from tollgate.lines import Lines
from tollgate.recovery import Recovery
from tollgate.shadow import Shadow
from tollgate.steps import Call, Steps, Worker, run
from tollgate.transaction import Batch
from tollgate.trial import Trial, Tried

LOG = logging.getLogger(__name__)

Floats = NDArray[np.float64]
_ENCODE_LINES = msgspec.json.Encoder().encode_lines


class Decided(NamedTuple):
    """What came of some submissions.

    Attributes:
        results: For each submission its answers, JSON, or the error that refuses it.
        judgement: On those transactions that were decided now; None if there were none.
        stages_s: Seconds spent in parsing, features, model, policy and ledger.
        tried: What a canary decided of those transactions; None without a canary.
        champion: Content id of the bundle that decided the others.
        ids: Under which the transactions of all submissions, in order, are recorded.
    """

    results: list[list[bytes] | TollgateError]
    judgement: Judgement | None
    stages_s: tuple[float, float, float, float, float]
    tried: Tried | None = None
    champion: str = ""
    ids: Sequence[str] = ()


class Scorer:
    """Decides every transaction once: looks it up, observes it, judges it, records it.

    Not thread-safe: one thread decides.
    """

    def __init__(
        self,
        recovery: Recovery,
        judge: Judge,
        ledger: Ledger,
        admission: Admission,
        clock_us: Callable[[], int],
        deadline_s: float,
    ) -> None:
        """Make a scorer that has not caught up with its ledger yet; see `recover`.

        Args:
            recovery: Rebuilds the feature state.
            judge: The bundle at work.
            ledger: Where decisions become durable before they are answered.
            admission: Makes batches of what is submitted.
            clock_us: Observed time, microseconds since 1970-01-01 UTC.
            deadline_s: From the arrival of a transaction on; past it, it is decided without the model.
        """
        self._recovery = recovery
        self._judge = judge
        self._ledger = ledger
        self._admission = admission
        self._clock_us = clock_us
        self._deadline_s = deadline_s
        self._arrivals: Arrivals | None = None
        self._unlearned = False  # labels may be recorded that the features do not know of
        self._commits = Commits(ledger, self._count)
        # What is written does not hold up what is looked for.
        self._lookups = Worker("ledger lookups") if ledger.asks else None
        self.shadow: Shadow | None = None
        self.trial: Trial | None = None
        self.counts = dict.fromkeys(Outcome, 0)
        self.degraded = 0

    @property
    def judge(self) -> Judge:
        """The bundle at work."""
        return self._judge

    @property
    def bundle(self) -> str:
        """Content id of the bundle that decides."""
        return self._judge.bundle

    @property
    def ready(self) -> bool:
        """Whether the feature state has caught up with the ledger."""
        return self._arrivals is not None

    @property
    def engine(self) -> Engine:
        """The feature state.

        Raises:
            LedgerError: It has not caught up with the ledger.
        """
        return self._caught_up().engine

    def _caught_up(self) -> Arrivals:
        if self._arrivals is None:
            raise LedgerError("not_ready", "the feature state is being rebuilt from the ledger; try again shortly")
        return self._arrivals

    def recover(self, progress: Callable[[int, int], None] = lambda _done, _total: None) -> None:
        """Rebuild the feature state from the ledger: exactly what an uninterrupted run would have.

        Args:
            progress: Told how many of how many transactions are applied.
        """
        self._arrivals = None
        self._commits.clear()
        if self.shadow is not None and self.shadow.arrivals is not None:
            LOG.warning("the challenger %s has lost its features and is scored no more", self.shadow.bundle)
            self.shadow = None
        arrivals = self._recovery.recover(progress)
        # Compiled, or read from a cache, before somebody waits for it.
        arrivals.observe(self._admission.admit([]).batch)
        *outcomes, self.degraded = self._ledger.outcomes()
        self.counts = dict(zip(Outcome, outcomes, strict=True))
        self._arrivals, self._unlearned = arrivals, False

    def install(self, judge: Judge) -> None:
        """Let another bundle with the same features, or other lists and rules, decide from the next batch on."""
        self._judge = judge

    def install_with(self, judge: Judge, recovery: Recovery, arrivals: Arrivals) -> Steps[None]:
        """Let a bundle with other features decide from the next batch on.

        Args:
            judge: The bundle at work.
            recovery: Of its features.
            arrivals: Their state, up to some place in the ledger.

        Raises:
            LedgerError: The ledger cannot be read or written; the bundle before goes on.
        """
        yield from self._write()
        yield Call(partial(recovery.follow, arrivals))
        self._recovery, self._arrivals, self._judge = recovery, arrivals, judge
        self.trial = None  # its features are no longer computed

    def label(self, labels: Sequence[Label], by: str) -> Steps[list[LabelResult]]:
        """Record labels, durably, and have features move with them from the next transaction on.

        To be taken between two batches: a label comes after the transactions that are recorded then.

        Args:
            labels: In the order in which they came; a transaction_id as it was sent.
            by: Who records them.

        Returns:
            What became of each.

        Raises:
            LedgerError: The ledger or the feature state could not be used; the same labels may be sent again.
        """
        self._caught_up()
        if self._commits:
            yield Call(self._commits.write)
        known = [self._admission.as_recorded(one) for one in labels]
        self._unlearned = True  # a ledger that fails to say that labels are durable may hold them all the same
        results: list[LabelResult] = yield Call(partial(self._ledger.add_labels, known, by, self._clock_us()))
        yield from self._learn()
        return results

    def _learn(self) -> Steps[None]:
        yield Call(partial(self._recovery.learn, self._caught_up()))
        if self.shadow is not None and self.shadow.arrivals is not None:
            yield Call(partial(self._recovery.learn, self.shadow.arrivals))
        self._unlearned = False

    def close(self) -> None:
        """Save the feature state, so that the next start is fast."""
        if self._arrivals is not None and not self._commits:
            self._recovery.save(self._arrivals)
            self._arrivals.engine.close()

    def decide(self, submissions: Sequence[Submission]) -> Decided:
        """Return what `steps` returns, waiting here for the model and the ledger."""
        return run(self.steps(submissions))

    def steps(self, submissions: Sequence[Submission]) -> Steps[Decided]:
        """Decide what was submitted, in order, with one durable commit.

        A transaction that was decided before gets that answer again and moves no counter. A submission with an id that
        is known under another body is refused whole.

        Raises:
            LedgerError: The ledger or the feature state could not be used; nothing is acknowledged. What was decided
                and could not be recorded is recorded before anything else is decided, so that the same request, sent
                again, finds its answer.
            CapacityError: The feature state is full; nothing was decided or counted.
        """
        begun = time.perf_counter()
        self._caught_up()
        if self._commits.refused:
            yield from self._write()
        if self._unlearned:
            yield from self._learn()
        admitted = self._admission.admit(submissions)
        if self._commits.holds(admitted.batch.ids):
            yield from self._write()  # then the ledger knows them
        hashes = self._ledger.hashes(admitted.batch.ids)
        known = yield from self._known(admitted.batch.ids, hashes)
        refused: dict[int, TollgateError] = dict(admitted.refused)
        fresh = self._fresh(submissions, admitted, known, refused)
        answers: dict[str, bytes] = {}
        judgement = tried = None
        parsed = observed = judged = time.perf_counter()
        if fresh is None or len(fresh):
            batch = admitted.batch if fresh is None else admitted.batch.take(fresh)
            bodies = admitted.bodies if fresh is None else [admitted.bodies[row] for row in fresh.tolist()]
            features = (yield Call(partial(self._observe, batch))) if self.engine.remote else self._observe(batch)
            lacking = self.engine.lacked()
            observed = time.perf_counter()
            judgement, tried = yield from self._judged(submissions, admitted, batch, fresh, features, lacking)
            shadow = None if self.shadow is None else (yield from self.shadow.scores(batch, features, lacking))
            judged = time.perf_counter()
            decisions = judgement.decisions(batch, self._bundles(len(batch), tried))
            made = Lines(_ENCODE_LINES(decisions))
            group = self._group(batch, bodies, made, features, judgement, shadow, tried)
            commit = self._commits.add(group, hashes if fresh is None else hashes[fresh], self._engines())
            yield from self._write(overlaps=True)
            answers = dict(zip(batch.ids, made, strict=True))
            if commit.known:  # another process was first
                known = {**known, **commit.known}
                answers = {one: answer for one, answer in answers.items() if one not in known}
                self._refuse_others(submissions, admitted, commit.known, refused)
        results = self._results(submissions, admitted, known, refused, answers)
        done = time.perf_counter()
        model_s, policy_s = (0.0, 0.0) if judgement is None else (judgement.model_s, judgement.policy_s)
        stages_s = (parsed - begun, observed - parsed, model_s, policy_s, done - judged)
        return Decided(results, judgement, stages_s, tried, self._judge.bundle, admitted.batch.ids)

    def _engines(self) -> list[Engine]:
        """Return what has counted what is decided now."""
        beside = None if self.shadow is None else self.shadow.arrivals
        return [self.engine] if beside is None else [self.engine, beside.engine]

    def _bundles(self, count: int, tried: Tried | None) -> Iterable[str]:
        """Return who decided each of N transactions."""
        if tried is None:
            return repeat(self._judge.bundle, count)
        return [tried.bundle if by_canary else self._judge.bundle for by_canary in tried.rows.tolist()]

    def _known(self, ids: Sequence[str], hashes: NDArray[np.uint64]) -> Steps[Mapping[str, Recorded]]:
        find = partial(self._ledger.find, ids, hashes)
        return (yield Call(find, self._lookups)) if self._ledger.asks else find()

    def _write(self, *, overlaps: bool = False) -> Steps[None]:
        try:
            yield Call(self._commits.write, overlaps=overlaps)
        except LedgerError as error:
            if error.code == LEDGER_MOVED:
                self._arrivals = None  # others have recorded what these features have not counted
            raise

    def _refuse_others(
        self,
        submissions: Sequence[Submission],
        admitted: Admitted,
        known: Mapping[str, Recorded],
        refused: dict[int, TollgateError],
    ) -> None:
        """Add to `refused` what another process has recorded under another body meanwhile."""
        ids, starts = admitted.batch.ids, admitted.starts
        bodies = {identifier: recorded.body for identifier, recorded in known.items()}
        for s, one in enumerate(submissions):
            for row in range(starts[s], starts[s + 1]):
                error = self._contradiction(ids[row], admitted.bodies[row], bodies, known)
                if error is not None and s not in refused:
                    place = row - starts[s] if one.many else None
                    refused[s] = ConflictError(error.code, error.message, row=place)

    def _fresh(
        self,
        submissions: Sequence[Submission],
        admitted: Admitted,
        known: Mapping[str, Recorded],
        refused: dict[int, TollgateError],
    ) -> NDArray[np.int64] | None:
        """Return the rows that are decided now, None for all, and add to `refused` what contradicts the record."""
        ids, starts = admitted.batch.ids, admitted.starts
        horizon_us = self._ledger.horizon_us
        archived = horizon_us is not None and bool((admitted.batch.time_us <= horizon_us).any())
        if not (known or refused or archived) and len(set(ids)) == len(ids):
            return None
        fresh: list[int] = []
        bodies = {identifier: recorded.body for identifier, recorded in known.items()}
        for s, one in enumerate(submissions):
            if s in refused:
                continue
            rows: list[int] = []
            for row in range(starts[s], starts[s + 1]):
                error = self._contradiction(ids[row], admitted.bodies[row], bodies, known)
                if error is None and ids[row] not in bodies:
                    if horizon_us is not None and admitted.batch.time_us[row] <= horizon_us:
                        error = ConflictError(
                            "archived_transaction",
                            f"{ids[row]!r} is as old as what was archived, so that it cannot be told whether it came "
                            "before; send it while it is newer",
                        )
                    rows.append(row)
                if error is not None:
                    place = row - starts[s] if one.many else None
                    refused[s] = ConflictError(error.code, error.message, row=place)
                    break
            else:
                bodies.update((ids[row], admitted.bodies[row]) for row in rows)
                fresh += rows
        return np.array(fresh, dtype=np.int64)

    def _contradiction(
        self, identifier: str, body: bytes, bodies: Mapping[str, bytes], known: Mapping[str, Recorded]
    ) -> ConflictError | None:
        if bodies.get(identifier, body) != body:
            return ConflictError(
                "conflicting_transaction",
                f"transaction_id {identifier!r} came before with other fields; send a new transaction under an id of "
                "its own",
            )
        if identifier in known and known[identifier].answer is None:
            return ConflictError("imported_transaction", f"{identifier!r} was imported as history and not decided")
        return None

    def _observe(self, batch: Batch) -> Floats:
        arrivals = self._caught_up()
        try:
            return arrivals.observe(batch)
        except BaseException:
            self._arrivals = None  # with labels in between, a part of the batch may have been applied
            raise

    def _judged(
        self,
        submissions: Sequence[Submission],
        admitted: Admitted,
        batch: Batch,
        fresh: NDArray[np.int64] | None,
        features: Floats,
        lacking: tuple[str, ...],
    ) -> Steps[tuple[Judgement, Tried | None]]:
        now_s = time.monotonic()
        ends_s = [one.arrived_s + self._deadline_s for one in submissions]
        late = None
        if min(ends_s) <= now_s:
            sizes = np.diff(admitted.starts)
            late = np.repeat(np.array(ends_s) <= now_s, sizes)
            late = late if fresh is None else late[fresh]
            within_s = max(ends_s) - now_s
        else:
            within_s = min(ends_s) - now_s
        try:
            if self.trial is None:
                judge = self._judge.judge
                return (yield from judge(batch, features, self._clock_us(), within_s, late, lacking)), None
            decide = self.trial.decide
            return (yield from decide(self._judge, batch, features, self._clock_us(), within_s, late, lacking))
        except BaseException:
            self._arrivals = None  # the features have counted what is not recorded
            raise

    def _group(
        self,
        batch: Batch,
        bodies: Sequence[bytes],
        answers: Sequence[bytes],
        features: Floats,
        judgement: Judgement,
        shadow: ShadowScore | None,
        tried: Tried | None,
    ) -> Group:
        counts = np.bincount(judgement.outcomes, minlength=len(Outcome)).tolist()
        return Group(
            ids=batch.ids,
            effective_us=batch.time_us,
            observed_us=self._clock_us(),
            bodies=bodies,
            answers=answers,
            features=features,
            bundle=self._judge.bundle,
            counts=Counts._make([*counts, sum(judgement.degraded.values())]),
            shadow=shadow,
            tried=TriedRows(tried.bundle, tried.rows) if tried is not None and tried.rows.any() else None,
        )

    def _count(self, group: Group) -> None:
        *outcomes, degraded = group.counts
        for outcome, count in zip(Outcome, outcomes, strict=True):
            self.counts[outcome] += count
        self.degraded += degraded

    def _results(
        self,
        submissions: Sequence[Submission],
        admitted: Admitted,
        known: Mapping[str, Recorded],
        refused: Mapping[int, TollgateError],
        answers: Mapping[str, bytes],
    ) -> list[list[bytes] | TollgateError]:
        ids, starts = admitted.batch.ids, admitted.starts
        if not known and not refused and len(ids) == len(submissions):
            return [[answers[identifier]] for identifier in ids]
        results: list[list[bytes] | TollgateError] = []
        for s in range(len(submissions)):
            if s in refused:
                results.append(refused[s])
            else:
                results.append([answers.get(i) or _answer(known[i]) for i in ids[starts[s] : starts[s + 1]]])
        return results


def _answer(recorded: Recorded) -> bytes:
    assert recorded.answer is not None
    return recorded.answer
