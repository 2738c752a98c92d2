"""Rules and what they did, as tables for a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
from rich.table import Table
from rich.text import Text

from tollgate.backtest import Backtest, Tally
from tollgate.decision import Outcome
from tollgate.rules import Rule, RuleSet


class Trial(msgspec.Struct, frozen=True):
    """On what one rule holds.

    Attributes:
        hits: How many transactions.
        share: Of all transactions.
        examples: Ids of the first of them.
    """

    name: str
    mode: str
    action: Outcome
    hits: int
    share: float
    examples: tuple[str, ...]


def rules_table(rule_set: RuleSet) -> Table:
    """Return a rule set, one rule a row."""
    table = _table(f"{len(rule_set.rules)} rules", ("rule", "mode", "action", "when", "a minute", "expires", "reason"))
    for rule in rule_set.rules:
        _add(table, rule.name, rule.mode.value, rule.action.value, rule.when, _limit(rule), _expires(rule), rule.reason)
    return table


def trials_table(trials: Sequence[Trial], total: int) -> Table:
    """Return on how many of `total` transactions each rule holds, and on which for example."""
    table = _table(f"{total:,} transactions", ("rule", "mode", "action"), ("hits", "share"))
    table.add_column("for example", overflow="fold")
    for one in trials:
        _add(table, one.name, one.mode, one.action.value, f"{one.hits:,}", f"{one.share:.3%}", ", ".join(one.examples))
    return table


def backtest_tables(found: Backtest, currency: str) -> tuple[Table, Table]:
    """Return the policy before and after, and each rule by itself."""
    return _matrices(found, currency), _worths(found, currency)


def _matrices(found: Backtest, currency: str) -> Table:
    table = _table(
        f"{found.transactions:,} transactions, {found.frauds:,} of them fraud",
        ("outcome",),
        ("frauds before", "after", "good before", "after", f"fraud {currency} before", "after"),
    )
    for outcome in Outcome:
        before, after = found.before[outcome], found.after[outcome]
        pairs = ((before.frauds, after.frauds), (before.good, after.good), (before.fraud_value, after.fraud_value))
        _add(table, outcome.value, *(f"{value:,.0f}" for pair in pairs for value in pair))
    stopped = (_stopped(found.before), _stopped(found.after))
    precision = " to ".join(_share(one.precision) for one in stopped)
    table.caption = f"precision of what is reviewed or blocked: {precision}"
    table.caption_justify = "left"
    return table


def _stopped(matrix: Mapping[Outcome, Tally]) -> Tally:
    held = [matrix[one] for one in Outcome if one is not Outcome.APPROVE]
    return Tally(
        sum(one.hits for one in held),
        sum(one.frauds for one in held),
        sum(one.fraud_value for one in held),
        sum(one.good_value for one in held),
    )


def _worths(found: Backtest, currency: str) -> Table:
    table = _table(
        "Each rule alone, and what it adds to the thresholds",
        ("rule", "mode", "action"),
        ("hits", "frauds", "good", "precision", f"fraud {currency}", "added hits", "frauds", "good", "precision",
         f"fraud {currency}", "over limit"),
    )  # fmt: skip
    for one in found.rules:
        cells = [*_cells(one.alone), *_cells(one.added), f"{one.limited:,}" if one.limited else ""]
        _add(table, one.name, one.mode, one.action.value, *cells)
    return table


def _cells(tally: Tally) -> tuple[str, ...]:
    return (
        f"{tally.hits:,}", f"{tally.frauds:,}", f"{tally.good:,}", _share(tally.precision), f"{tally.fraud_value:,.0f}"
    )  # fmt: skip


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"


def _limit(rule: Rule) -> str:
    return "" if rule.limit is None else str(rule.limit)


def _expires(rule: Rule) -> str:
    return "" if rule.expires is None else rule.expires.isoformat(" ")


def _table(title: str, words: Sequence[str], numbers: Sequence[str] = ()) -> Table:
    table = Table(title=title, title_justify="left")
    for heading in words:
        table.add_column(heading, overflow="fold")
    for heading in numbers:
        table.add_column(heading, justify="right")
    return table


def _add(table: Table, *cells: str) -> None:
    """Add a row of plain texts: what people wrote is not markup."""
    table.add_row(*map(Text, cells))
