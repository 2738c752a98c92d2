"""The job `enrich` on a real broker: killed in the middle of a transaction and started again."""

import json
import os
import signal
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from tollgate.bundle import Registry
from tollgate.intake import TransactionReader

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

LIMIT_S = 240.0
PARTITIONS = 2
BATCH = 500
BAD_EVERY = 10
SETTINGS = """
tollgate = "{config}"

[kafka]
bootstrap = "{bootstrap}"
from = "foreign"
to = "enriched"
dead_letters = "refused"

[flink]
checkpoints = "checkpoints"
every = "2s"

[tables.shops]
file = "shops.csv"
key = "shop"

[fields]
transaction_id = "header.id"
effective_time = {{ from = "at", as = "milliseconds" }}
amount = {{ from = "cents", as = "minor_units" }}
currency = {{ from = "ccy", default = "EUR" }}
card_id = "card"
mcc = {{ from = "shop", table = "shops", column = "mcc" }}
"""


class Follower:
    """Reads a topic on and on, and keeps what it got by offset."""

    def __init__(self, bootstrap, topic, isolation):
        self._consumer = Consumer({
            "bootstrap.servers": bootstrap, "group.id": f"follower-{topic}", "isolation.level": isolation,
            "enable.auto.commit": False,
        })  # fmt: skip
        self._consumer.assign([TopicPartition(topic, part, 0) for part in range(PARTITIONS)])
        self.records = []

    def read(self):
        found = self._consumer.consume(10_000, 0.2)
        assert not [one.error() for one in found if one.error()]
        self.records += found
        return len(self.records)

    def close(self):
        self._consumer.close()


class Topics:
    """The topics of the job, what was sent, and who reads along."""

    def __init__(self, bootstrap):
        admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})
        names = ("foreign", "enriched", "refused")
        for one in admin.create_topics([NewTopic(name, PARTITIONS, 1) for name in names]).values():
            one.result(30)
        self.committed = Follower(bootstrap, "enriched", "read_committed")
        self.written = Follower(bootstrap, "enriched", "read_uncommitted")
        self.refused = Follower(bootstrap, "refused", "read_committed")
        self.sent = 0

    def close(self):
        for one in (self.committed, self.written, self.refused):
            one.close()


@pytest.fixture
def topics(cluster):
    """New topics of the broker."""
    made = Topics(cluster.bootstrap)
    yield made
    made.close()


@contextmanager
def enriching(flink, folder):
    """Run the job in a process group of its own, so that all of it can be killed at once."""
    environment, python = flink
    command = [python, "-m", "tollgate_flink", "enrich", "enrich.toml"]
    with Path(folder, "job.log").open("a") as log:
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log, start_new_session=True)
    try:
        yield process
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(30)


def send(cluster, topics, count):
    """Send so many more records, some of which cannot be used, keyed by card."""
    numbers = range(topics.sent, topics.sent + count)
    records = [
        b"{" if number % BAD_EVERY == 0 else {
            "header": {"id": f"t-{number}"}, "at": 1_769_860_800_000 + number, "cents": number, "card": number % 37,
            "shop": "s-1", "unread": "x",
        }
        for number in numbers
    ]  # fmt: skip
    cluster.fill("foreign", records, keys=[str(number % 37) for number in numbers])
    topics.sent += count


def until(condition, folder):
    limit = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < limit, Path(folder, "job.log").read_text()[-4000:]


def test_every_record_is_committed_once_though_the_job_is_killed_inside_a_transaction(
    cluster, flink, scored, topics, tmp_path
):
    """What was written and not committed is never seen, and comes again from the checkpoint; bad records are letters."""
    (tmp_path / "shops.csv").write_text("shop,mcc\ns-1,5411\n")
    (tmp_path / "enrich.toml").write_text(SETTINGS.format(config=scored / "tollgate.toml", bootstrap=cluster.bootstrap))
    send(cluster, topics, BATCH)
    with enriching(flink, tmp_path):
        until(lambda: topics.committed.read() > 0, tmp_path)

        def inside_a_transaction():
            send(cluster, topics, BATCH)
            return topics.written.read() > topics.committed.read() + BATCH // 2

        until(inside_a_transaction, tmp_path)
    written_before = topics.written.read()
    send(cluster, topics, BATCH)
    bad = len(range(0, topics.sent, BAD_EVERY))
    good = topics.sent - bad
    with enriching(flink, tmp_path):
        until(lambda: topics.committed.read() >= good and topics.refused.read() >= bad, tmp_path)
        assert topics.committed.read() == good
        assert topics.refused.read() == bad
    log = (tmp_path / "job.log").read_text()
    assert "beginning at the earliest records" in log
    assert "beginning at file:" in log
    assert topics.written.read() > good, f"{written_before} were written before, and none of them again"
    check(topics, scored)


def check(topics, scored):
    """Each good record is there once, in its card's order, as the champion's reader accepts it; each other has a letter."""
    values = [json.loads(one.value()) for one in topics.committed.records]
    numbers = [int(value["transaction_id"].removeprefix("t-")) for value in values]
    assert sorted(numbers) == [number for number in range(topics.sent) if number % BAD_EVERY]
    of_card = {}
    for record, number in zip(topics.committed.records, numbers, strict=True):
        assert record.key() == str(number % 37).encode()
        of_card.setdefault(record.key(), []).append(number)
    assert all(found == sorted(found) for found in of_card.values())
    manifest = Registry(scored / "bundles").load().manifest
    reader = TransactionReader(manifest.schema_, manifest.money, b"k" * 32)
    batch = reader.from_bodies([one.value() for one in topics.committed.records])
    assert sorted(batch.value("amount").tolist()) == sorted(numbers)
    assert {value["mcc"] for value in values} == {"5411"}
    letters = [json.loads(one.value()) for one in topics.refused.records]
    assert {letter["code"] for letter in letters} == {"invalid_json"}
    assert len({(letter["partition"], letter["offset"]) for letter in letters}) == len(letters)
