"""Several writers over one ledger and one state: what one of them recorded counts once, whoever dies, whoever starts."""

import contextlib
import random
import threading
import time

import numpy as np
import pytest

from deciding import CARD, PLAN, READER, decide, engine, make_scorer, payment, recovery, submission
from features.shared.test_shared_engine import PAUSE_MS, SHORT_S
from tollgate.decision import Mode
from tollgate.errors import LedgerError, StateError
from tollgate.features import FILLING, FeatureEngine, tx
from tollgate.features.plan import compile_plan
from tollgate.features.shared.engine import SharedEngine
from tollgate.features.shared.servers import Address
from tollgate.label import Label, LabelSource
from tollgate.ledger import ALONE, SharedLedger
from tollgate.recovery import Recovery
from tollgate.shared_recovery import SharedRecovery
from tollgate.steps import run

STREAM = [payment(i, card_id=f"card-{i % 3}", amount=float(i)) for i in range(90)]
LEARNING = compile_plan([tx.amount, *CARD.fraud_count(over=["1h", "7d"]), CARD.count(over="1d")], PLAN.schema, 100.0)


class Replica:
    """A scorer with a name, over a ledger and a state that others use too."""

    def __init__(self, url, server, name, plan=PLAN):
        self.now_s = time.monotonic()
        self._url, self._server, self._name, self._plan = url, server, name, plan
        self.start()

    def start(self):
        self.ledger = SharedLedger(self._url, "os", writer=self._name)
        try:
            self.scorer = make_scorer(self.ledger, remote=self.remote, plan=self._plan)
        except BaseException:
            self.ledger.close()
            raise

    def remote(self, plan):
        return SharedEngine(plan, Address((self._server.url,), timeout_s=SHORT_S), "test", self._name, self._now)

    def _now(self):
        return self.now_s

    def decide(self, *rows):
        return decide(self.scorer, submission(*rows))[0]

    def kill(self):
        """End it as kill -9 does: its connections are gone, and nothing more is said."""
        self.scorer.engine._servers.close()
        self.ledger.close()

    def stop(self):
        """End it as a signal does."""
        self.scorer.close()
        self.ledger.close()


@pytest.fixture
def url(postgres_server):
    return postgres_server.ledger()


@pytest.fixture
def replica(url, server):
    """Starts one more, on an empty server at first."""
    server.client.flushall()
    made = []

    def start(name, plan=PLAN):
        made.append(Replica(url, server, name, plan))
        return made[-1]

    yield start
    for one in made:
        with contextlib.suppress(Exception):
            one.kill()


def features_in(open_ledger, url):
    """What every decision was made with, in order of arrival, and the ids."""
    with open_ledger(url, write=False) as reader:
        rows = [(name, np.frombuffer(features, dtype="<f8")) for name, _, features in reader.decided()]
    return [name for name, _ in rows], np.array([features for _, features in rows])


def next_features(one, number=89, plan=PLAN):
    """The features of a later payment of every card, as a new process would see them; it counts afterwards."""
    rows = [payment(number, transaction_id=f"later-{number}-{card}", card_id=f"card-{card}") for card in range(3)]
    other = one.remote(plan)
    other.resume()
    got = other.observe(READER.from_rows(rows))
    other._servers.close()
    return got


def wanted(rows, number=89, plan=PLAN):
    """The same after some payments, by an engine in memory."""
    memory = FeatureEngine(plan, 2**26)
    memory.observe(READER.from_rows(list(rows)))
    return memory.observe(
        READER.from_rows([payment(number, transaction_id=f"l-{card}", card_id=f"card-{card}") for card in range(3)])
    )


def equal(one, other):
    return np.array_equal(one, other, equal_nan=True)


def test_replicas_that_take_turns_decide_as_one_process_would(replica, open_ledger, url):
    """Whichever of them a payment comes to, its features have seen all before it, and any of them knows its id."""
    replicas = [replica(name) for name in "abc"]
    chance = random.Random(5)
    for row in STREAM:
        (first,) = chance.choice(replicas).decide(row)
        assert chance.choice(replicas).decide(row) == [first]
    ids, features = features_in(open_ledger, url)
    assert ids == [row["transaction_id"] for row in STREAM]
    assert equal(features, engine().observe(READER.from_rows(STREAM)))


def test_an_empty_state_is_filled_once_from_all_that_was_recorded(replica, server, open_ledger, url):
    """Also from what one process decided before; the next to start adds nothing."""
    with open_ledger(url) as alone:
        decide(make_scorer(alone), submission(*STREAM[:20]))
    one = replica("a")
    one.decide(*STREAM[20:40])
    two = replica("b")
    two.decide(*STREAM[40:60])
    one.stop()
    two.stop()
    server.client.flushall()
    three = replica("c")
    assert three.scorer.engine.writers.standing().positions == {ALONE: 60, "c": 60}
    assert equal(next_features(replica("d")), wanted(STREAM[:60]))


@pytest.mark.parametrize("back", ["itself", "another"])
def test_what_a_replica_could_not_apply_before_it_was_killed_is_applied_by_the_next_to_start(
    replica, server, open_ledger, url, back
):
    """It decided without histories while the state was away, and died; the record has what it owes."""
    one, two = replica("a"), replica("b")
    one.decide(*STREAM[:10])
    two.decide(*STREAM[10:20])
    server.client.client_pause(PAUSE_MS, all=True)
    assert {each.mode for each in one.decide(*STREAM[20:30])} == {Mode.DEGRADED}
    one.kill()
    server.client.ping()
    two.now_s += 10.0
    if back == "itself":
        one.start()
    else:
        three = replica("c")
        assert three.scorer.engine.writers.standing().positions.keys() == {ALONE, "b", "c"}
    two.decide(*STREAM[30:40])
    assert equal(next_features(two), wanted(STREAM[:40]))


def test_a_replica_that_ends_well_applies_what_waits_before_it_goes(replica, server):
    """Else it would be missing until another one starts."""
    one, two = replica("a"), replica("b")
    server.client.client_pause(PAUSE_MS, all=True)
    one.decide(*STREAM[:10])
    server.client.ping()
    one.stop()
    assert equal(next_features(two), wanted(STREAM[:10]))


def test_a_replica_that_is_there_is_not_taken_for_one_that_is_gone(replica, server):
    """It owes something and will apply it itself, in its own order."""
    one = replica("a")
    server.client.client_pause(PAUSE_MS, all=True)
    one.decide(*STREAM[:10])
    server.client.ping()
    two = replica("b")
    assert two.scorer.engine.writers.standing().positions == {"a": 0, "b": 0, ALONE: 0}
    one.now_s += 10.0
    one.decide(*STREAM[10:12])
    assert equal(next_features(two), wanted(STREAM[:12]))


def test_a_replica_that_only_ever_comes_second_keeps_its_place(replica, monkeypatch):
    """It has recorded nothing since it started; what it recorded before then is not applied once more."""
    one, two = replica("a"), replica("b")
    one.decide(*STREAM[:10])
    one.stop()
    one.start()
    two.decide(*STREAM[10:12])
    monkeypatch.setattr(one.ledger, "find", lambda *_: {})
    record = one.ledger.record

    def second(group, hashes=None):
        monkeypatch.undo()
        return record(group, hashes)

    monkeypatch.setattr(one.ledger, "record", second)
    one.decide(*STREAM[10:12])
    one.stop()
    assert two.scorer.engine.writers.standing().positions["a"] == 10


def test_a_name_belongs_to_one_process_at_a_time(replica):
    """Two with one name would take each other's record for their own."""
    one = replica("a")
    with pytest.raises(LedgerError, match=r"named 'a' writes.*TOLLGATE_WRITER"):
        replica("a")
    one.stop()
    replica("a")


def test_only_one_starts_at_a_time(replica, open_ledger, url):
    """Two that fill one state at once would count twice; the second waits, and says for what."""
    one = replica("a")
    with one.ledger.starting(), pytest.raises(LedgerError, match="another server brings") as caught:
        replica("b")
    assert caught.value.code == "not_ready"
    replica("b")


@pytest.mark.parametrize("settles", [False, True])
def test_a_filling_that_was_cut_off_goes_on(replica, server, open_ledger, url, settles):
    """Nothing that was applied before it was cut off counts twice."""
    with open_ledger(url) as alone:
        scorer = make_scorer(alone)
        for start in range(0, 60, 6):
            decide(scorer, submission(*STREAM[start : start + 6]))
    ledger = open_ledger(url, "os", kind=SharedLedger, writer="a")

    class CutOffError(Exception):
        pass

    def engine_that_fails(plan):
        made = SharedEngine(plan, Address((server.url,), timeout_s=SHORT_S), "test", "a", time.monotonic)
        settle = made.settle

        def cut():
            if settles:
                settle()
            raise CutOffError

        made.settle = cut
        return made

    with pytest.raises(CutOffError):
        SharedRecovery(PLAN, READER, ledger, engine_that_fails).recover()
    ledger.close()
    two = replica("b")
    assert FILLING not in two.scorer.engine.writers.standing().positions
    assert equal(next_features(two), wanted(STREAM[:60]))


def test_what_is_imported_while_no_replica_runs_is_applied_by_the_first_to_start(replica, open_ledger, url):
    """No writer has it in its name."""
    one = replica("a")
    one.decide(*STREAM[:10])
    one.stop()
    with open_ledger(url) as alone:
        decide(make_scorer(alone), submission(*STREAM[10:20]))
    for name in ("b", "c"):
        two = replica(name)
        assert two.scorer.engine.writers.standing().positions[ALONE] == 20
    assert equal(next_features(two), wanted(STREAM[:20]))


def test_labels_that_one_replica_recorded_are_known_to_all(replica):
    """Once, though each of them hands over what it has heard of; one that starts hears of all."""
    one, two = replica("a", LEARNING), replica("b", LEARNING)
    one.decide(*[payment(i) for i in range(10)])
    two.decide(*[payment(i) for i in range(10, 20)])
    due_us = int(READER.from_rows([payment(15)]).time_us[0])
    for who, number in ((one, 3), (two, 4), (one, 12)):
        label = Label(f"t-{number}", is_fraud=True, available_us=due_us, source=LabelSource.ANALYST)
        run(who.scorer.label([label], "me"))
    for number, who in enumerate((one, two, replica("c", LEARNING)), start=30):
        who.decide(payment(number))
    assert next_features(one, 40, LEARNING)[1, 1:3].tolist() == [3.0, 3.0]


def test_a_state_with_other_features_is_filled_beside_the_one_at_work_and_takes_over(replica, open_ledger, url):
    """As when a bundle with other features is promoted: every replica prepares it, and goes on with it."""
    other = compile_plan([tx.amount, CARD.count(over="30d")], PLAN.schema, 100.0)
    one, two = replica("a"), replica("b")
    one.decide(*STREAM[:10])
    two.decide(*STREAM[10:20])
    prepared = []
    for who in (one, two):
        with open_ledger(url, kind=SharedLedger, writer=who.ledger.writer, write=False) as reader:
            prepared.append(recovery(reader, remote=who.remote, plan=other).recover())
        one.decide(STREAM[20 + len(prepared)])
        two.decide(STREAM[30 + len(prepared)])
    for who, arrivals in zip((one, two), prepared, strict=True):
        recovery(who.ledger, remote=who.remote, plan=other).follow(arrivals)
    want = wanted([*STREAM[:20], STREAM[21], STREAM[31], STREAM[22], STREAM[32]], plan=other)
    assert equal(next_features(one, plan=other), want)


def test_a_state_of_one_writer_and_a_state_of_several_are_not_taken_for_each_other(replica, server, open_ledger, url):
    """Positions in the one mean something else than in the other; where they can be told, one becomes the other."""
    with open_ledger(url) as alone:
        scorer = make_scorer(alone, remote=named(server, "0"))
        decide(scorer, submission(*STREAM[:30]))
        scorer.close()
    one = replica("a")
    one.decide(*STREAM[30:40])
    one.stop()
    assert equal(next_features(one), wanted(STREAM[:40]))
    with open_ledger(url) as alone, pytest.raises(StateError, match="several write this one"):
        Recovery(PLAN, READER, alone, None, named(server, "0")).recover()


def test_a_state_that_writers_of_several_ledgers_filled_is_refused(replica, server):
    """What is missing of which ledger cannot be told."""
    for name in ("0", "1"):
        made = named(server, name)(PLAN)
        made.resume()
        made.observe(READER.from_rows(STREAM[:3]))
        made.close()
    with pytest.raises(StateError, match="writers of several have filled it: 0, 1"):
        replica("a")


def named(server, name):
    return lambda plan: SharedEngine(plan, Address((server.url,), timeout_s=SHORT_S), "test", name, time.monotonic)


def test_replicas_that_race_for_the_same_payments_count_each_once(replica, open_ledger, url):
    """Three at once, all payments in orders of their own: one answer each, one record, one count."""
    replicas = [replica(name) for name in "abc"]
    got = [{} for _ in replicas]

    def work(place):
        rows = STREAM[:60]
        random.Random(place).shuffle(rows := list(rows))
        for start in range(0, 60, 4):
            for row, answer in zip(
                rows[start : start + 4], replicas[place].decide(*rows[start : start + 4]), strict=True
            ):
                got[place][row["transaction_id"]] = answer

    threads = [threading.Thread(target=work, args=(place,)) for place in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert got[0] == got[1] == got[2]
    assert len(got[0]) == 60
    ids, _ = features_in(open_ledger, url)
    assert sorted(ids) == sorted(row["transaction_id"] for row in STREAM[:60])
    counts = next_features(replicas[0])[:, PLAN.names.index("card_count_1h")]
    assert counts.tolist() == [20.0, 20.0, 20.0]
