"""`tollgate.toml`: everything a user sets, with its default, checked when it is read.

Only `cli` reads the environment; all else is handed a `Config`.
"""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from tollgate.decision import Outcome
from tollgate.duration import SECOND_US, parse_duration_us
from tollgate.errors import ConfigError
from tollgate.folders import is_url
from tollgate.label import LabelSource
from tollgate.money import Money
from tollgate.schema import Schema, payment_schema

Share = Annotated[float, Meta(ge=0, le=1)]
Positive = Annotated[int, Meta(gt=0)]
PositiveFloat = Annotated[float, Meta(gt=0)]
NotNegative = Annotated[float, Meta(ge=0)]
WriterName = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$")]

STREAM_OWN = frozenset({
    "bootstrap.servers", "metadata.broker.list", "group.id", "group.instance.id", "transactional.id",
    "enable.idempotence", "enable.auto.commit", "enable.auto.offset.store", "isolation.level",
    "partition.assignment.strategy", "group.protocol",
})  # fmt: skip

_NEVER = "never"
_POSTGRES = "postgresql"

TABULAR_MODELS = frozenset({"mlp", "tabm", "lightgbm"})  # they read the transaction's own features, no lags


class Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A table of `tollgate.toml`; an unknown name in it is an error."""


class MaturityConfig(Section, frozen=True):
    """How long a source's label may still be taken back after it became known; training leaves it out until then."""

    analyst: str = "0d"
    chargeback: str = "45d"
    customer: str = "0d"
    imported: str = msgspec.field(default="0d", name="import")

    def __post_init__(self) -> None:
        for text in (self.analyst, self.chargeback, self.customer, self.imported):
            parse_duration_us(text)

    def of_us(self, source: LabelSource) -> int:
        """Return the maturity of a source, in microseconds."""
        text: str = getattr(self, "imported" if source is LabelSource.IMPORT else source.value)
        return parse_duration_us(text)


class LabelConfig(Section, frozen=True, rename={"source": "from"}):
    """Where a file holds the label, and how long after the transaction a label is known."""

    source: str = "is_fraud"
    available_from: str | None = "label_available"  # the field with the time at which it was known, if there is one
    delay: str = "14d"
    good_after: str = "90d"  # a transaction of the ledger that nobody has labelled by then is good; or "never"
    maturity: MaturityConfig = MaturityConfig()

    def __post_init__(self) -> None:
        parse_duration_us(self.delay)
        if self.good_after != _NEVER:
            parse_duration_us(self.good_after)

    @property
    def good_after_us(self) -> int | None:
        """`good_after`, in microseconds; None is never."""
        return None if self.good_after == _NEVER else parse_duration_us(self.good_after)

    @property
    def delay_us(self) -> int:
        """The delay, in microseconds."""
        return parse_duration_us(self.delay)


class SplitConfig(Section, frozen=True):
    """Which part of a file trains and which tests, by effective time, with the label delay between.

    By default the newest week is tested, and all before it but the delay trains.
    """

    train_start: dt.date | None = None
    train: str | None = None  # how long; without it everything up to the delay before the test
    test_start: dt.date | None = None
    test: str | None = None  # how long; without it everything from the start of the test
    test_share: Share | None = None  # or: the newest share of the rows
    validation: Share = 0.2  # the newest share of the training rows: early stopping and calibration
    folds: Positive = 1  # trainings and tests, each a step later than the one before
    step: str = "7d"

    def __post_init__(self) -> None:
        for text in (self.train, self.test, self.step):
            if text is not None:
                parse_duration_us(text)
        if self.folds > 1 and self.test_share is not None:
            raise ConfigError("bad_split", "[split] expected one fold where test_share is set; use test and test_start")
        if self.test_share is not None and (self.test_start is not None or self.test is not None):
            raise ConfigError("bad_split", "[split] expected test_share, or test_start and test, but got both")


class TrainConfig(Section, frozen=True):
    """The model and its training."""

    model: str = "tabm"  # mlp, tabm, sequence, lightgbm, or a network of your own: package.module:Class
    hidden: tuple[Positive, ...] = (128, 64)
    members: Positive = 8  # of the ensemble, for tabm and sequence
    dropout: Share = 0.05
    learning_rate: PositiveFloat = 5e-3  # at the start; it falls to 0 along a cosine
    weight_decay: NotNegative = 3e-4
    batch_size: Positive = 512
    max_epochs: Positive = 12
    patience: Positive = 6  # epochs without a better validation AP
    imbalance: Literal["none", "weighted", "focal", "sampling"] = "sampling"
    good_per_fraud: Positive = 30  # with sampling: good payments in an epoch, drawn anew for each
    focal_gamma: NotNegative = 2.0  # with focal: how much less a payment counts that the model is sure of
    refit: bool = True  # fit again with the validation rows, for as many epochs as were best
    seed: int = 7
    threads: Positive = 1  # two that wait for each other on a busy machine are far slower than one
    device: Literal["auto", "cpu", "cuda"] = "auto"
    memory_gb: PositiveFloat = 8.0  # features beyond it are kept in files and read as they are needed

    @property
    def memory_bytes(self) -> int:
        """`memory_gb`, in bytes."""
        return int(self.memory_gb * 2**30)


class CostsConfig(Section, frozen=True):
    """What decisions cost, for thresholds by cost. Money is in major units of the base currency."""

    missed_share: NotNegative = 1.0  # of the amount, lost with a fraud that goes through
    false_block: NotNegative = 10.0  # for each good payment that is blocked: calls, a customer who leaves
    false_block_share: NotNegative = 0.0  # and of its amount: the margin that is not earned
    review: NotNegative = 5.0  # for each payment that an analyst looks at
    review_stops: Share = 0.95  # share of the frauds under review that the analyst recognises


class PolicyConfig(Section, frozen=True):
    """Thresholds on the calibrated score, and what happens when there is no score."""

    block: Share = 0.85
    review: Share = 0.5
    fallback: Outcome = Outcome.REVIEW
    max_reasons: Positive = 3
    holdout: Share = 0.0  # of the payments that the score would block: let through by chance, to learn what they were
    choose: Literal["fixed", "budget", "cost"] = "fixed"  # training keeps the thresholds above, or sets its own
    review_per_day: Positive = 100  # with budget: payments a day at or above the review threshold
    costs: CostsConfig = CostsConfig()

    def __post_init__(self) -> None:
        if self.review > self.block:
            raise ConfigError(
                "bad_threshold", f"[policy] expected review <= block, but got {self.review} > {self.block}"
            )


class EvaluateConfig(Section, frozen=True):
    """What a report measures at."""

    alerts_per_day: Positive = 100  # the alert budget: what the analysts can look at
    card: str = "card_id"  # the entity of card precision@k
    drop_known_cards: bool = False  # leave out of the test the cards that were known as compromised by then
    known_period: str | None = None  # how long before the test such a fraud may have been; else since training began
    beside: tuple[str, ...] = ("lightgbm",)  # models that are trained on the same rows, to compare
    lightgbm_search: str = "0s"  # for how long the parameters of LightGBM are searched there
    review_cost: NotNegative = 5.0  # of one alert, in major units of the base currency
    amount_bands: tuple[PositiveFloat, ...] = ()  # edges between the amounts that are told apart; else quartiles
    resamples: Annotated[int, Meta(ge=0)] = 200  # bootstrap resamples behind each interval; 0 leaves intervals out
    level: Annotated[float, Meta(gt=0, lt=1)] = 0.95  # of the intervals
    seed: int = 7  # of the resampling

    def __post_init__(self) -> None:
        for text in (self.known_period, self.lightgbm_search):
            if text is not None:
                parse_duration_us(text)

    @property
    def known_us(self) -> int | None:
        """`known_period`, in microseconds."""
        return None if self.known_period is None else parse_duration_us(self.known_period)

    @property
    def lightgbm_search_s(self) -> float:
        """`lightgbm_search`, in seconds."""
        return parse_duration_us(self.lightgbm_search) / SECOND_US


class GateConfig(Section, frozen=True):
    """What a challenger must hold, on the newest mature window, to take the champion's place."""

    min_frauds: Positive = 50  # in the window, and in a slice for it to be looked at
    min_gain: NotNegative = 0.0  # average precision must grow by more than this
    max_loss: Share = 0.05  # how far below zero the interval of a difference may reach
    max_calibration_error: Share = 0.01  # or the champion's, where that is larger
    max_slice_loss: Share = 0.1  # of recall at the alert budget, in any slice
    max_slowdown: PositiveFloat = 2.0  # of the model
    min_resamples: Positive = 200


class FeedConfig(Section, frozen=True):
    """When labels are believed."""

    min_labels: Positive = 50  # of a source, to tell anything
    max_change: Annotated[float, Meta(gt=1)] = 3.0  # of the odds that a label of a source says fraud


class RetrainConfig(Section, frozen=True):
    """How the champion is challenged from the ledger alone."""

    window: str = "7d"  # the newest mature transactions, on which challenger and champion are compared
    history: str | None = None  # how much before it trains; all by default
    known_share: Share = 0.95  # of the payments of a day, for it to be among them
    gate: GateConfig = GateConfig()
    feed: FeedConfig = FeedConfig()

    def __post_init__(self) -> None:
        for text in (self.window, self.history):
            if text is not None:
                parse_duration_us(text)


class ServeConfig(Section, frozen=True):
    """Limits of the HTTP server. Each has a clear error when it is reached."""

    host: str = "127.0.0.1"
    port: int = 8080
    internal_host: str = "127.0.0.1"  # metrics, documents, champion: for operators
    internal_port: int = 8081
    open: bool = False  # answer other machines without API keys
    tls_cert: str | None = None  # PEM files; both or none
    tls_key: str | None = None
    pan: Literal["refuse", "hash", "allow"] = "refuse"  # what happens to raw card numbers
    pan_columns: tuple[str, ...] | None = None  # that are looked at; by default every entity and the transaction's id
    max_body_bytes: Positive = 4 * 2**20
    max_transactions: Positive = 10_000  # in one array
    max_waiting: Positive = 20_000  # admitted and not yet answered; more are shed with 503
    max_connections: Positive = 10_000
    max_ahead: str = "1d"  # of the server's clock
    deadline_ms: Positive = 50  # from the arrival of a transaction on; past it, it is decided without the model
    snapshot_every: str = "15m"  # the feature state is saved so often, by a process of its own
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    shadow: str | None = None  # content id of a bundle that scores beside the champion and is only recorded

    def __post_init__(self) -> None:
        for text in (self.max_ahead, self.snapshot_every):
            parse_duration_us(text)

    @property
    def deadline_s(self) -> float:
        """`deadline_ms`, in seconds."""
        return self.deadline_ms / 1000

    @property
    def snapshot_every_s(self) -> float:
        """`snapshot_every`, in seconds."""
        return parse_duration_us(self.snapshot_every) / SECOND_US

    @property
    def max_ahead_us(self) -> int:
        """How far ahead of the server's clock a transaction may be, in microseconds."""
        return parse_duration_us(self.max_ahead)


class TopicsConfig(Section, frozen=True):
    """The topics of the Kafka worker; all must be there before it starts."""

    transactions: str = "transactions"  # in
    decisions: str = "decisions"  # out: one for each transaction
    alerts: str = "alerts"  # out: one for each transaction that is held or blocked
    dead_letters: str = "dead_letters"  # out: one for each record that cannot be used
    labels: str | None = None  # in

    @property
    def read(self) -> tuple[str, ...]:
        """The topics that are read."""
        return (self.transactions,) if self.labels is None else (self.transactions, self.labels)

    @property
    def names(self) -> tuple[str, ...]:
        """All topics."""
        return (*self.read, self.decisions, self.alerts, self.dead_letters)

    def __post_init__(self) -> None:
        if len(set(self.names)) != len(self.names):
            raise ConfigError("bad_config", f"[stream.topics] expected different topics, but got {self.names}")


class StreamConfig(Section, frozen=True):
    """The Kafka worker. Exactly once depends on settings that are therefore not to be set."""

    bootstrap: str = "127.0.0.1:9092"
    group: str = "tollgate"
    worker: str = "0"  # its name in the group, its own and always the same: it belongs to one ledger
    topics: TopicsConfig = TopicsConfig()
    partitions: tuple[Annotated[int, Meta(ge=0)], ...] | None = (
        None  # that this worker reads; else the group shares them
    )
    batch: Positive = 4096  # records that are decided, and committed, together at most
    poll_ms: Positive = 100  # how long it waits for records where there are none
    deadline_ms: Positive = 1000  # from the poll on; past it, a transaction is decided without the model
    max_record_bytes: Positive = 2**18  # a longer record is a dead letter
    max_fetched_kb: Positive = 16 * 2**10  # fetched ahead of the worker
    client: dict[str, str | int | float | bool] = {}  # settings of librdkafka for consumer and producer: security
    consumer: dict[str, str | int | float | bool] = {}
    producer: dict[str, str | int | float | bool] = {}

    @property
    def deadline_s(self) -> float:
        """`deadline_ms`, in seconds."""
        return self.deadline_ms / 1000

    @property
    def member(self) -> str:
        """The worker's name to Kafka: of its transactions and, where the group shares partitions, of the member."""
        return f"{self.group}.{self.worker}"

    def __post_init__(self) -> None:
        for table in ("client", "consumer", "producer"):
            taken = sorted(STREAM_OWN & getattr(self, table).keys())
            if taken:
                raise ConfigError(
                    "bad_config",
                    f"[stream.{table}] {', '.join(taken)}: expected settings beside those of [stream]; exactly once "
                    "depends on these, leave them out",
                )
        if self.partitions == ():
            raise ConfigError("bad_config", "[stream] partitions: expected at least one, or none of this setting")


class LedgerConfig(Section, frozen=True):
    """The durable record."""

    url: str = "sqlite:///tollgate.db"
    durability: Literal["fsync", "os"] = "fsync"  # `os` survives kill -9, not a power cut
    shared: bool = False  # several servers write it, on PostgreSQL, with one feature state for all of them


class RedisConfig(Section, frozen=True):
    """Valkey or Redis 7, where several servers share the feature state. The password comes from the environment."""

    urls: tuple[str, ...] = ("redis://127.0.0.1:6379",)  # rediss:// for TLS; with a cluster, some of its servers
    cluster: bool = False
    writer: WriterName = "0"  # name of this server among those that share the state; TOLLGATE_WRITER says another
    timeout_ms: Positive = 20  # for connecting and for each answer; past it, histories are missing
    repeat: str = "1h"  # by the time of its entity: how long a transaction that comes again is recognised
    max_behind: Positive = 100_000  # transactions that wait, in order, for servers that do not answer

    def __post_init__(self) -> None:
        parse_duration_us(self.repeat)

    @property
    def timeout_s(self) -> float:
        """`timeout_ms`, in seconds."""
        return self.timeout_ms / 1000

    @property
    def repeat_us(self) -> int:
        """`repeat`, in microseconds."""
        return parse_duration_us(self.repeat)


class StateConfig(Section, frozen=True):
    """Where the feature state is: in each process, or shared."""

    engine: Literal["embedded", "redis"] = "embedded"
    redis: RedisConfig = RedisConfig()


class MonitorConfig(Section, frozen=True):
    """What `tollgate monitor` looks at, and from when on something asks for attention."""

    window: str = "7d"  # of payments, by effective time
    psi_watch: PositiveFloat = 0.1  # of a feature or the score, and beyond chance
    psi_limit: PositiveFloat = 0.25
    missing_limit: Share = 0.05  # by which the share of missing values may change, beyond chance
    degraded_limit: Share = 0.01  # share of the decisions that were made without the model
    late_after: str = "5m"  # behind a payment that came before
    late_limit: Share = 0.05  # share of the payments that are late
    stale_after: str = "1h"  # the newest payment may be so old
    alerts_per_day: Positive | None = None  # reviews and blocks, on average; no limit without it
    calibration_limit: Annotated[float, Meta(gt=1)] = 1.5  # times more or fewer frauds than the scores say
    precision_limit: Share | None = None  # of alerts whose labels have come, at least
    recall_limit: Share | None = None
    fewest_rows: Positive = 500  # with fewer, drift is not judged
    fewest_frauds: Positive = 30  # with fewer, precision, recall and calibration are not judged

    def __post_init__(self) -> None:
        for text in (self.window, self.late_after, self.stale_after):
            parse_duration_us(text)
        if self.psi_watch > self.psi_limit:
            raise ConfigError(
                "bad_config", f"[monitor] expected psi_watch <= psi_limit, but got {self.psi_watch} > {self.psi_limit}"
            )

    @property
    def late_us(self) -> int:
        """`late_after`, in microseconds."""
        return parse_duration_us(self.late_after)

    @property
    def stale_s(self) -> float:
        """`stale_after`, in seconds."""
        return parse_duration_us(self.stale_after) / SECOND_US


class FilesConfig(Section, frozen=True):
    """How files are read."""

    sort: bool = False  # by effective time, in memory: for a file that is not in order of arrival


class Config(Section, frozen=True):
    """The whole file."""

    features: str | None = None  # a features file; without one, those of a card payment
    bundles: str = "bundles"  # a folder, or the URL of an object store
    trusted_keys: tuple[str, ...] = ()  # public keys, hex: only bundles that one of them has signed are loaded
    table: Schema = msgspec.field(default_factory=payment_schema, name="schema")
    money: Money = Money()
    files: FilesConfig = FilesConfig()
    label: LabelConfig = LabelConfig()
    split: SplitConfig = SplitConfig()
    train: TrainConfig = TrainConfig()
    policy: PolicyConfig = PolicyConfig()
    evaluate: EvaluateConfig = EvaluateConfig()
    retrain: RetrainConfig = RetrainConfig()
    serve: ServeConfig = ServeConfig()
    stream: StreamConfig = StreamConfig()
    ledger: LedgerConfig = LedgerConfig()
    state: StateConfig = StateConfig()
    monitor: MonitorConfig = MonitorConfig()

    def __post_init__(self) -> None:
        if not self.ledger.shared:
            return
        if not self.ledger.url.startswith(_POSTGRES):
            raise ConfigError(
                "bad_config", "[ledger] shared = true needs a url on PostgreSQL: postgresql+psycopg://..."
            )
        if self.state.engine != "redis":
            raise ConfigError(
                "bad_config", '[ledger] shared = true needs a feature state that all share: engine = "redis" in [state]'
            )


def parse_config(text: str, origin: str) -> Config:
    """Return the configuration written in `text` (TOML).

    Raises:
        ConfigError: It is not TOML, or a value is not what it must be; `origin` is named in the message.
    """
    try:
        return msgspec.toml.decode(text, type=Config)
    except msgspec.DecodeError as error:  # its subclass ValidationError names the path
        raise ConfigError("bad_config", f"{origin}: {error}", file=origin) from error


def read_config(path: Path) -> Config:
    """Read `path`, with the paths in it made relative to its folder.

    Raises:
        ConfigError: The file is not there or is wrong.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(
            "no_config",
            f"expected a configuration at {path}: {error.strerror}; name it with --config",
            file=str(path),
        ) from error
    config = parse_config(text, str(path))
    folder = path.parent
    ledger = config.ledger
    prefix = "sqlite:///"
    if ledger.url.startswith(prefix):
        ledger = msgspec.structs.replace(ledger, url=prefix + str(folder / ledger.url.removeprefix(prefix)))
    features = None if config.features is None else str(folder / config.features)
    bundles = config.bundles if is_url(config.bundles) else str(folder / config.bundles)
    return msgspec.structs.replace(config, features=features, bundles=bundles, ledger=ledger)
