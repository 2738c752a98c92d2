"""`tollgate features`: the plan as a person would read it, one feature in words, two lists compared, values seen."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from tollgate.cli.extras import extra_module
from tollgate.cli.wiring import (
    OUT,
    ConfigOption,
    features_of,
    open_config,
    open_labelled,
    progress_bar,
    report_rejected,
)
from tollgate.errors import EXIT_PARTIAL, ConfigError
from tollgate.features.compare import compare_features
from tollgate.features.describe import INDEX_BYTES, WORD_BYTES, describe_entities, describe_features
from tollgate.features.plan import FeaturePlan, compile_plan
from tollgate.features.prose import in_words, missing_when, tree
from tollgate.features.source import read_features

features = typer.Typer(
    name="features", help="Look at the features: list, explain, diff, preview.", no_args_is_help=True
)

_SAMPLE_ROWS = 20_000
_LINE: dict[str, Any] = {"soft_wrap": True, "highlight": False}


@features.command("list")
def list_features(config: ConfigOption = None) -> None:
    """Show every feature with what it looks at and what it costs, and what is kept of each kind of entity."""
    plan = features_of(open_config(config))
    table = Table(title=f"{len(plan.names)} features", title_justify="left")
    for heading in ("feature", "entity", "window"):
        table.add_column(heading, overflow="fold")
    for heading in ("steps", "bytes an entity", "bytes an event"):
        table.add_column(heading, justify="right")
    for one in describe_features(plan):
        table.add_row(
            one.name, ", ".join(one.entities), ", ".join(one.windows), str(one.steps),
            str(one.entity_words * WORD_BYTES or ""), str(one.event_words * WORD_BYTES or ""),
        )  # fmt: skip
    OUT.print(table)
    OUT.print(
        "Each as if it were the only one, beside the 24 bytes that every record has. Steps are elementary operations "
        "for each transaction. What features share is kept once:",
        style="dim",
    )
    OUT.print(_totals(plan))
    low, high = INDEX_BYTES
    OUT.print(
        f"Every record also has a slot of the index, {low} to {high} bytes. Events come in blocks; an entity with "
        "windows has at least one. An entity is freed when twice its horizon has passed without it.",
        style="dim",
    )


def _totals(plan: FeaturePlan) -> Table:
    table = Table(title="Memory", title_justify="left")
    table.add_column("kind of entity", overflow="fold")
    for heading in ("bytes a record", "bytes an event", "bytes a block"):
        table.add_column(heading, justify="right")
    table.add_column("windows", overflow="fold")
    table.add_column("horizon")
    for one in describe_entities(plan):
        table.add_row(
            one.name, str(one.record_bytes), str(one.event_bytes or ""), str(one.block_bytes or ""),
            ", ".join(one.windows), one.horizon,
        )  # fmt: skip
    return table


@features.command()
def explain(
    name: Annotated[str, typer.Argument(help="Of the feature, as 'list' shows it.")], config: ConfigOption = None
) -> None:
    """Say what one feature is, when it is missing, and how it is computed."""
    plan = features_of(open_config(config))
    place = _find(plan, name)
    feature, cost = plan.features[place], describe_features(plan)[place]
    lines = [f"[bold]{escape(name)}[/bold]: {escape(in_words(feature))}.", ""]
    reasons = missing_when(feature, plan.schema)
    lines.append(f"Missing where {escape('; '.join(reasons))}." if reasons else "Never missing.")
    if cost.entities:
        lines.append(f"Looks at {escape(', '.join(cost.entities))}: {escape(', '.join(cost.windows))}.")
        lines.append(
            f"Keeps {escape('; '.join(cost.needs))}: {cost.entity_words * WORD_BYTES} bytes an entity and "
            f"{cost.event_words * WORD_BYTES} bytes an event, where nothing else needs them."
        )
    else:
        lines.append("Looks at no history.")
    lines += ["", *(escape(line) for line in tree(feature))]
    OUT.print("\n".join(lines), soft_wrap=True, highlight=False)


def _find(plan: FeaturePlan, name: str) -> int:
    if name not in plan.names:
        raise ConfigError(
            "no_feature", f"expected the name of a feature, but got {name!r}; there are: {', '.join(plan.names)}"
        )
    return plan.names.index(name)


@features.command()
def diff(
    old: Annotated[Path, typer.Argument(help="A features file.", show_default=False)],
    new: Annotated[Path, typer.Argument(help="Another.", show_default=False)],
    config: ConfigOption = None,
) -> None:
    """Compare two features files under the configuration's schema."""
    settings = open_config(config)
    plans = [compile_plan(read_features(path), settings.table, settings.money.scale) for path in (old, new)]
    found = compare_features(plans[0].features, plans[1].features)
    for feature in found.added:
        OUT.print(f"[green]+[/green] {escape(feature.name)}: {escape(in_words(feature))}", **_LINE)
    for feature in found.removed:
        OUT.print(f"[red]-[/red] {escape(feature.name)}: {escape(in_words(feature))}", **_LINE)
    for before, after in found.changed:
        OUT.print(f"[yellow]~[/yellow] {escape(after.name)}", **_LINE)
        OUT.print(f"    was {escape(in_words(before))}\n    is  {escape(in_words(after))}", **_LINE)
    for before, after in found.renamed:
        OUT.print(f"[cyan]=[/cyan] {escape(before.name)} is now called {escape(after.name)}", **_LINE)
    OUT.print(
        f"{len(found.added)} added, {len(found.removed)} removed, {len(found.changed)} changed, "
        f"{len(found.renamed)} renamed, {found.same} the same",
        **_LINE,
    )


@features.command()
def preview(
    data: Annotated[Path, typer.Argument(help="Labelled transactions: .parquet, .csv or .jsonl.")],
    config: ConfigOption = None,
    rows: Annotated[int, typer.Option(help="How many rows, the first of the file.", min=1)] = _SAMPLE_ROWS,
    output: Annotated[Path, typer.Option(help="Where the page with the plots goes.")] = Path("features.html"),
) -> None:
    """Compute the features of a sample, and show the values of good payments beside those of frauds."""
    module = extra_module("preview", "train", "'tollgate features preview' needs")
    settings = open_config(config)
    plan = features_of(settings)
    file, _ = open_labelled(data, settings)
    with progress_bar() as progress:
        task = progress.add_task(
            f"computing {len(plan.names)} features", total=rows if file.rows is None else min(rows, file.rows)
        )
        sample, rejected = module.take_sample(file, plan, rows, lambda done: progress.advance(task, done))
        task = progress.add_task("drawing", total=len(plan.names))
        page = module.render_preview(sample, plan, data.name, lambda done: progress.advance(task, done))
    OUT.print(module.table_of(sample))
    output.parent.mkdir(parents=True, exist_ok=True)
    part = output.with_name(output.name + ".part")
    part.write_text(page, encoding="utf-8")
    part.replace(output)
    OUT.print(f"wrote {output}", **_LINE)
    if report_rejected(rejected, output):
        raise typer.Exit(EXIT_PARTIAL)
