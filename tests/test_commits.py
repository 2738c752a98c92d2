"""What is decided and not durable yet: kept in order, written once, known by its ids."""

import numpy as np
import pytest

from tollgate.commits import Commits
from tollgate.errors import LedgerError
from tollgate.ledger import Counts, Group, Ledger


class MoodyLedger(Ledger):
    """A real ledger that fails before or after it has written, when it is told to."""

    fails = None

    def append(self, group, hashes=None):
        if self.fails == "before":
            raise LedgerError("ledger_failed", "disk full")
        super().append(group, hashes)
        if self.fails == "after":
            self._stale = True
            raise LedgerError("ledger_failed", "the disk did not say")


def group(*ids):
    return Group(list(ids), np.arange(len(ids)), [b"{}"] * len(ids), [b"{}"] * len(ids), None, 1, "b", Counts(len(ids)))


@pytest.fixture
def ledger(open_ledger, tmp_path):
    return open_ledger(f"sqlite:///{tmp_path / 'ledger.db'}", kind=MoodyLedger)


@pytest.fixture
def written():
    return []


@pytest.fixture
def commits(ledger, written):
    return Commits(ledger, lambda one: written.append(one.ids))


def add(commits, ledger, *ids):
    commits.add(group(*ids), ledger.hashes(ids))


def test_groups_are_written_in_order_and_their_ids_are_on_their_way_until_then(commits, ledger, written):
    add(commits, ledger, "a", "b")
    add(commits, ledger, "c")
    assert commits.holds(["x", "c"])
    assert not commits.holds(["x"])
    commits.write()
    assert written == [["a", "b"], ["c"]]
    assert not commits.holds(["a", "b", "c"])
    assert set(ledger.find(["a", "b", "c"])) == {"a", "b", "c"}


def test_what_is_refused_is_written_before_what_came_after_it(commits, ledger, written):
    add(commits, ledger, "a")
    ledger.fails = "before"
    with pytest.raises(LedgerError):
        commits.write()
    assert commits.refused
    add(commits, ledger, "b")
    with pytest.raises(LedgerError):
        commits.write()
    ledger.fails = None
    commits.write()
    assert written == [["a"], ["b"]]
    assert ledger.transactions == 2


def test_what_was_durable_although_the_ledger_failed_to_say_so_is_not_written_twice(commits, ledger, written):
    add(commits, ledger, "a")
    ledger.fails = "after"
    with pytest.raises(LedgerError):
        commits.write()
    ledger.fails = None
    add(commits, ledger, "b")
    commits.write()
    assert written == [["a"], ["b"]]
    assert ledger.transactions == 2
