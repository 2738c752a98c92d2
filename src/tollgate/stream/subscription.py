"""Records in: bounded polls, beginning again at what was not committed, and how far behind the worker is."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaException, Message, TopicPartition

from tollgate.config import StreamConfig
from tollgate.errors import ConfigError, StreamError
from tollgate.stream.failures import CLIENT_LOG, cause_of, failure
from tollgate.stream.record import Place, Record, first_offsets

LOG = logging.getLogger(__name__)

LOOK_S = 10.0  # how long a broker may take to say which topics and offsets there are
FETCH_BYTES = 4 * 2**20  # of a partition at a time: several batches, so that a backlog waits for no answer
FULL_MS = 10  # how long nothing is fetched when `max_fetched_kb` are: by default a second, and the worker waits for it
# The same workers have the same partitions whenever they come back, those of labels beside those of transactions of the
# same number; and nobody joins anew before it has given up what it reads, so that no worker's generation changes behind
# a batch. With "cooperative-sticky" a partition on its way from one worker to another is nobody's if the first starts
# again meanwhile: a member with a name gets at once what it was to have, and the second half of the move never comes.
STRATEGY = "range"
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
        self._given: dict[Place, int] = {}  # from where on records were given out that are not committed
        self._back: dict[Place, int | None] = {}  # where to go back to before reading on; None is what is committed
        self._group: Any = None  # as it was asked for since partitions moved or a commit failed
        self._moves = 0  # how often partitions came or went
        self._given_up: set[Place] = set()  # and not yet shared out anew
        try:
            self._consumer = Consumer(_consumer_settings(settings), logger=CLIENT_LOG)
        except KafkaException as error:
            raise ConfigError("bad_config", f"[stream.client], [stream.consumer]: {cause_of(error).str()}") from error

    @property
    def group(self) -> Any:
        """What a transaction needs to commit offsets as this member of the group."""
        if self._group is None:  # asking the client costs as much as deciding a hundred transactions
            self._group = self._consumer.consumer_group_metadata()
        return self._group

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

        Partitions come and go in here and nowhere else: the group waits with them until a batch is done.

        Raises:
            StreamError: The client cannot go on.
        """
        self._go_back()
        try:
            first = self._consumer.poll(self._poll_s)
            if first is None:
                return []
            moves, records = self._moves, self._taken((first,))
            if self._settings.batch > 1:
                records += self._taken(self._consumer.consume(self._settings.batch - 1, 0))
        except KafkaException as error:
            raise failure("poll", cause_of(error)) from error
        if self._moves != moves:  # some are from before partitions moved and some from after it, and none says which
            self._back = dict.fromkeys(self._positions)
        if not self._back:
            return records
        return [one for one in records if (one.topic, one.partition) not in self._back]  # they come again

    def advance(self, positions: Mapping[Place, int]) -> None:
        """Take note of what was committed."""
        for place, offset in positions.items():
            self._given.pop(place, None)
            if place in self._positions:
                self._positions[place] = offset

    def rewind(self) -> None:
        """Give out again, from the next poll on, what was given out and not committed."""
        self._group = None
        self._back.update({place: offset for place, offset in self._given.items() if place not in self._back})

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
        self._consumer.close()

    def _taken(self, messages: Iterable[Message]) -> list[Record]:
        records = [_record(one) for one in messages if one.error() is None or not self._is_error(one)]
        for place, offset in first_offsets(records).items():
            self._given.setdefault(place, offset)
        return records

    def _go_back(self) -> None:
        """Go back where that is due. A partition that cannot, because it is on the move, is tried again.

        Raises:
            StreamError: No broker says what is committed.
        """
        unknown = [place for place, offset in self._back.items() if offset is None]
        if unknown:
            try:
                found = self._consumer.committed([TopicPartition(*place) for place in unknown], LOOK_S)
            except KafkaException as error:
                raise failure("look up committed offsets", cause_of(error)) from error
            # Without a commit nothing was read for good: the whole of it is too much, and not too little.
            self._back |= {_of(one): one.offset if one.offset >= 0 else OFFSET_BEGINNING for one in found}
        for place, offset in tuple(self._back.items()):
            assert offset is not None
            try:
                self._consumer.seek(TopicPartition(*place, offset))
            except KafkaException as error:
                LOG.warning("could not go back in %s[%d] yet: %s", *place, cause_of(error).str())
            else:
                del self._back[place]
                self._given.pop(place, None)

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
            self._positions[_of(one)] = max(one.offset, 0)

    def _is_error(self, message: Message) -> bool:
        error = message.error()
        if error is None:
            return False
        if error.fatal():
            raise failure("poll", error)
        LOG.warning("%s: %s", error.name(), error.str())
        return True

    def _gained(self, _consumer: Consumer, partitions: Sequence[TopicPartition]) -> None:
        gained = [_of(one) for one in partitions]
        LOG.info("partitions gained: %s", _named(gained))
        if lost := self._given_up.difference(gained):
            LOG.warning("%s went to another worker, which starts without the history in this ledger", _named(lost))
        self._given_up.clear()
        self._forget(gained)
        self._positions.update(dict.fromkeys(gained))

    def _gave_up(self, _consumer: Consumer, partitions: Sequence[TopicPartition]) -> None:
        given_up = [_of(one) for one in partitions]
        LOG.info("partitions given up, to be shared out anew: %s", _named(given_up))
        self._given_up.update(given_up)
        self._forget(given_up)

    def _forget(self, places: Iterable[Place]) -> None:
        """Where a partition was read to is of no use once it came or went: it goes on from what is committed."""
        self._moves += 1
        self._group = None
        for place in places:
            for known in (self._positions, self._given, self._back):
                known.pop(place, None)


def _record(message: Message) -> Record:
    topic, partition, offset = message.topic(), message.partition(), message.offset()
    assert topic is not None
    assert partition is not None
    assert offset is not None
    kind, timestamp_ms = message.timestamp()
    return Record(topic, partition, offset, 0 if kind == _NO_TIME else timestamp_ms, message.key(), message.value())


def _of(one: TopicPartition) -> Place:
    return Place(one.topic, one.partition)


def _named(places: Iterable[Place]) -> str:
    return ", ".join(f"{topic}[{partition}]" for topic, partition in sorted(places)) or "none"


def _consumer_settings(settings: StreamConfig) -> dict[str, Any]:
    named = {} if settings.partitions is not None else {"group.instance.id": settings.member}
    return {
        "partition.assignment.strategy": STRATEGY,
        "auto.offset.reset": "earliest",
        "isolation.level": "read_committed",
        "queued.max.messages.kbytes": settings.max_fetched_kb,
        "fetch.queue.backoff.ms": FULL_MS,
        "max.partition.fetch.bytes": FETCH_BYTES,
        **named,
        **settings.client,
        **settings.consumer,
        "bootstrap.servers": settings.bootstrap,
        "group.id": settings.group,
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
    }
