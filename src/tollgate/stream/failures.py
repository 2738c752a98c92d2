"""What Kafka's client reports, as errors that say what to do."""

from __future__ import annotations

import logging

from confluent_kafka import KafkaError, KafkaException

from tollgate.errors import StreamError

CLIENT_LOG = logging.getLogger("tollgate.stream.client")  # what librdkafka itself says

_FENCED = (KafkaError.FENCED_INSTANCE_ID, KafkaError._FENCED)  # noqa: SLF001  # the client's own name of it
_MOVED = "the group shares its partitions out anew; what was read is read again by whoever has them then"
_ADVICE = {
    KafkaError.ILLEGAL_GENERATION: _MOVED,
    KafkaError.UNKNOWN_MEMBER_ID: _MOVED,
    KafkaError.REBALANCE_IN_PROGRESS: _MOVED,
    KafkaError.TOPIC_AUTHORIZATION_FAILED: "let its user read and write the topics of [stream.topics]",
    KafkaError.GROUP_AUTHORIZATION_FAILED: "let its user read with the group of [stream]",
    KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED: "let its user write with the transactional id GROUP.WORKER",
}


def cause_of(error: KafkaException) -> KafkaError:
    """Return the client's own error object in an exception of its."""
    cause = error.args[0]
    assert isinstance(cause, KafkaError)
    return cause


def failure(doing: str, cause: KafkaError) -> StreamError:
    """Return the error that says what could not be done; it ends the worker where the client cannot go on."""
    if cause.code() in _FENCED:
        return StreamError(
            "fenced",
            f"could not {doing}: another process took the place of this worker; give every worker of a group its own "
            "[stream] worker and its own ledger",
            fatal=True,
        )
    advice = _ADVICE.get(cause.code(), "check that the brokers of [stream] bootstrap run and can be reached")
    return StreamError(
        "kafka_failed", f"could not {doing}: {cause.name()}: {cause.str()}; {advice}", fatal=cause.fatal()
    )
