"""Records out: what was decided and how far was read, in one transaction of Kafka, all or nothing."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from confluent_kafka import KafkaException, Producer, TopicPartition

from tollgate.config import StreamConfig
from tollgate.errors import ConfigError, StreamError
from tollgate.stream.failures import CLIENT_LOG, cause_of, failure
from tollgate.stream.record import Outgoing, Place

LOG = logging.getLogger(__name__)

CALL_S = 10.0  # one call to the brokers; what is retriable is then called again
GIVE_UP_S = 60.0  # of calling again: as long as a broker keeps a transaction open by default
_ROOM_S = 0.1  # how long to wait for room in the client's queue


class Outbox:
    """The transactional producer of one worker. One thread uses it."""

    def __init__(self, settings: StreamConfig, stopping: Callable[[], bool], clock_s: Callable[[], float]) -> None:
        """Make a producer that has not asked a broker for anything yet.

        Args:
            settings: `[stream]`.
            stopping: Whether the worker was told to stop: then nothing is tried for long.
            clock_s: A clock that runs on: `time.monotonic`.

        Raises:
            ConfigError: The client does not know a setting.
        """
        self._stopping = stopping
        self._clock_s = clock_s
        try:
            self._producer = Producer(_producer_settings(settings), logger=CLIENT_LOG)
        except KafkaException as error:
            raise ConfigError("bad_config", f"[stream.client], [stream.producer]: {cause_of(error).str()}") from error

    def open(self) -> None:
        """End what an earlier process of the same name left open, and keep it from going on.

        Raises:
            StreamError: No broker answers, or a newer process has the name.
        """
        self._call("begin as a transactional producer", self._producer.init_transactions)

    def send(self, outgoing: Sequence[Outgoing], positions: Mapping[Place, int], group: Any) -> None:
        """Produce records and commit where to go on reading, in one transaction.

        Args:
            outgoing: The records.
            positions: By partition, the offset to go on at.
            group: `Subscription.group`.

        Raises:
            StreamError: It was not committed, or it is not known whether it was: read again from where it began.
        """
        producer = self._producer
        offsets = [TopicPartition(*place, offset) for place, offset in positions.items()]
        begun = False
        try:
            producer.begin_transaction()
            begun = True
            self._produce(outgoing)
            self._call("send the offsets", partial(producer.send_offsets_to_transaction, offsets, group))
            self._call("commit the transaction", producer.commit_transaction)
        except KafkaException as error:
            if begun:
                self._abort()
            raise failure("produce", cause_of(error)) from error
        except StreamError as error:
            if not error.fatal:
                self._abort()
            raise

    def _produce(self, outgoing: Sequence[Outgoing]) -> None:
        produce = self._producer.produce
        for one in outgoing:
            while True:
                try:
                    produce(one.topic, one.value, one.key)
                except BufferError:  # the queue is full: wait for what is on its way
                    self._producer.poll(_ROOM_S)
                else:
                    break

    def _call(self, doing: str, call: Callable[[float], None]) -> None:
        """Call until it goes well, it cannot, or it took too long."""
        until_s = self._clock_s() + GIVE_UP_S
        while True:
            try:
                call(CALL_S)
            except KafkaException as error:
                cause = cause_of(error)
                if not cause.retriable() or self._stopping() or self._clock_s() > until_s:
                    raise failure(doing, cause) from error
                LOG.warning("could not %s yet: %s", doing, cause.str())
            else:
                return

    def _abort(self) -> None:
        """Undo a transaction. One that cannot be undone is for the next process of this name to end."""
        try:
            self._call("abort the transaction", self._producer.abort_transaction)
        except StreamError as error:
            raise StreamError("kafka_failed", error.message, fatal=True) from error


def _producer_settings(settings: StreamConfig) -> dict[str, Any]:
    return {
        **settings.client,
        **settings.producer,
        "bootstrap.servers": settings.bootstrap,
        "transactional.id": settings.member,
        "enable.idempotence": True,
    }
