"""What a rule set would have done to labelled history: each rule by itself, and the policy before and after it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from tollgate.decision import Outcome
from tollgate.errors import InputError
from tollgate.features import NOT_FRAUD, Arrivals, FeatureEngine
from tollgate.files import Chunk, Transactions
from tollgate.policy import LIMITED, OUTCOMES, Policy
from tollgate.rules import Rule, Rules

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Score = Callable[[Floats], tuple[Floats, Floats]]


class Scored(NamedTuple):
    """The next N transactions of a file.

    Attributes:
        features: float64 (N, F).
        scores: float64 (N,).
    """

    chunk: Chunk
    features: Floats
    scores: Floats


def scored(file: Transactions, engine: FeatureEngine, score: Score) -> Iterator[Scored]:
    """Yield a file as the model sees it, each transaction with the history before it.

    Args:
        file: Where it was opened with labels, they move features once they are known.
        engine: Without history, or with the one that the file continues; it is moved on.
        score: Of a bundle, see `Judge.score`.
    """
    arrivals = Arrivals(engine)
    for chunk in file.chunks():
        known = None
        if chunk.is_fraud is not None and chunk.available_us is not None:
            known = np.where(chunk.is_fraud, chunk.available_us, NOT_FRAUD)
        features = arrivals.observe(chunk.batch, known)
        yield Scored(chunk, features, score(features)[0])


class Tally(msgspec.Struct, frozen=True):
    """What some transactions are.

    Attributes:
        hits: How many.
        frauds: How many of them are fraud; the others are good.
        fraud_value: Of the frauds, in major units of the base currency.
        good_value: Of the others.
    """

    hits: int = 0
    frauds: int = 0
    fraud_value: float = 0.0
    good_value: float = 0.0

    @property
    def good(self) -> int:
        """How many of them are good."""
        return self.hits - self.frauds

    @property
    def precision(self) -> float | None:
        """Share of them that is fraud; None of nothing."""
        return self.frauds / self.hits if self.hits else None


class RuleWorth(msgspec.Struct, frozen=True):
    """What one rule does.

    Attributes:
        alone: On all that it holds on.
        added: On that part of it which the thresholds alone would treat otherwise: less severely than a rule that
            reviews or blocks, not let through where it approves. This is what the rule is for.
        limited: Payments that it would have decided and did not, being over its limit.
    """

    name: str
    mode: str
    action: Outcome
    alone: Tally
    added: Tally
    limited: int


class Backtest(msgspec.Struct, frozen=True):
    """A rule set over labelled history.

    Attributes:
        transactions: How many.
        frauds: How many of them are fraud.
        trained_on: How many lie in the period on which the model was trained: it scores those better than it will
            others.
        before: What gets each outcome as things are.
        after: The same with the rule set.
        rules: In the order of the set, those that are off left out.
    """

    transactions: int
    frauds: int
    trained_on: int
    before: dict[Outcome, Tally]
    after: dict[Outcome, Tally]
    rules: tuple[RuleWorth, ...]


class _Rows(NamedTuple):
    """N transactions and what was said of them: places in `OUTCOMES`, int8 (N,), and where rules held, bool (N, R)."""

    is_fraud: Bools
    amount: Floats
    time_us: NDArray[np.int64]
    plain: NDArray[np.int8]
    before: NDArray[np.int8]
    after: NDArray[np.int8]
    held: Bools


def backtest(
    rows: Iterator[Scored],
    rules: Rules,
    before: Policy,
    after: Policy,
    trained_us: tuple[int, int],
    money_scale: float,
    progress: Callable[[int], None] = lambda _rows: None,
) -> Backtest:
    """Return what a rule set would have done.

    Both policies go by effective time: what had expired then does not count, and the minutes of a rule's limit
    are minutes of it.

    Args:
        rows: Of a file that was opened with labels, as `scored` yields them.
        rules: The rule set, compiled.
        before: The policy as it is; its limits are used up as it goes.
        after: The policy with the rule set; likewise.
        trained_us: When the training period of the model began and ended, microseconds since 1970-01-01 UTC.
        money_scale: Minor units in one unit of the base currency.
        progress: Told how many rows were read since the last call.

    Raises:
        InputError: No row could be used.
    """
    thresholds = Policy(before.config)
    parts: list[_Rows] = []
    limited: Counter[str] = Counter()
    for chunk, features, scores in rows:
        batch = chunk.batch
        assert chunk.is_fraud is not None
        plain, old, new = (
            policy.judge(batch, features, scores, batch.time_us) for policy in (thresholds, before, after)
        )
        limited.update({name: hits for (name, mode), hits in new.rule_hits.items() if mode == LIMITED})
        held = rules.hold(batch, features, scores, batch.time_us)
        amount = batch.value("amount") / money_scale
        outcomes = (plain.outcomes, old.outcomes, new.outcomes)
        parts.append(_Rows(chunk.is_fraud, amount, batch.time_us, *outcomes, held))
        progress(len(batch) + len(chunk.rejected))
    if not any(len(part.is_fraud) for part in parts):
        raise InputError("no_rows", "expected labelled transactions to test rules on, but no row could be used")
    whole = _Rows(*(np.concatenate(column) for column in zip(*parts, strict=True)))
    inside = (whole.time_us >= trained_us[0]) & (whole.time_us < trained_us[1])
    return Backtest(
        len(whole.is_fraud),
        int(np.count_nonzero(whole.is_fraud)),
        int(np.count_nonzero(inside)),
        _matrix(whole, whole.before),
        _matrix(whole, whole.after),
        tuple(_worth(whole, place, rule, limited[rule.name]) for place, rule in enumerate(rules.rules)),
    )


def _matrix(rows: _Rows, levels: NDArray[np.int8]) -> dict[Outcome, Tally]:
    return {outcome: _tally(rows, levels == level) for level, outcome in enumerate(OUTCOMES)}


def _worth(rows: _Rows, place: int, rule: Rule, limited: int) -> RuleWorth:
    held, level = rows.held[:, place], OUTCOMES.index(rule.action)
    changed = rows.plain > level if rule.action is Outcome.APPROVE else rows.plain < level
    return RuleWorth(rule.name, rule.mode.value, rule.action, _tally(rows, held), _tally(rows, held & changed), limited)


def _tally(rows: _Rows, chosen: Bools) -> Tally:
    frauds, good = chosen & rows.is_fraud, chosen & ~rows.is_fraud
    return Tally(
        int(np.count_nonzero(chosen)),
        int(np.count_nonzero(frauds)),
        float(np.nansum(rows.amount[frauds])),
        float(np.nansum(rows.amount[good])),
    )
