"""Labels at a server's desk: taken between two batches, bounded, and answered once they are durable."""

import asyncio

import pytest

from deciding import make_scorer, new_scorer, payment, submission
from tollgate.errors import CapacityError, LedgerError
from tollgate.label import Label, LabelSource
from tollgate.serve import desk as desks
from tollgate.serve.batcher import Batcher
from tollgate.serve.desk import AT_ONCE, LabelDesk


@pytest.fixture
def ledger(open_ledger, tmp_path):
    return open_ledger(f"sqlite:///{tmp_path}/ledger.db", "os")


def labels(*numbers):
    return [Label(f"t-{n}", is_fraud=True, source=LabelSource.ANALYST, available_us=n) for n in numbers]


class Counted(list):
    def __call__(self, some, results):
        assert len(some) == len(results)
        self.extend(results)


def at_desk(scorer, work):
    """Run `work(desk, batcher)` in the loop of a server; return what it returns, and what was counted."""
    counted = Counted()

    async def serve():
        batcher = Batcher(scorer, 10_000)
        batcher.start()
        while not scorer.ready:
            await asyncio.sleep(0.01)
        try:
            return await work(LabelDesk(batcher.between, lambda: scorer.ready, counted), batcher)
        finally:
            await batcher.stop()

    return asyncio.run(serve()), counted


def test_a_label_comes_after_the_transactions_that_came_before_it(ledger):
    """Those that were submitted and not decided yet as well: jobs wait for what is under way."""
    answered = []

    async def work(desk, batcher):
        for n in range(40):
            batcher.submit(submission(payment(n)), answered.append)
        while len(answered) < 40:
            await asyncio.sleep(0)
        first = asyncio.ensure_future(desk.take(labels(1), "me"))
        await asyncio.sleep(0)
        batcher.submit(submission(payment(40)), answered.append)
        return await first

    results, counted = at_desk(new_scorer(ledger), work)
    assert results == counted == ["recorded"]
    assert ledger.transactions == 41
    assert [one.after for one in ledger.frauds(0, 41).frauds] == [40]


def test_many_labels_are_recorded_a_few_at_a_time_and_answered_in_order(ledger):
    """Decisions come in between; each label has its own result."""
    count = 2 * AT_ONCE + 3
    make_scorer(ledger).decide([submission(*(payment(n) for n in range(count)))])

    async def work(desk, _batcher):
        return await desk.take([*labels(*range(count)), *labels(count, 0)], "me")

    results, counted = at_desk(new_scorer(ledger), work)
    assert results == ["recorded"] * count + ["unknown_transaction", "known"] == counted
    assert ledger.labels == count


def test_labels_are_shed_when_too_many_wait_or_nobody_decides(ledger, monkeypatch):
    """With codes that say to come again; nothing is recorded later behind the sender's back."""
    monkeypatch.setattr(desks, "MAX_WAITING", 3)
    monkeypatch.setattr(desks, "WAIT_LIMIT_S", 0.05)
    jobs = []
    ready = [True]
    desk = LabelDesk(jobs.append, lambda: ready[0], Counted())

    async def code(*some):
        try:
            await desk.take(labels(*some), "me")
        except CapacityError as error:
            return error.code

    async def both():
        return await asyncio.gather(code(1, 2), code(3, 4))

    assert asyncio.run(both()) == ["not_ready", "overloaded"]
    scorer = make_scorer(ledger)
    scorer.decide([submission(payment(1), payment(2))])
    assert list(jobs[0](scorer)) == []
    assert ledger.labels == 0
    ready[0] = False
    assert asyncio.run(code(1)) == "not_ready"
    assert len(jobs) == 1


def test_a_ledger_that_fails_is_told_to_whoever_sent_the_labels(ledger, monkeypatch):
    """And the server goes on deciding."""

    async def work(desk, batcher):
        answered = []
        with pytest.raises(LedgerError, match="the disk is full"):
            await desk.take(labels(1), "me")
        batcher.submit(submission(payment(1)), answered.append)
        while not answered:
            await asyncio.sleep(0)
        return answered[0]

    def broken(*_):
        raise LedgerError("ledger_failed", "the disk is full")

    monkeypatch.setattr(ledger, "add_labels", broken)
    answer, counted = at_desk(new_scorer(ledger), work)
    assert len(answer) == 1
    assert counted == []
