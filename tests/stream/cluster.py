"""Topics of a broker as the tests use them: filled, and read as a consumer of committed records reads them."""

import itertools
import json
import time
from typing import NamedTuple

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from tollgate.config import StreamConfig, TopicsConfig

LIMIT_S = 40.0
NOT_YET = (KafkaError.NOT_COORDINATOR, KafkaError.COORDINATOR_NOT_AVAILABLE, KafkaError.COORDINATOR_LOAD_IN_PROGRESS)
_NUMBERS = itertools.count(1)


class Got(NamedTuple):
    """A committed record."""

    key: str | None
    value: dict


class Cluster:
    """The brokers of the tests."""

    def __init__(self, bootstrap):
        self.bootstrap = bootstrap
        self._admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})  # the broker goes before it does

    def topics(self, partitions=2):
        """Make topics of their own for a test, and return how a worker reads and writes them."""
        number = next(_NUMBERS)
        topics = TopicsConfig(**{
            name: f"{name}-{number}" for name in ("transactions", "decisions", "alerts", "dead_letters", "labels")
        })  # fmt: skip
        made = self._admin.create_topics([NewTopic(name, partitions, 1) for name in topics.names])
        for one in made.values():
            one.result(30)
        return StreamConfig(
            bootstrap=self.bootstrap, group=f"group-{number}", topics=topics, poll_ms=20,
            consumer={"session.timeout.ms": 6000, "heartbeat.interval.ms": 500},
        )  # fmt: skip

    def fill(self, topic, values, keys=None, partition=None):
        """Produce values (mappings, bytes or None) and wait until the broker has them."""
        producer = Producer({"bootstrap.servers": self.bootstrap, "linger.ms": 5})
        where = {} if partition is None else {"partition": partition}
        for place, value in enumerate(values):
            body = value if value is None or isinstance(value, bytes) else json.dumps(value).encode()
            producer.produce(topic, body, None if keys is None else keys[place], **where)
        assert producer.flush(30) == 0

    def read(self, topic, count):
        """Return what is committed in a topic, once it is `count` records; it waits a moment for one too many."""
        with_all = {"bootstrap.servers": self.bootstrap, "group.id": "reader", "isolation.level": "read_committed"}
        consumer = Consumer({**with_all, "auto.offset.reset": "earliest", "enable.auto.commit": False})
        try:
            parts = consumer.list_topics(topic, 10).topics[topic].partitions
            consumer.assign([TopicPartition(topic, part, 0) for part in parts])
            got = []
            until = time.monotonic() + LIMIT_S
            while len(got) < count and time.monotonic() < until:
                got += consumer.consume(1000, 0.1)
            got += consumer.consume(1000, 0.3)
            assert not [one.error() for one in got if one.error()]
            return [Got(one.key() and one.key().decode(), json.loads(one.value())) for one in got]
        finally:
            consumer.close()

    def committed(self, settings):
        """Return by partition how far a group has read the transactions.

        Without what is being committed: who asks for stable offsets waits for the transaction that a killed worker left
        open, until the next worker of its name ends it.
        """
        loose = {"isolation.level": "read_uncommitted"}
        consumer = Consumer({"bootstrap.servers": self.bootstrap, "group.id": settings.group, **loose})
        try:
            parts = (
                consumer.list_topics(settings.topics.transactions, 10).topics[settings.topics.transactions].partitions
            )
            found = patiently(consumer, [TopicPartition(settings.topics.transactions, part) for part in parts])
            return {one.partition: max(one.offset, 0) for one in found}
        finally:
            consumer.close()


def patiently(consumer, parts):
    """Return what the group committed; the broker makes a group's coordinator at the first question and refuses it."""
    until = time.monotonic() + LIMIT_S
    while True:
        try:
            return consumer.committed(parts, 10)
        except KafkaException as error:
            if error.args[0].code() not in NOT_YET or time.monotonic() > until:
                raise
            time.sleep(0.1)
