"""`tollgate bundles`: what was trained, what decides, and back to what decided before."""

from __future__ import annotations

import math
from typing import Annotated, Any

import msgspec
import typer
from rich.table import Table
from rich.text import Text

from tollgate.bundle import Bundle, CanaryShare, Registry
from tollgate.cli.actor import ByOption, actor_of
from tollgate.cli.keys import in_words
from tollgate.cli.promotion import begin_canary, promote_bundle
from tollgate.cli.signing import signer_of
from tollgate.cli.wiring import ERR, OUT, ConfigOption, now_us, open_config, open_registry
from tollgate.difference import Difference, difference
from tollgate.errors import EXIT_UNAVAILABLE, BundleError, ConfigError
from tollgate.ledger.controls import Controls

bundles = typer.Typer(
    name="bundles", help="Trained bundles: list, compare, try out, promote, roll back, verify.", no_args_is_help=True
)

BundleArgument = Annotated[
    str, typer.Argument(metavar="ID", help="Of a bundle, as 'list' shows it.", show_default=False)
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
_SHOWN = ("average_precision", "value_detection_rate", "precision", "recall")  # in a list; `show` has all


@bundles.command("list")
def list_bundles(as_json: JsonOption = False, config: ConfigOption = None) -> None:
    """Show all bundles, the newest first, and which one decides for all cards or for a share of them."""
    registry = open_registry(open_config(config))
    champion, canary = registry.champion(), registry.beside_champion()
    good, damaged = _all(registry)
    good.sort(key=lambda one: -one.manifest.created_us)
    if as_json:
        for one in good:
            share = canary.share if canary is not None and canary.bundle == one.id else None
            roles = {"champion": one.id == champion, "canary_share": share}
            typer.echo(msgspec.json.encode({"id": one.id, **roles, **_facts(one)}))
        for error in damaged.values():
            ERR.print(f"{error.code}: {error.message}", style="red", markup=False, soft_wrap=True)
        return
    table = Table(title=f"{len(good) + len(damaged)} bundles", title_justify="left")
    for heading in ("id", "", "made", "model", "features", "rows", *(name.replace("_", " ") for name in _SHOWN)):
        table.add_column(heading, overflow="fold")
    for one in good:
        manifest = one.manifest
        measured = (_number(manifest.metrics.get(name)) for name in _SHOWN)
        table.add_row(
            one.id, _role(one.id, champion, canary), in_words(manifest.created_us), manifest.train.model,
            str(len(manifest.names)), f"{manifest.training.rows:,}", *measured,
        )  # fmt: skip
    for bundle_id, error in damaged.items():
        table.add_row(bundle_id, _role(bundle_id, champion, canary), Text(error.code, style="red"))
    OUT.print(table)


def _role(bundle_id: str, champion: str | None, canary: CanaryShare | None) -> str:
    if bundle_id == champion:
        return "champion"
    return f"canary, {canary.percent}" if canary is not None and canary.bundle == bundle_id else ""


@bundles.command()
def show(bundle_id: BundleArgument, as_json: JsonOption = False, config: ConfigOption = None) -> None:
    """Show what a bundle is, what it was trained on and how it did on its test period."""
    one = open_registry(open_config(config)).load(bundle_id)
    facts = _facts(one)
    if as_json:
        typer.echo(msgspec.json.encode({"id": one.id, **facts}))
        return
    table = Table(title=f"bundle {one.id}", title_justify="left", show_header=False)
    for name, value in facts.items():
        for place, (inner, one_value) in enumerate(_rows(value)):
            table.add_row(Text(name.replace("_", " ") if place == 0 else ""), Text(inner), Text(one_value))
    OUT.print(table)


@bundles.command()
def diff(
    first: BundleArgument, second: BundleArgument, as_json: JsonOption = False, config: ConfigOption = None
) -> None:
    """Compare two bundles: measures, features and settings."""
    registry = open_registry(open_config(config))
    found = difference(registry.load(first).manifest, registry.load(second).manifest)
    if as_json:
        typer.echo(msgspec.json.encode(found))
        return
    _print_measures(first, second, found)
    for title, names in (
        (f"only {first} computes", found.only_first),
        (f"only {second} computes", found.only_second),
        ("computed in another way", found.changed),
    ):
        if names:
            OUT.print(f"{title}: {', '.join(names)}", highlight=False, markup=False, soft_wrap=True)
    table = Table(title=f"{len(found.settings)} settings differ", title_justify="left")
    for heading in ("", first, second):
        table.add_column(heading, overflow="fold")
    for name, pair in found.settings.items():
        table.add_row(*map(Text, (name, *map(_text, pair))))
    OUT.print(table)


@bundles.command()
def promote(bundle_id: BundleArgument, by: ByOption = None, config: ConfigOption = None) -> None:
    """Let a bundle decide. Running servers take it within a second, between two batches."""
    settings = open_config(config)
    registry = open_registry(settings)
    before = registry.champion()
    promote_bundle(settings, registry, bundle_id, actor_of(by), before=before)
    _say_champion(registry, before)


@bundles.command()
def rollback(by: ByOption = None, config: ConfigOption = None) -> None:
    """Let the champion before this one decide again. Running servers take it within a second."""
    settings = open_config(config)
    registry = open_registry(settings)
    before = registry.champion()
    with Controls(settings.ledger.url) as controls:
        registry.rollback()
        controls.note(actor_of(by), "champion.rollback", before or "none", now_us())
    _say_champion(registry, before)


@bundles.command()
def canary(
    bundle_id: Annotated[str | None, typer.Argument(metavar="[ID]", help="Of a bundle.", show_default=False)] = None,
    share: Annotated[str, typer.Option(help="Of the cards, above 0% and below 100%.")] = "5%",
    off: Annotated[bool, typer.Option("--off", help="End it: the champion decides for all again.")] = False,
    by: ByOption = None,
    config: ConfigOption = None,
) -> None:
    """Let a bundle decide for a share of the cards, or with --off for none. Servers follow within a second."""
    settings = open_config(config)
    registry = open_registry(settings)
    if off == (bundle_id is not None):
        raise ConfigError("bad_option", "expected the id of a bundle, or --off to end the canary; got both or neither")
    if bundle_id is None:
        before = registry.canary()
        with Controls(settings.ledger.url) as controls:
            registry.try_out(None)
            controls.note(actor_of(by), "canary.end", "none" if before is None else before.bundle, now_us())
        OUT.print("the champion decides for all cards", highlight=False)
        return
    begin_canary(settings, registry, CanaryShare(bundle_id, _share(share)), actor_of(by))
    OUT.print(f"{bundle_id} decides for {share} of the cards from now on", highlight=False)


def _share(text: str) -> float:
    """Return a share between 0 and 1 of a text such as `5%`.

    Raises:
        ConfigError: It is none.
    """
    try:
        value = float(text.removesuffix("%")) / 100 if text.endswith("%") else math.nan
    except ValueError:
        value = math.nan
    if not 0 < value < 1:
        raise ConfigError("bad_share", f"expected a share above 0% and below 100%, such as 5%, but got {text!r}")
    return value


@bundles.command()
def sign(bundle_id: BundleArgument, by: ByOption = None, config: ConfigOption = None) -> None:
    """Sign a bundle with the key in TOLLGATE_SIGNING_KEY, or in the file that TOLLGATE_SIGNING_KEY_FILE names."""
    signer_of(open_config(config), actor_of(by)).sign(bundle_id)


@bundles.command()
def verify(
    bundle_ids: Annotated[list[str] | None, typer.Argument(metavar="[ID]...", help="All bundles by default.")] = None,
    config: ConfigOption = None,
) -> None:
    """Check that bundles are what was stored, and signed where trusted_keys asks for it; exit code 5 if one is not."""
    good, damaged = _all(open_registry(open_config(config)), bundle_ids)
    for one in good:
        OUT.print(f"{one.id} ok, {len(one.manifest.files)} files", highlight=False)
    for bundle_id, error in damaged.items():
        OUT.print(f"{bundle_id} {error.code}: {error.message}", style="red", markup=False, soft_wrap=True)
    if damaged:
        raise typer.Exit(EXIT_UNAVAILABLE)


def _all(registry: Registry, bundle_ids: list[str] | None = None) -> tuple[list[Bundle], dict[str, BundleError]]:
    """Return the bundles that load, and why the others do not."""
    good: list[Bundle] = []
    damaged: dict[str, BundleError] = {}
    for bundle_id in bundle_ids or registry.list():
        try:
            good.append(registry.load(bundle_id))
        except BundleError as error:
            damaged[bundle_id] = error
    return good, damaged


def _facts(bundle: Bundle) -> dict[str, Any]:
    manifest = bundle.manifest
    training = manifest.training
    return {
        "made": in_words(manifest.created_us),
        "tollgate": manifest.tollgate,
        "model": manifest.train.model,
        "features": len(manifest.names),
        "trained_on": {
            "from": in_words(training.start_us), "until": in_words(training.end_us), "rows": training.rows,
            "frauds": training.frauds, "fingerprint": training.fingerprint,
        },
        "thresholds": {"block": manifest.policy.block, "review": manifest.policy.review},
        "calibration": manifest.calibration.method,
        "metrics": manifest.metrics,
        "files": manifest.files,
        "warnings": list(manifest.warnings),
    }  # fmt: skip


def _rows(value: Any) -> list[tuple[str, str]]:
    if isinstance(value, dict):
        return [(name.replace("_", " "), _text(inner)) for name, inner in value.items()]
    if isinstance(value, list):
        return [("", _text(inner)) for inner in value]
    return [("", _text(value))]


def _print_measures(first: str, second: str, found: Difference) -> None:
    table = Table(title="on the test period of each", title_justify="left")
    for heading in ("", first, second, "change"):
        table.add_column(heading)
    for name, (one, other) in found.metrics.items():
        change = "" if one is None or other is None else f"{other - one:+.4g}"
        table.add_row(name.replace("_", " "), _number(one), _number(other), change)
    OUT.print(table)


def _say_champion(registry: Registry, before: str | None) -> None:
    now = registry.champion()
    OUT.print(
        f"{now} decides already" if now == before else f"{now} decides from now on; before it: {before or 'none'}",
        highlight=False,
    )


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    return f"{value:.6g}" if isinstance(value, float) else msgspec.json.encode(value).decode()
