"""From score to outcome: lists, rules and thresholds, and what happens when there is no score.

What counts, from the strongest down:

1. A payment with an entry of a block list is blocked.
2. Any other with an entry of an allow list is approved.
3. Any other on which a live block rule holds is blocked.
4. Any other on which a live approve rule holds is approved.
5. Every other gets the more severe of what the thresholds say and, where a live review rule holds, a review; without a
   score the fallback stands in place of the thresholds.

A share of the payments that the thresholds would block may be let through as a hold-out: the thresholds then say
approve, and what is stronger than they goes on to count. Which ones follows from a keyed hash of the id.

A rule that has decided as many payments in a minute as its limit allows acts as a shadow rule until the minute is over.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from tollgate.config import PolicyConfig
from tollgate.decision import Outcome, Reason
from tollgate.hashing import HashKey, text_hashes
from tollgate.lists import NOWHERE, Lists
from tollgate.rules import RateLimits, Rule, RuleMode, Rules
from tollgate.transaction import Batch

OUTCOMES = tuple(Outcome)  # from the mildest to the most severe: a level is a place in it
_APPROVE, _REVIEW, _BLOCK = (OUTCOMES.index(one) for one in (Outcome.APPROVE, Outcome.REVIEW, Outcome.BLOCK))
LIMITED = "limited"  # a live rule that was over its limit
HOLDOUT = Reason("holdout", "let through by chance, to learn what would be blocked")
_HASHES = 2.0**64  # how many hashes there are

_NO_ROWS = np.empty(0, dtype=np.int64)

Levels = NDArray[np.int8]
Times = int | NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the policy says of N transactions.

    Attributes:
        outcomes: int8 (N,), places in `tuple(Outcome)`.
        degraded: Which had no score, bool (N,).
        reasons: Of the transactions that a list or a rule decided or raised: what it was.
        rule_hits: On how many transactions each rule held, by its name and `live`, `shadow` or, beyond its limit,
            `limited`.
        list_hits: How many transactions had an entry, by list and column.
    """

    outcomes: Levels
    degraded: NDArray[np.bool_]
    reasons: Mapping[int, tuple[Reason, ...]] = field(default_factory=dict)
    rule_hits: Mapping[tuple[str, str], int] = field(default_factory=dict)
    list_hits: Mapping[tuple[str, str], int] = field(default_factory=dict)


class Policy:
    """The thresholds of one bundle, with the lists and rules of the moment.

    It does not change but for how much of their limits the rules have used. Not thread-safe: one thread decides.

    Attributes:
        config: The thresholds and the fallback.
        limits: How much of their limits the rules have used.
    """

    def __init__(
        self,
        config: PolicyConfig,
        rules: Rules | None = None,
        lists: Lists | None = None,
        holdout_key: HashKey | None = None,
    ) -> None:
        """Make a policy.

        Args:
            config: The thresholds and the fallback.
            rules: Compiled for the features that `judge` will get.
            lists: Of the schema of the batches that it will get.
            holdout_key: Secret that says which payments are held out; without it none is.
        """
        self.config = config
        self._holdout_key = holdout_key if config.holdout > 0 else None
        self._thresholds = np.array([config.review, config.block])
        self._fallback = OUTCOMES.index(config.fallback)
        self._rules = rules if rules is not None and rules.rules else None
        self._lists = lists if lists is not None and lists.entries else None
        self.limits = RateLimits()

    def succeed(self, before: Policy) -> None:
        """Take the place of another policy: what its rules have used of their limits is used."""
        self.limits = before.limits.copy()

    def judge(self, batch: Batch, features: Floats, scores: Floats | None, now_us: Times) -> Verdict:
        """Return the outcomes of N transactions, and what lists and rules had to do with them.

        Args:
            batch: The transactions, in order of arrival.
            features: float64 (N, F), of the plan that the rules were compiled for.
            scores: Calibrated probabilities, float64 (N,); NaN, or None for all, is without a score. A score at a
                threshold is over it.
            now_us: Observed time, microseconds since 1970-01-01 UTC: lists and rules expire by it, and the rules'
                minutes are its. A file hands over the effective time of each transaction, int64 (N,).
        """
        if scores is None:
            scores = np.full(len(batch.time_us), np.nan)
        levels = self._thresholds.searchsorted(scores, side="right").astype(np.int8)
        degraded = np.isnan(scores)
        if degraded.any():
            levels[degraded] = self._fallback
        held_out = self._hold_out(batch, levels, degraded)
        if self._lists is None and self._rules is None and not held_out.size:
            return Verdict(levels, degraded)
        docket = _Docket(levels, degraded)
        if self._lists is not None:
            docket.apply_lists(self._lists, batch, now_us)
        if self._rules is not None:
            held = self._rules.hold(batch, features, scores, now_us)
            docket.apply_rules(self._rules.rules, held, self.limits, now_us)
        docket.mark_held_out(held_out)
        return docket.verdict()

    def _hold_out(self, batch: Batch, levels: Levels, degraded: NDArray[np.bool_]) -> NDArray[np.int64]:
        """Let some of what the score blocks through, in place; return which rows."""
        rows = np.flatnonzero((levels == _BLOCK) & ~degraded) if self._holdout_key is not None else _NO_ROWS
        if self._holdout_key is None or not rows.size:
            return _NO_ROWS
        # The prefix keeps these apart from the keys of entities, which are hashed under the same secret.
        hashes = text_hashes([f"holdout {batch.ids[row]}" for row in rows.tolist()], self._holdout_key)
        chosen: NDArray[np.int64] = rows[hashes / _HASHES < self.config.holdout]
        levels[chosen] = _APPROVE
        return chosen

    def over_threshold(self, score: float, outcome: Outcome) -> Reason:
        """Return the reason that stands where no feature explains the score."""
        limit = self.config.block if outcome is Outcome.BLOCK else self.config.review
        return Reason(f"score_{outcome}", f"the score {score:.2f} is at or above {limit:.2f}")

    def without_score(self, why: str) -> Reason:
        """Return the reason that stands where there is no score; `why` is the code of the error."""
        return Reason("model_unavailable", f"decided without the model: {why}")


class _Docket:
    """A batch while it is judged."""

    def __init__(self, levels: Levels, degraded: NDArray[np.bool_]) -> None:
        self._levels = levels
        self._degraded = degraded
        self._open = np.ones(levels.shape, dtype=np.bool_)  # what nothing stronger has decided
        self._reasons: dict[int, tuple[Reason, ...]] = {}
        self._rule_hits: Counter[tuple[str, str]] = Counter()
        self._list_hits: Mapping[tuple[str, str], int] = {}

    def verdict(self) -> Verdict:
        return Verdict(self._levels, self._degraded, self._reasons, self._rule_hits, self._list_hits)

    def apply_lists(self, lists: Lists, batch: Batch, now_us: Times) -> None:
        found = lists.hits(batch, now_us)
        self._list_hits = found.counts
        if not found.counts:
            return
        for places, level in ((found.block, _BLOCK), (found.allow, _APPROVE)):
            rows = np.flatnonzero((places != NOWHERE) & self._open)
            for row in rows.tolist():
                entry = lists.entries[places[row]]
                text = f"{entry.column} is on the {entry.list} list: {entry.reason}"
                self._add(row, Reason(f"list_{entry.list}", text))
            self._close(rows, level)

    def apply_rules(self, rules: tuple[Rule, ...], held: NDArray[np.bool_], limits: RateLimits, now_us: Times) -> None:
        counts = np.count_nonzero(held, axis=0)
        hit = np.flatnonzero(counts).tolist()
        for place in hit:
            self._rule_hits[(rules[place].name, str(rules[place].mode))] = int(counts[place])
        live = [place for place in hit if rules[place].mode == RuleMode.LIVE]
        for level in (_BLOCK, _APPROVE, _REVIEW):
            mine = [place for place in live if rules[place].action == OUTCOMES[level]]
            if not mine:
                continue
            # A review does nothing where the thresholds block.
            candidates = self._open if level != _REVIEW else self._open & (self._levels != _BLOCK)
            taken = [self._take(rules[place], held[:, place] & candidates, limits, now_us) for place in mine]
            self._close(np.unique(np.concatenate(taken)), level)

    def mark_held_out(self, rows: NDArray[np.int64]) -> None:
        """Give those of these rows their reason that nothing stronger has decided."""
        for row in rows[self._open[rows]].tolist():
            self._add(row, HOLDOUT)

    def _take(self, rule: Rule, holds: NDArray[np.bool_], limits: RateLimits, now_us: Times) -> NDArray[np.int64]:
        """Return the rows that a rule decides, and note that it does."""
        rows = np.flatnonzero(holds)
        allowed = limits.take(rule.name, rule.limit, rows, now_us)
        taken: NDArray[np.int64] = rows[allowed]
        over = int(rows.size - taken.size)
        if over:
            self._rule_hits[(rule.name, LIMITED)] += over
            self._rule_hits[(rule.name, RuleMode.LIVE.value)] -= over
        reason = Reason(f"rule_{rule.name}", rule.reason)
        for row in taken.tolist():
            self._add(row, reason)
        return taken

    def _add(self, row: int, reason: Reason) -> None:
        self._reasons[row] = (*self._reasons.get(row, ()), reason)

    def _close(self, rows: NDArray[np.int64], level: int) -> None:
        self._levels[rows] = level
        self._open[rows] = False
