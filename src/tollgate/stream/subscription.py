"""Records in: bounded polls, beginning again at what was not committed, and how far behind the worker is."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from confluent_kafka import Consumer, KafkaException, Message, TopicPartition

from tollgate.config import StreamConfig
from tollgate.errors import ConfigError, StreamError
from tollgate.stream.failures import CLIENT_LOG, cause_of, failure
from tollgate.stream.record import Place, Record

LOG = logging.getLogger(__name__)

LOOK_S = 10.0  # how long a broker may take to say which topics and offsets there are
_NO_TIME = 0  # the client's word for a record without a timestamp


class Subscription:
    """The consumer of one worker. One thread uses it."""

    def __init__(self, settings: StreamConfig) -> None:
        """Make a consumer that has not asked a broker for anything yet.

        Raises:
            ConfigError: The client does not know a setting.
        """
        self._settings = settings
        self._poll_s = settings.poll_ms / 1000
        self._positions: dict[Place, int | None] = {}  # where what is assigned goes on; None is not looked up yet
        self._stale = False  # it has given out records that were not committed
        self._closing = False
        self._consumer = self._made()

    def _made(self) -> Consumer:
        try:
            return Consumer(_consumer_settings(self._settings), logger=CLIENT_LOG)
        except KafkaException as error:
            raise ConfigError("bad_config", f"[stream.client], [stream.consumer]: {cause_of(error).str()}") from error

    @property
    def group(self) -> Any:
        """What a transaction needs to commit offsets as this member of the group."""
        return self._consumer.consumer_group_metadata()

    def open(self) -> None:
        """Join the group, or take the partitions that the settings name.

        Raises:
            StreamError: No broker answers, or a topic is not there.
        """
        settings = self._settings
        try:
            known = self._consumer.list_topics(timeout=LOOK_S).topics
        except KafkaException as error:
            raise failure("ask the brokers for their topics", cause_of(error)) from error
        absent = [name for name in settings.topics.names if name not in known]
        if absent:
            raise StreamError(
                "no_topic", f"expected the topics of [stream.topics], but there is no {', '.join(absent)}; create it"
            )
        if settings.partitions is None:
            self._consumer.subscribe(
                list(settings.topics.read), on_assign=self._gained, on_revoke=self._gave_up, on_lost=self._gave_up
            )
            return
        places = [Place(topic, number) for topic in settings.topics.read for number in settings.partitions]
        absent = [f"{topic}[{number}]" for topic, number in places if number not in known[topic].partitions]
        if absent:
            raise StreamError(
                "no_partition", f"[stream] partitions: expected {', '.join(absent)}, but there is no such partition"
            )
        self._consumer.assign([TopicPartition(*place) for place in places])  # from what the group has committed
        self._positions = dict.fromkeys(places)

    def poll(self) -> list[Record]:
        """Return what has come, at most `batch` records; it waits for `poll_ms` only while there is nothing.

        Raises:
            StreamError: The client cannot go on.
        """
        if self._stale:
            self._begin_again()
        try:
            first = self._consumer.poll(self._poll_s)
            if first is None:
                return []
            messages = [first]
            if self._settings.batch > 1:
                messages += self._consumer.consume(self._settings.batch - 1, 0)
        except KafkaException as error:
            raise failure("poll", cause_of(error)) from error
        records = [_record(one) for one in messages if not self._is_error(one)]
        # A rebalance in the middle of it took partitions away: their records belong to another worker now.
        return [one for one in records if (one.topic, one.partition) in self._positions]

    def advance(self, positions: Mapping[Place, int]) -> None:
        """Take note of what was committed."""
        for place, offset in positions.items():
            if place in self._positions:
                self._positions[place] = offset

    def rewind(self) -> None:
        """Begin again, at the next poll, at what the group has committed: as a process that was killed does."""
        self._stale = True

    def lag(self) -> dict[Place, int]:
        """Return for each partition how many offsets it has that are not committed, as far as that is known."""
        self._look_up()
        lags: dict[Place, int] = {}
        for place, position in self._positions.items():
            low, high = self._consumer.get_watermark_offsets(TopicPartition(*place), cached=True)
            if position is not None and high >= 0:
                lags[place] = max(high - max(position, low, 0), 0)
        return lags

    def close(self) -> None:
        """Leave the group; a member with a name keeps its partitions until its session ends."""
        self._close()

    def _begin_again(self) -> None:
        """Join the group anew: a member with a name has its partitions back without a rebalance.

        So an error takes the way that a crash takes, whatever the group was doing meanwhile.
        """
        self._close()
        self._consumer = self._made()
        self.open()
        self._stale = False

    def _close(self) -> None:
        self._closing = True
        self._consumer.close()
        self._closing = False
        self._positions.clear()

    def _look_up(self) -> None:
        """Find out where partitions go on that are new here and from which nothing has come yet."""
        new = [place for place, position in self._positions.items() if position is None]
        if not new:
            return
        try:
            found = self._consumer.committed([TopicPartition(*place) for place in new], LOOK_S)
        except KafkaException as error:
            LOG.warning("could not look up committed offsets: %s", cause_of(error).str())
            return
        for one in found:
            self._positions[Place(one.topic, one.partition)] = max(one.offset, 0)

    def _is_error(self, message: Message) -> bool:
        error = message.error()
        if error is None:
            return False
        if error.fatal():
            raise failure("poll", error)
        LOG.warning("%s: %s", error.name(), error.str())
        return True

    def _gained(self, _consumer: Consumer, partitions: Sequence[TopicPartition]) -> None:
        LOG.info("partitions gained: %s", _named(partitions))
        for one in partitions:
            self._positions[Place(one.topic, one.partition)] = None

    def _gave_up(self, _consumer: Consumer, partitions: Sequence[TopicPartition]) -> None:
        if not self._closing:
            LOG.warning(
                "partitions given up: %s; their next worker starts without the history in this ledger",
                _named(partitions),
            )
        for one in partitions:
            self._positions.pop(Place(one.topic, one.partition), None)


def _record(message: Message) -> Record:
    topic, partition, offset = message.topic(), message.partition(), message.offset()
    assert topic is not None
    assert partition is not None
    assert offset is not None
    kind, timestamp_ms = message.timestamp()
    return Record(topic, partition, offset, 0 if kind == _NO_TIME else timestamp_ms, message.key(), message.value())


def _named(partitions: Sequence[TopicPartition]) -> str:
    return ", ".join(f"{one.topic}[{one.partition}]" for one in partitions) or "none"


def _consumer_settings(settings: StreamConfig) -> dict[str, Any]:
    named = {} if settings.partitions is not None else {"group.instance.id": settings.member}
    return {
        "partition.assignment.strategy": "cooperative-sticky",
        "auto.offset.reset": "earliest",
        "isolation.level": "read_committed",
        "queued.max.messages.kbytes": settings.max_fetched_kb,
        **named,
        **settings.client,
        **settings.consumer,
        "bootstrap.servers": settings.bootstrap,
        "group.id": settings.group,
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
    }
