"""`tollgate rules`: check, try, back-test, publish and show a rule set."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import msgspec
import numpy as np
import typer
from rich.progress import Progress

from tollgate.backtest import Scored, backtest, scored
from tollgate.bundle import Bundle
from tollgate.cli.actor import ByOption, actor_of
from tollgate.cli.rule_tables import Trial, backtest_tables, rules_table, trials_table
from tollgate.cli.wiring import (
    ERR,
    OUT,
    BundleOption,
    ConfigOption,
    hash_key,
    lists_of,
    now_us,
    open_bundle,
    open_config,
    open_file,
    plan_of,
    policy_of,
    progress_bar,
    report_rejected,
    rule_set_of,
    runtime_of,
    score_of,
)
from tollgate.config import Config
from tollgate.control import AuditRecord
from tollgate.errors import EXIT_PARTIAL, ConfigError
from tollgate.features import FeatureEngine
from tollgate.files import Rejected, Transactions
from tollgate.intake import TransactionReader
from tollgate.ledger.controls import Controls
from tollgate.policy import Policy
from tollgate.rules import RuleMode, RuleSet, compile_rules, read_rules

rules = typer.Typer(name="rules", help="Rules: check, test, backtest, publish, show.", no_args_is_help=True)

_BACKTESTED = "rules.backtest"
_LOOKED_BACK = 1000  # changes, among which a back-test is looked for: an older one is of another time
_EXAMPLES = 3  # transaction ids a rule

FileArgument = Annotated[Path, typer.Argument(metavar="FILE", help="Rules: .toml or .json.", show_default=False)]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@rules.command()
def check(file: FileArgument, config: ConfigOption = None, bundle: BundleOption = None) -> None:
    """Read a file of rules and compile it for the features of the champion."""
    rule_set = read_rules(file)
    chosen = open_bundle(open_config(config), bundle)
    compile_rules(rule_set, plan_of(chosen))
    counts = ", ".join(f"{_count(rule_set, mode)} {mode}" for mode in RuleMode)
    OUT.print(f"{file}: {len(rule_set.rules)} rules ({counts}) compile for bundle {chosen.id}", **_LINE)


@rules.command("test")
def try_rules(
    file: FileArgument,
    data: Annotated[Path, typer.Argument(help="Transactions in order of time.", show_default=False)],
    as_json: JsonOption = False,
    config: ConfigOption = None,
    bundle: BundleOption = None,
) -> None:
    """Show on which transactions of a file each rule holds, those in shadow too; no labels are needed."""
    replay = _Replay.of(open_config(config), bundle, data)
    compiled = compile_rules(read_rules(file), plan_of(replay.bundle))
    total, hits = 0, np.zeros(len(compiled.rules), dtype=np.int64)
    examples: list[list[str]] = [[] for _ in compiled.rules]
    with progress_bar() as progress:
        for chunk, features, scores in replay.rows(progress):
            batch = chunk.batch
            held = compiled.hold(batch, features, scores, batch.time_us)
            total += len(batch)
            hits += held.sum(axis=0)
            for place, found in enumerate(examples):
                rows = np.flatnonzero(held[:, place])[: _EXAMPLES - len(found)]
                found += [batch.ids[row] for row in rows.tolist()]
    trials = [
        Trial(rule.name, rule.mode.value, rule.action, count, count / total if total else 0.0, tuple(found))
        for rule, count, found in zip(compiled.rules, hits.tolist(), examples, strict=True)
    ]
    if as_json:
        typer.echo(msgspec.json.encode({"transactions": total, "rules": trials}))
    else:
        OUT.print(trials_table(trials, total))
    replay.finish(data)


@rules.command("backtest")
def run_backtest(
    file: FileArgument,
    data: Annotated[Path, typer.Argument(help="Labelled transactions in order of time.", show_default=False)],
    as_json: JsonOption = False,
    by: ByOption = None,
    config: ConfigOption = None,
    bundle: BundleOption = None,
) -> None:
    """Show what the rules would have done to labelled history, alone and in place of those that are published.

    That it was done is recorded in the audit trail: 'publish' asks for it.
    """
    settings = open_config(config)
    replay = _Replay.of(settings, bundle, data, labelled=True)
    rule_set, manifest = read_rules(file), replay.bundle.manifest
    compiled = compile_rules(rule_set, plan_of(replay.bundle))
    with Controls(settings.ledger.url) as controls, progress_bar() as progress:
        entries = controls.entries()
        before = policy_of(replay.bundle, replay.reader, entries, controls.rules())
        after = Policy(manifest.policy, compiled, lists_of(entries, replay.reader))
        training = (manifest.training.start_us, manifest.training.end_us)
        found = backtest(replay.rows(progress), compiled, before, after, training, manifest.money.scale)
        controls.note(
            actor_of(by), _BACKTESTED, _version_of(rule_set), now_us(), digest=rule_set.digest, bundle=replay.bundle.id,
            transactions=found.transactions, frauds=found.frauds,
        )  # fmt: skip
    if as_json:
        typer.echo(msgspec.json.encode(found))
    else:
        for table in backtest_tables(found, manifest.money.currency):
            OUT.print(table)
    if found.trained_on:
        ERR.print(
            f"[yellow]{found.trained_on} of {found.transactions} transactions lie in the period that the model was "
            "trained on[/yellow]: it scores them better than it will score others, so rules look less useful there",
            soft_wrap=True,
        )
    replay.finish(data)


@rules.command()
def publish(
    file: FileArgument,
    force: Annotated[bool, typer.Option("--force", help="Publish live rules without a back-test of them.")] = False,
    by: ByOption = None,
    config: ConfigOption = None,
) -> None:
    """Make a file the rule set that counts, in place of the one before. Running servers take it within a second.

    New or changed live rules need a back-test of this very file for the champion, or --force, which the audit trail
    shows. Rules in shadow mode or off need none: trying them is what the mode is for.
    """
    settings = open_config(config)
    rule_set, champion = read_rules(file), open_bundle(settings, None)
    compile_rules(rule_set, plan_of(champion))
    with Controls(settings.ledger.url) as controls:
        old = rule_set_of(controls.rules())
        acting = [one.name for one in rule_set.rules if one.mode is RuleMode.LIVE and old.find(one.name) != one]
        tested = any(_is_test_of(rule_set, champion, record) for record in controls.audit(_LOOKED_BACK))
        if acting and not tested and not force:
            raise ConfigError(
                "not_backtested",
                f"expected a back-test of {file} for the champion, since these rules will act: {', '.join(acting)}; "
                f"run 'tollgate rules backtest {file} DATA', set them to shadow, or use --force where there is no time",
            )
        detail = {"digest": rule_set.digest, "bundle": champion.id, "backtested": tested, "forced": force}
        version = controls.put_rules(rule_set.encode(), actor_of(by), now_us(), **detail)
    OUT.print(f"published version {version}: {_changes(old, rule_set)}", **_LINE)


@rules.command()
def show(as_json: JsonOption = False, config: ConfigOption = None) -> None:
    """Show the rules that are published."""
    with Controls(open_config(config).ledger.url) as controls:
        rule_set = rule_set_of(controls.rules())
    if as_json:
        typer.echo(rule_set.encode())
    else:
        OUT.print(rules_table(rule_set))


_LINE: dict[str, Any] = {"soft_wrap": True, "highlight": False, "markup": False}


@dataclass(frozen=True, slots=True)
class _Replay:
    """A file, and the bundle through whose features and model it goes."""

    bundle: Bundle
    reader: TransactionReader
    file: Transactions
    rejected: list[Rejected]

    @staticmethod
    def of(settings: Config, bundle_id: str | None, data: Path, *, labelled: bool = False) -> _Replay:
        bundle = open_bundle(settings, bundle_id)
        reader = TransactionReader(bundle.manifest.schema_, bundle.manifest.money, hash_key())
        return _Replay(bundle, reader, open_file(data, settings, reader, labelled=labelled), [])

    def rows(self, progress: Progress) -> Iterator[Scored]:
        task = progress.add_task(f"replaying {self.file.name}", total=self.file.rows)
        score = score_of(self.bundle, runtime_of(self.bundle))
        for one in scored(self.file, FeatureEngine(plan_of(self.bundle)), score):
            self.rejected.extend(one.chunk.rejected)
            yield one
            progress.advance(task, len(one.chunk.batch) + len(one.chunk.rejected))

    def finish(self, data: Path) -> None:
        """Say which rows could not be used, with the exit code for that."""
        if report_rejected(self.rejected, data):
            raise typer.Exit(EXIT_PARTIAL)


def _count(rule_set: RuleSet, mode: RuleMode) -> int:
    return sum(one.mode is mode for one in rule_set.rules)


def _version_of(rule_set: RuleSet) -> str:
    return f"rules {rule_set.digest[:12]}"


def _is_test_of(rule_set: RuleSet, champion: Bundle, record: AuditRecord) -> bool:
    detail = record.detail
    return (
        record.action == _BACKTESTED and detail.get("digest") == rule_set.digest and detail.get("bundle") == champion.id
    )


def _changes(old: RuleSet, new: RuleSet) -> str:
    """Return which rules are new, changed and gone, as a sentence."""
    added = [one.name for one in new.rules if old.find(one.name) is None]
    changed = [one.name for one in new.rules if old.find(one.name) not in (None, one)]
    removed = [one.name for one in old.rules if new.find(one.name) is None]
    parts = [
        f"{what} {', '.join(names)}"
        for what, names in (("added", added), ("changed", changed), ("removed", removed))
        if names
    ]
    return "; ".join(parts) or "nothing changed"
