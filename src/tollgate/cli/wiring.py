"""Puts the parts together; the only place that reads the environment."""

from __future__ import annotations

import os
import secrets
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from hashlib import blake2b
from pathlib import Path
from types import ModuleType
from typing import Annotated

import msgspec
import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from sqlalchemy.engine import URL, make_url

from tollgate.breaker import Breaker
from tollgate.bundle import MODEL, Bundle, Registry
from tollgate.cli.extras import extra_module
from tollgate.config import TABULAR_MODELS, Config, WriterName, read_config
from tollgate.control import ListEntry
from tollgate.errors import ConfigError
from tollgate.explain import Explainer
from tollgate.features import FeaturePlan, RemoteEngine
from tollgate.features.payments import PAYMENT_FEATURES
from tollgate.features.plan import compile_plan, plan_from_data
from tollgate.features.snapshot import plan_digest
from tollgate.features.source import read_features
from tollgate.files import Rejected, TransactionFile, Transactions, rejected_line
from tollgate.folders import is_local, local_path, open_folder
from tollgate.frame import LabelFields
from tollgate.intake import TransactionReader
from tollgate.judge import Floats, Judge
from tollgate.ledger import Ledger, SharedLedger
from tollgate.ledger.controls import Controls
from tollgate.lists import Lists
from tollgate.model.prediction import judged, pool
from tollgate.model.runtime import OnnxRuntime
from tollgate.parts import TransactionSet
from tollgate.policy import Policy
from tollgate.recovery import Recovery, Snapshots
from tollgate.remote_bundles import RemoteRegistry
from tollgate.rules import RuleSet, compile_rules, parse_rules
from tollgate.secret import read_secret
from tollgate.shared_recovery import SharedRecovery

DEFAULT_CONFIG = Path("tollgate.toml")
HASH_KEY_VARIABLE = "TOLLGATE_HASH_KEY"
WRITER_VARIABLE = "TOLLGATE_WRITER"
SIGNING_KEY_VARIABLE = "TOLLGATE_SIGNING_KEY"
_SIGNING_KEY_BYTES = 32
_DIGEST_DIGITS = 12  # of a plan: tells the states of different features apart

OUT = Console()
ERR = Console(stderr=True)

ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", "-c", help="Configuration; ./tollgate.toml if there is one, else the defaults."),
]
BundleOption = Annotated[str | None, typer.Option("--bundle", help="Content id of a bundle; the champion by default.")]


def now_us() -> int:
    """Observed time: microseconds since 1970-01-01 UTC."""
    return time.time_ns() // 1000


def open_config(path: Path | None) -> Config:
    """Return the named configuration, the one in this folder, or the defaults."""
    config = Config() if path is None and not DEFAULT_CONFIG.is_file() else read_config(path or DEFAULT_CONFIG)
    return _named(config, os.environ.get(WRITER_VARIABLE))


def _named(config: Config, writer: str | None) -> Config:
    """Return the configuration with this process's name, where the environment has one: of a pod, for instance."""
    if not writer:
        return config
    try:
        msgspec.convert(writer, WriterName)
    except msgspec.ValidationError:
        raise ConfigError(
            "bad_config",
            f"{WRITER_VARIABLE}: expected up to 63 letters, digits, '.', '_' and '-', but got {writer!r}",
        ) from None
    replace = msgspec.structs.replace
    redis, stream = replace(config.state.redis, writer=writer), replace(config.stream, worker=writer)
    return replace(config, state=replace(config.state, redis=redis), stream=stream)


def hash_key() -> bytes:
    """Return the key under which entity ids are hashed: from the environment, else a new one for this process.

    Raises:
        ConfigError: The key in the environment, or the file that it names, is not one.
    """
    return read_secret(HASH_KEY_VARIABLE, os.environ) or secrets.token_bytes(32)


def keeps_state() -> bool:
    """Whether the hash key outlives this process, so that a saved state is of use to the next one."""
    return read_secret(HASH_KEY_VARIABLE, os.environ) is not None


def snapshots_of(config: Config, plan: FeaturePlan, key: bytes) -> Snapshots | None:
    """Return where to save the state of a plan, if the hash key outlives this process.

    Beside the ledger; that of one on PostgreSQL beside the bundles.
    """
    url = make_url(config.ledger.url)
    if url.database is None or not keeps_state():
        return None
    beside = Path(url.database)
    if not _is_file(url):
        place = blake2b(repr((url.host, url.port, url.query)).encode(), digest_size=_DIGEST_DIGITS // 2).hexdigest()
        beside = Path(config.bundles).with_name(f"{url.database}-{place}")
    return Snapshots(beside.with_name(f"{beside.name}.{plan_digest(plan)[:_DIGEST_DIGITS]}.state"), key)


def remote_of(config: Config, key: bytes) -> Callable[[FeaturePlan], RemoteEngine] | None:
    """Return what makes an engine whose state is on servers, where the configuration says so; None else.

    Raises:
        ConfigError: The hash key ends with this process, or the extra is not installed.
    """
    if config.state.engine == "embedded":
        return None
    if not keeps_state():
        raise ConfigError(
            "no_hash_key", f"a shared feature state needs one hash key for all: set {HASH_KEY_VARIABLE} for each server"
        )
    sharing = extra_module("cli.sharing", "redis", '[state] engine = "redis" needs')
    make: Callable[[FeaturePlan], RemoteEngine] = sharing.shared_engines(config, key)
    return make


def open_ledger(config: Config, *, write: bool = True) -> Ledger:
    """Return the ledger that is decided on, which this process writes alone or with others.

    Raises:
        LedgerError: It cannot be opened, or another process writes it.
    """
    url, durability = config.ledger.url, config.ledger.durability
    if not config.ledger.shared:
        return Ledger(url, durability, write=write)
    return SharedLedger(url, durability, writer=config.state.redis.writer, write=write)


def recovery_of(config: Config, plan: FeaturePlan, reader: TransactionReader, ledger: Ledger, key: bytes) -> Recovery:
    """Return what brings the feature state up to the ledger: in memory or on servers, of one writer or of several.

    Args:
        config: Where the state is.
        plan: The features.
        reader: Reads recorded transactions back.
        ledger: Of `open_ledger`.
        key: Under which the reader hashes.

    Raises:
        ConfigError: As for `remote_of`.
    """
    remote = remote_of(config, key)
    if isinstance(ledger, SharedLedger):
        assert remote is not None
        return SharedRecovery(plan, reader, ledger, remote)
    return Recovery(plan, reader, ledger, None if remote else snapshots_of(config, plan, key), remote)


def features_of(config: Config) -> FeaturePlan:
    """Return the compiled features that the configuration names; lags only where a model reads them."""
    features = PAYMENT_FEATURES if config.features is None else read_features(Path(config.features))
    plan = compile_plan(features, config.table, config.money.scale)
    reads_lags = not {config.train.model, *config.evaluate.beside} <= TABULAR_MODELS
    return plan.select(reads_lags or back == 0 for back in plan.back)


def open_labelled(data: Path | str, config: Config) -> tuple[Transactions, TransactionReader]:
    """Open transactions with labels, and say which of their columns nothing reads."""
    reader = TransactionReader(config.table, config.money, hash_key())
    return open_file(data, config, reader, labelled=True), reader


def open_file(data: Path | str, config: Config, reader: TransactionReader, *, labelled: bool = False) -> Transactions:
    """Open transactions, and name the columns that nothing reads: a typing error in a mapping shows here.

    Args:
        data: A file, or a folder or a URL with files.
        config: Where to find labels, and how to read.
        reader: Knows the schema.
        labelled: Whether labels are wanted.
    """
    fields = label_fields(config) if labelled else None
    file: Transactions
    if is_set(data):
        file = TransactionSet(open_folder(str(data)), reader, fields, sort=config.files.sort)
    else:
        file = TransactionFile(local_path(str(data)), reader, fields, sort=config.files.sort)
    if file.unread:
        ERR.print(f"[dim]{escape(file.name)}: columns that are not read: {escape(', '.join(file.unread))}[/dim]")
    return file


def is_set(data: Path | str) -> bool:
    """Whether what is named is a folder of files, here or elsewhere, and not one file."""
    return not is_local(str(data)) or local_path(str(data)).is_dir()


def label_fields(config: Config) -> LabelFields:
    """Return where the labels of a file are."""
    label = config.label
    return LabelFields(label.source, label.available_from, label.delay_us)


def open_bundle(config: Config, bundle_id: str | None) -> Bundle:
    """Return a bundle of the registry, the champion by default."""
    return open_registry(config).load(bundle_id)


def open_registry(config: Config, *, signed: bool = True) -> Registry:
    """Return the registry of bundles that the configuration names; with `signed`, it loads what `trusted_keys` says.

    Raises:
        ConfigError: A trusted key is none, or the extra is not installed.
    """
    check = signatures().Trust(config.trusted_keys).check if signed and config.trusted_keys else None
    if is_local(config.bundles):
        return Registry(local_path(config.bundles), check)
    return RemoteRegistry(config.bundles, bundles_here(config), check)


def signatures() -> ModuleType:
    """Return the module that signs bundles and checks them.

    Raises:
        ConfigError: The extra is not installed.
    """
    return extra_module("signature", "sign", "signatures of bundles need")


def has_signing_key() -> bool:
    """Whether the environment has a private key that signs bundles, or names a file with one."""
    return read_secret(SIGNING_KEY_VARIABLE, os.environ) is not None


def signing_key() -> bytes:
    """Return the private key that signs bundles, 32 bytes, from the environment or the file that it names.

    Raises:
        ConfigError: There is none, or it is none.
    """
    text = read_secret(SIGNING_KEY_VARIABLE, os.environ) or b""
    try:
        key = bytes.fromhex(text.decode())
    except ValueError:
        key = b""
    if len(key) != _SIGNING_KEY_BYTES:
        raise ConfigError(
            "bad_key",
            f"{SIGNING_KEY_VARIABLE}: expected a private key of {2 * _SIGNING_KEY_BYTES} hexadecimal digits; try "
            "openssl rand -hex 32",
        )
    return key


def bundles_here(config: Config) -> Path:
    """Return the folder of this machine where bundles are, or copies of them; what is in a copy is always checked."""
    if is_local(config.bundles):
        return local_path(config.bundles)
    name = blake2b(config.bundles.encode(), digest_size=8).hexdigest()
    return Path(tempfile.gettempdir()) / f"tollgate-bundles-{os.getuid()}-{name}"


def plan_of(bundle: Bundle) -> FeaturePlan:
    """Return the compiled features of a bundle."""
    manifest = bundle.manifest
    return plan_from_data(manifest.plan["features"], manifest.schema_, manifest.money.scale)


def policy_of(
    bundle: Bundle,
    reader: TransactionReader,
    entries: Sequence[ListEntry],
    rules: bytes | None,
) -> Policy:
    """Return a bundle's thresholds with lists and rules.

    Args:
        bundle: Whose thresholds and features.
        reader: Hashes the ids of list entries as those of transactions.
        entries: Of lists.
        rules: A rule set, JSON; None before there is one.

    Raises:
        ConfigError: The rules do not fit the bundle.
    """
    try:
        compiled = compile_rules(rule_set_of(rules), plan_of(bundle))
    except ConfigError as error:
        raise ConfigError(
            error.code,
            f"the published rules do not fit bundle {bundle.id}: {error.message}; change them with 'tollgate rules "
            "publish', or give the bundle the feature",
        ) from None
    return Policy(bundle.manifest.policy, compiled, lists_of(entries, reader), reader.key)


def lists_of(entries: Sequence[ListEntry], reader: TransactionReader) -> Lists:
    """Return list entries as the batches of a reader are looked up in them."""
    return Lists.of(entries, reader.schema, reader.read_entity)


def policy_now(config: Config, bundle: Bundle, reader: TransactionReader) -> Policy:
    """Return what `policy_of` does for the ledger of a configuration, or, where there is none yet, the thresholds."""
    return policy_of(bundle, reader, *controls_now(config))


def controls_now(config: Config) -> tuple[Sequence[ListEntry], bytes | None]:
    """Return the lists and the rules in the ledger of a configuration; none where there is no ledger yet."""
    url = make_url(config.ledger.url)
    if _is_file(url) and not Path(url.database or "").is_file():
        return (), None
    with Controls(config.ledger.url) as controls:
        return controls.entries(), controls.rules()


def _is_file(url: URL) -> bool:
    return url.get_backend_name() == "sqlite"


def rule_set_of(document: bytes | None) -> RuleSet:
    """Return a published rule set; an empty one before there is any."""
    return RuleSet() if document is None else parse_rules(document, "the published rules")


def judge_of(bundle: Bundle, policy: Policy) -> Judge:
    """Return a bundle at work, warmed up."""
    manifest = bundle.manifest
    runtime = runtime_of(bundle)
    score = score_of(bundle, runtime)
    explainer = Explainer(
        lambda features: manifest.calibration.apply(pool(runtime.logits(features))),  # it needs no confidence
        manifest.names,
        manifest.typical,
        manifest.categories,
        manifest.policy.max_reasons,
        plan_of(bundle),
        manifest.profiles,
        manifest.money.currency,
    )
    typical = manifest.typical[None]
    canary = (typical, float(score(typical)[0][0]))
    return Judge(bundle.id, score, policy, explainer, Breaker(time.monotonic), canary)


def runtime_of(bundle: Bundle) -> OnnxRuntime:
    """Return the model of a bundle, warmed up."""
    runtime = OnnxRuntime(bundle.read(MODEL))
    runtime.warm_up()
    return runtime


def score_of(bundle: Bundle, runtime: OnnxRuntime) -> Callable[[Floats], tuple[Floats, Floats]]:
    """Return the function from features to calibrated scores and confidences, as `Judge` has it."""
    calibration = bundle.manifest.calibration
    return lambda features: judged(runtime.logits(features), calibration)


def progress_bar(*, shown: bool = True) -> Progress:
    """Return a progress display on the error stream, so that what a command prints can be piped on."""
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=ERR,
        disable=not (shown and sys.stderr.isatty()),
    )


def report_rejected(rejected: list[Rejected], beside: Path | str) -> bool:
    """Write the rejected rows to a file beside another, and say so; return whether there were any.

    What is refused of another machine's files is written where the command runs.
    """
    text = str(beside)
    place = local_path(text) if is_local(text) else Path(text.rstrip("/").rsplit("/", 1)[-1])
    path = place.with_name(place.name + ".rejected.jsonl")
    if not rejected:
        path.unlink(missing_ok=True)
        return False
    path.write_bytes(b"\n".join(rejected_line(one) for one in rejected) + b"\n")
    first = rejected[0]
    row = f"row {first.row}" if first.part is None else f"{escape(first.part)}, row {first.row}"
    ERR.print(
        f"[yellow]{len(rejected)} rows were rejected; see {path}[/yellow]; the first: {row}: "
        f"{escape(first.error.message)}",
        soft_wrap=True,
    )
    return True
