"""The settings file of `enrich`: from where to where, and how a foreign record becomes a transaction."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from tollgate.errors import ConfigError

_DURATION = re.compile(r"[1-9][0-9]*(ms|s|m)")
# Exactly once, and which record goes where, depend on these.
_OWN = frozenset((
    "bootstrap.servers", "group.id", "enable.auto.commit", "isolation.level", "transactional.id", "enable.idempotence",
    "acks", "transaction.timeout.ms", "key.serializer", "value.serializer", "key.deserializer", "value.deserializer",
))  # fmt: skip

Positive = Annotated[int, Meta(gt=0)]


class Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename={"source": "from"}):
    """A table of the file: an unknown name in it is a mistake."""


class KafkaSettings(Section, frozen=True, rename={"source": "from", "target": "to"}):
    """Where records come from and go to.

    Attributes:
        source: The topic of foreign records.
        target: Tollgate's topic of transactions.
        group: Consumer group, for whoever watches its lag; where to go on is in the checkpoints alone.
        start: Where to begin without a checkpoint.
        client: Settings of Kafka's Java client, for source and sink: security.
    """

    source: str
    target: str
    dead_letters: str
    bootstrap: str = "127.0.0.1:9092"
    group: str = "tollgate-enrich"
    start: Literal["earliest", "latest"] = "earliest"
    # What is open longer is aborted by the broker: a job that is down for longer than this loses what it had written
    # and not committed, so it is as long as a broker allows by default (transaction.max.timeout.ms).
    transaction_timeout_ms: Positive = 900_000
    max_record_bytes: Positive = 2**18  # a longer record is a dead letter
    client: dict[str, str] = {}

    def __post_init__(self) -> None:
        taken = sorted(_OWN & self.client.keys())
        if taken:
            raise ConfigError(
                "bad_config", f"[kafka.client] {', '.join(taken)}: exactly once depends on these, leave them out"
            )
        if len({self.source, self.target, self.dead_letters}) < 3:
            raise ConfigError("bad_config", "[kafka] expected three different topics in from, to and dead_letters")


class FlinkSettings(Section, frozen=True):
    """How the job runs.

    Attributes:
        checkpoints: A folder, or a URL that the cluster's file systems know.
        every: How often. A consumer of committed records sees a record after at most about as long.
    """

    checkpoints: str
    every: str = "1s"
    parallelism: Positive = 1

    def __post_init__(self) -> None:
        if _DURATION.fullmatch(self.every) is None:
            raise ConfigError("bad_config", f"[flink] every: expected a duration such as 500ms or 2s, got {self.every}")


class TableSettings(Section, frozen=True):
    """A static table.

    Attributes:
        file: .csv, .parquet or .jsonl.
        key: The column whose values are looked up; each once.
    """

    file: str
    key: str


class FieldRule(Section, frozen=True, rename={"source": "from", "kind": "as"}):
    """Where one of Tollgate's fields comes from.

    Attributes:
        source: The field of the record; `merchant.id` is `id` in the object `merchant`.
        kind: What to make of it; by default it stays what it is.
        format: Of a time that is a text, as `strptime` has it; without it, it is ISO 8601.
        zone: Of a time without an offset, an IANA zone.
        values: What a value, as text, stands for; one that is not in it is an error.
        default: Where there is none.
        table: Look the value up in this table...
        column: ...and take what this column of it has.
    """

    source: str
    kind: Literal["text", "number", "flag", "time", "seconds", "milliseconds", "microseconds", "minor_units"] | None = (
        None
    )
    format: str | None = None
    zone: str | None = None
    values: dict[str, str] | None = None
    default: str | int | float | bool | None = None
    table: str | None = None
    column: str | None = None

    def __post_init__(self) -> None:
        if not all(self.source.split(".")):
            raise ConfigError("bad_config", f"[fields] from: expected a name or names with dots, got {self.source!r}")
        if (self.format or self.zone) and self.kind != "time":
            raise ConfigError("bad_config", f'[fields] {self.source}: format and zone belong to as = "time"')
        if (self.table is None) != (self.column is None):
            raise ConfigError("bad_config", f"[fields] {self.source}: expected table and column, both or neither")


class Settings(Section, frozen=True):
    """The file.

    Attributes:
        tollgate: Configuration of Tollgate, whose champion says what a transaction is.
        key: The entity by which transactions are keyed.
        fields: By Tollgate's names; a text alone is where the field comes from.
    """

    kafka: KafkaSettings
    flink: FlinkSettings
    fields: dict[str, FieldRule | str]
    tollgate: str = "tollgate.toml"
    key: str = "card_id"
    tables: dict[str, TableSettings] = {}

    @property
    def rules(self) -> dict[str, FieldRule]:
        """The fields, each as a rule."""
        return {name: FieldRule(rule) if isinstance(rule, str) else rule for name, rule in self.fields.items()}


def read_settings(path: Path) -> Settings:
    """Return the settings in a file; what they name is looked for beside it.

    Raises:
        ConfigError: It is not there, no TOML, or a setting is unknown or wrong.
    """
    try:
        return msgspec.toml.decode(path.read_bytes(), type=Settings)
    except OSError as error:
        raise ConfigError("no_config", f"could not read {path}: {error.strerror}", file=str(path)) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ConfigError("bad_config", f"{path}: {error}", file=str(path)) from error
