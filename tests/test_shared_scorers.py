"""Scorers that write one ledger: every client of one id gets the same bytes, whoever of them it asked, and when."""

import random
import threading
from dataclasses import replace

import msgspec
import pytest

from deciding import NOW_US, decide, make_scorer, payment, submission
from tollgate.duration import MINUTE_US
from tollgate.errors import ConflictError, LedgerError
from tollgate.ledger import LEDGER_MOVED, Ledger, SharedLedger
from tollgate.ledger.archive import archive


@pytest.fixture
def url(postgres_server):
    return postgres_server.ledger()


class Held(SharedLedger):
    """A real ledger whose writes wait until they are let go, so that another is first."""

    def __init__(self, *args, **options):
        self.go = threading.Event()
        super().__init__(*args, **options)

    def record(self, group, hashes=None):
        assert self.go.wait(30)
        return super().record(group, hashes)


@pytest.fixture
def late(open_ledger, url):
    """A scorer whose commit comes after those of others, and how to let it go."""
    ledger = open_ledger(url, "os", kind=Held)
    return make_scorer(ledger), ledger.go


@pytest.fixture
def early(open_ledger, url, late):
    return make_scorer(open_ledger(url, "os", kind=SharedLedger))


def overtaken(late, early, mine, theirs):
    """Let `late` decide, and `early` record before it does; return what each answered."""
    scorer, go = late
    results = []
    thread = threading.Thread(target=lambda: results.extend(scorer.decide(mine).results))
    thread.start()
    try:
        before = early.decide(theirs).results
    finally:
        go.set()
        thread.join()
    return results, before


def test_who_comes_second_answers_with_the_first_ones_decision_and_records_the_rest(late, early, open_ledger, url):
    """The bundle in the answer is that of who was first; what only the second had is its own."""
    early.install(replace(early.judge, bundle="early"))
    mine, theirs = overtaken(
        late, early, [submission(payment(0), payment(1)), submission(payment(2))], [submission(payment(1))]
    )
    (first, second), (third,) = mine
    assert second == theirs[0][0]
    assert [msgspec.json.decode(one)["bundle"] for one in (first, second, third)] == ["bundle-1", "early", "bundle-1"]
    with open_ledger(url, write=False) as reader:
        assert sorted(name for name, _, _ in reader.decided()) == ["t-0", "t-1", "t-2"]
    assert decide(late[0], submission(payment(1))) == decide(early, submission(payment(1)))


def test_who_comes_second_with_another_body_is_refused(late, early):
    """As one who comes later is; the others of its batch are decided."""
    mine, _ = overtaken(
        late, early, [submission(payment(3), payment(4, amount=11.0)), submission(payment(5))], [submission(payment(4))]
    )
    refused, decided = mine
    assert isinstance(refused, ConflictError)
    assert (refused.code, refused.where["row"]) == ("conflicting_transaction", 1)
    assert msgspec.json.decode(decided[0])["transaction_id"] == "t-5"
    assert decide(early, submission(payment(5)))[0][0].transaction_id == "t-5"


@pytest.mark.parametrize("seed", range(3))
def test_clients_that_send_the_same_to_several_scorers_get_the_same_bytes(open_ledger, url, seed):
    """Four scorers at once, with all payments in orders of their own, some of them sent twice; each is recorded once."""
    chance = random.Random(seed)
    scorers = [make_scorer(open_ledger(url, "os", kind=SharedLedger)) for _ in range(4)]
    for number, scorer in enumerate(scorers):
        scorer.install(replace(scorer.judge, bundle=f"scorer-{number}"))
    got = [{} for _ in scorers]
    orders = [chance.choices(range(60), k=30) + chance.sample(range(60), k=60) for _ in scorers]
    sizes = [[chance.randint(1, 6) for _ in range(90)] for _ in scorers]

    def run(place):
        rows = list(orders[place])
        while rows:
            size = sizes[place].pop()
            part, rows = rows[:size], rows[size:]
            results = scorers[place].decide([submission(payment(number)) for number in part]).results
            for number, (answer,) in zip(part, results, strict=True):
                assert got[place].setdefault(number, answer) == answer

    threads = [threading.Thread(target=run, args=(place,)) for place in range(len(scorers))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(one == got[0] for one in got)
    assert len(got[0]) == 60
    assert len({msgspec.json.decode(answer)["bundle"] for answer in got[0].values()}) > 1
    with open_ledger(url, write=False) as reader:
        assert reader.transactions == 60
        assert sorted(name for name, _, _ in reader.decided()) == sorted(f"t-{number}" for number in range(60))


def test_a_scorer_learns_from_another_process_how_far_the_ledger_is_archived(early, open_ledger, url, tmp_path):
    """What may have been decided before is refused, though its id is known no more."""
    decide(early, submission(payment(0), payment(5)))
    with open_ledger(url, write=False) as reader:
        archive(reader, NOW_US + MINUTE_US, tmp_path / "archive")
    again, newer = decide(early, submission(payment(0)), submission(payment(6)))
    assert again.code == "archived_transaction"
    assert newer[0].transaction_id == "t-6"


def test_a_scorer_whose_ledger_was_taken_over_loses_its_state_and_recovers(open_ledger, url, postgres_server):
    """Its features have not counted what the other recorded; after recovery they have."""
    ledger = open_ledger(url)
    scorer = make_scorer(ledger)
    decide(scorer, submission(payment(0)))
    schema = url.rsplit("%3D", 1)[1]
    postgres_server.run("SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND objid = "
                        f"(hashtext('{schema}')::bigint & 4294967295)::oid")  # fmt: skip
    with pytest.raises(LedgerError, match="terminating"):
        decide(scorer, submission(payment(1)))
    assert scorer.ready
    while True:
        try:
            other = Ledger(url)
        except LedgerError:
            continue
        break
    with other:
        decide(make_scorer(other), submission(payment(2)))
    with pytest.raises(LedgerError) as caught:
        decide(scorer, submission(payment(3)))
    assert caught.value.code == LEDGER_MOVED
    assert not scorer.ready
    scorer.recover()
    assert scorer.engine.observed == 2
    (one,) = decide(scorer, submission(payment(1)))
    assert one[0].transaction_id == "t-1"
    assert scorer.engine.observed == ledger.transactions == 3
