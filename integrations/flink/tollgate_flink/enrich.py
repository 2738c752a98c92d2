"""The job `enrich`: foreign records of a Kafka topic become Tollgate's transactions, exactly once.

One sink writes transactions and dead letters, so that both are committed together with the offsets in one checkpoint.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import pandas as pd
from pyflink.table import DataTypes, EnvironmentSettings, TableEnvironment
from pyflink.table.udf import FunctionContext, ScalarFunction, udf

from tollgate.intake import TransactionReader
from tollgate.money import Money
from tollgate.schema import TRANSACTION_ID, Schema
from tollgate.stream.record import Outgoing, Record
from tollgate_flink.cleaning import Cleaning, admission_of
from tollgate_flink.environment import configuration
from tollgate_flink.mapping import FieldMapping, Tables
from tollgate_flink.settings import KafkaSettings, Settings

_KEY_BYTES = 32
_BUNDLE_MS = "100"  # Flink hands over to Python at least so often: a part of the latency
_OUT = DataTypes.ROW([
    DataTypes.FIELD("record_key", DataTypes.BYTES()),
    DataTypes.FIELD("body", DataTypes.BYTES()),
    DataTypes.FIELD("topic", DataTypes.STRING()),
    DataTypes.FIELD("timestamp_ms", DataTypes.BIGINT()),
])  # fmt: skip
_READ = "SELECT record_key, body, `partition`, `offset`, CAST(moment AS TIMESTAMP(3)) AS moment FROM foreign_records"
_WRITE = "INSERT INTO cleaned_records SELECT record_key, body, topic, TO_TIMESTAMP_LTZ(timestamp_ms, 3) FROM cleaned"


@dataclass(frozen=True, slots=True)
class Target:
    """What a transaction is, from the champion and the configuration of Tollgate.

    Attributes:
        schema: JSON of the champion's schema.
        money: JSON of its money.
        guarded: Columns in which raw card numbers are refused; None lets them through.
        hide: Whether dead letters are without what looks like one.
        max_ahead_us: A transaction further ahead of the clock is refused.
    """

    schema: bytes
    money: bytes
    guarded: tuple[str, ...] | None
    hide: bool
    max_ahead_us: int

    @classmethod
    def of(cls, schema: Schema, money: Money, pan: str, columns: tuple[str, ...] | None, max_ahead_us: int) -> Target:
        """Make the target; `pan` and `columns` are those of `[serve]`."""
        every = (TRANSACTION_ID, *schema.entities) if columns is None else columns
        return cls(
            msgspec.json.encode(schema), msgspec.json.encode(money), every if pan == "refuse" else None,
            pan != "allow", max_ahead_us,
        )  # fmt: skip

    def cleaning(self, settings: Settings, tables: Tables) -> Cleaning:
        """Return what makes transactions.

        Raises:
            ConfigError: The settings do not fit the schema.
        """
        schema = msgspec.json.decode(self.schema, type=Schema)
        money = msgspec.json.decode(self.money, type=Money)
        reader = TransactionReader(schema, money, secrets.token_bytes(_KEY_BYTES))  # hashes are not kept
        kafka = settings.kafka
        return Cleaning(
            FieldMapping(settings.rules, tables, schema), reader,
            admission_of(reader, self.guarded, lambda: time.time_ns() // 1000, self.max_ahead_us), settings.key,
            (kafka.target, kafka.dead_letters), kafka.max_record_bytes, hide=self.hide,
        )  # fmt: skip


class _Clean(ScalarFunction):
    """Cleaning as Flink calls it: on columns of a batch."""

    def __init__(self, settings: bytes, tables: Tables, target: Target) -> None:
        self._settings = settings
        self._tables = tables
        self._target = target

    def open(self, function_context: FunctionContext) -> None:  # noqa: ARG002  # Flink's
        settings = msgspec.json.decode(self._settings, type=Settings)
        self._topic = settings.kafka.source
        self._cleaning = self._target.cleaning(settings, self._tables)

    def eval(self, frame: pd.DataFrame) -> pd.DataFrame:
        records = list(_records(self._topic, frame))
        return _frame(records, self._cleaning.clean(records))


def _records(topic: str, frame: pd.DataFrame) -> Iterator[Record]:
    # By place: Flink does not keep the names of the columns.
    keys, values, partitions, offsets, moments = (frame.iloc[:, place] for place in range(5))
    times_ms = moments.astype("datetime64[ms]").astype("int64")
    columns = (keys, values, partitions.astype("int64"), offsets.astype("int64"), times_ms)
    for key, value, partition, offset, time_ms in zip(*(column.tolist() for column in columns), strict=True):
        yield Record(topic, partition, offset, time_ms, key, value)


def _frame(records: Sequence[Record], produced: Sequence[Outgoing]) -> pd.DataFrame:
    return pd.DataFrame({
        "record_key": pd.Series([one.key for one in produced], dtype=object),
        "body": pd.Series([one.value for one in produced], dtype=object),
        "topic": pd.Series([one.topic for one in produced], dtype=object),
        "timestamp_ms": pd.Series([one.timestamp_ms for one in records], dtype="int64"),
    })  # fmt: skip


def run(
    settings: Settings, tables: Tables, target: Target, connector: str, checkpoints: str, resume: str | None, name: str
) -> None:
    """Run the job until it is stopped, or hand it to the cluster that `flink run` names.

    Args:
        settings: Of the job.
        tables: The rows of its static tables; they go along with the job.
        target: What a transaction is.
        connector: URL of the Kafka connector's jar.
        checkpoints: URL of the folder of checkpoints.
        resume: URL of a checkpoint to go on at; None begins where `[kafka] start` says.
        name: Of the job. The names of its Kafka transactions begin with it: not two jobs at once under one name.
    """
    target.cleaning(settings, tables)  # a mistake in the settings shows here, not in a worker
    config = {
        "pipeline.name": name,
        "pipeline.jars": connector,
        "parallelism.default": str(settings.flink.parallelism),
        "execution.checkpointing.mode": "EXACTLY_ONCE",
        "execution.checkpointing.interval": settings.flink.every,
        "execution.checkpointing.dir": checkpoints,
        "execution.checkpointing.externalized-checkpoint-retention": "RETAIN_ON_CANCELLATION",
        "python.fn-execution.bundle.time": _BUNDLE_MS,
    }
    if resume is not None:
        config["execution.state-recovery.path"] = resume
    environment = TableEnvironment.create(
        EnvironmentSettings.new_instance().in_streaming_mode().with_configuration(configuration(config)).build()
    )
    environment.get_config().set_local_timezone("UTC")
    environment.execute_sql(_source(settings.kafka))
    environment.execute_sql(_sink(settings.kafka, name))
    clean = udf(_Clean(msgspec.json.encode(settings), tables, target), result_type=_OUT, func_type="pandas")
    environment.create_temporary_view("cleaned", environment.sql_query(_READ).map(clean))
    environment.execute_sql(_WRITE).wait()


def _source(kafka: KafkaSettings) -> str:
    options = {
        "topic": kafka.source,
        "properties.group.id": kafka.group,
        "properties.isolation.level": "read_committed",
        "scan.startup.mode": f"{kafka.start}-offset",
        **_shared(kafka),
    }
    return f"""
        CREATE TABLE foreign_records (
            record_key BYTES, body BYTES, `partition` INT METADATA VIRTUAL, `offset` BIGINT METADATA VIRTUAL,
            moment TIMESTAMP_LTZ(3) METADATA FROM 'timestamp' VIRTUAL
        ) WITH ({_options(options)})"""


def _sink(kafka: KafkaSettings, name: str) -> str:
    options = {
        "topic": f"{kafka.target};{kafka.dead_letters}",
        "properties.transaction.timeout.ms": str(kafka.transaction_timeout_ms),
        "sink.delivery-guarantee": "exactly-once",
        "sink.transactional-id-prefix": name,
        **_shared(kafka),
    }
    return f"""
        CREATE TABLE cleaned_records (
            record_key BYTES, body BYTES, topic STRING METADATA, moment TIMESTAMP_LTZ(3) METADATA FROM 'timestamp'
        ) WITH ({_options(options)})"""


def _shared(kafka: KafkaSettings) -> dict[str, str]:
    client = {f"properties.{name}": value for name, value in kafka.client.items()}
    return {
        "connector": "kafka",
        "properties.bootstrap.servers": kafka.bootstrap,
        "key.format": "raw",
        "key.fields": "record_key",
        "value.format": "raw",
        "value.fields-include": "EXCEPT_KEY",
        **client,
    }


def _options(options: Mapping[str, Any]) -> str:
    quoted = {name: str(value).replace("'", "''") for name, value in options.items()}
    return ", ".join(f"'{name}' = '{value}'" for name, value in quoted.items())
