"""The training pool: which transactions of the ledger count, as what, from when on, and with which features."""

import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deciding import NOW_US, READER, make_scorer, submission
from test_labelling import PLAN, SECOND_US, SOURCES, import_rows, label, recorded, row, take
from tollgate.config import parse_config
from tollgate.duration import DAY_US
from tollgate.errors import ConfigError, InputError
from tollgate.label import LabelSource
from tollgate.ledger import Ledger
from tollgate.pool import Pool

FAR_US = NOW_US + 1000 * DAY_US


@pytest.fixture
def ledger(open_ledger, tmp_path):
    return open_ledger(f"sqlite:///{tmp_path}/ledger.db")


def pool(ledger, text=""):
    return Pool(ledger, PLAN, READER, parse_config(f"[label]\n{text}", "test").label)


def verdicts(ledger, now_us=FAR_US, text=""):
    """By id: fraud or not, and since when that is mature, in days."""
    found = pool(ledger, text).dataset("card_id", now_us)
    days = (found.available_us - NOW_US) / DAY_US
    return dict(zip(found.ids.tolist(), zip(found.is_fraud.tolist(), days.round(6).tolist(), strict=True), strict=True))


@pytest.fixture
def decided(ledger):
    """A ledger with ten decided transactions at the second 0; the last one is blocked."""
    scorer = make_scorer(ledger, plan=PLAN)
    scorer.decide([submission(*(row(n, 0) for n in range(9)), row(9, 0) | {"amount": 90_000.0})])
    return scorer


def test_a_label_counts_when_it_is_mature_and_without_one_a_payment_is_good_when_it_is_old(ledger, decided):
    """Each source has its maturity; until then the transaction is left out, and said so."""
    take(
        decided, [label(0), label(1, source=LabelSource.ANALYST), label(2, is_fraud=False, source=LabelSource.CUSTOMER)]
    )
    assert verdicts(ledger, NOW_US) == {"t-1": (True, 0), "t-2": (False, 0)}
    assert verdicts(ledger, NOW_US + 45 * DAY_US)["t-0"] == (True, 45)
    assert verdicts(ledger)["t-3"] == (False, 90)
    assert verdicts(ledger, text='good_after = "never"').keys() == {"t-0", "t-1", "t-2"}
    assert verdicts(ledger, NOW_US, '[label.maturity]\nchargeback = "0d"\nanalyst = "1d"').keys() == {"t-0", "t-2"}
    some = pool(ledger)
    some.dataset("card_id", NOW_US)
    assert some.left_out == {"immature": 7, "blocked": 1}
    assert some.texts


def test_a_blocked_payment_is_never_good_for_want_of_a_label(ledger, decided):
    """Nobody complains of what was not paid; what somebody says of it counts."""
    assert "t-9" not in verdicts(ledger)
    take(decided, [label(9, source=LabelSource.ANALYST)])
    assert verdicts(ledger)["t-9"] == (True, 0)


def test_the_newest_verdict_counts_and_of_one_moment_that_of_the_strongest_source(ledger, decided):
    """A chargeback that is taken back is good again; an immature label is not replaced by an older one."""
    chargeback, analyst, customer = LabelSource.CHARGEBACK, LabelSource.ANALYST, LabelSource.CUSTOMER
    take(decided, [
        label(0, True, chargeback, 0), label(0, False, chargeback, 9), label(0, True, customer, 4),
        label(1, True, customer, 5), label(1, False, analyst, 5), label(1, True, customer, 2),
        label(2, False, analyst, 0), label(2, True, chargeback, 5),
    ])  # fmt: skip
    found = verdicts(ledger)
    assert [found[f"t-{n}"][0] for n in range(3)] == [False, False, True]
    assert verdicts(ledger, NOW_US + 20 * DAY_US).keys() == {"t-1"}
    early = verdicts(ledger, NOW_US + 4 * SECOND_US)  # what is known later is not looked at
    assert {name: is_fraud for name, (is_fraud, _) in early.items()} == {"t-0": True, "t-1": True, "t-2": False}


def test_without_a_mature_label_there_is_nothing_to_learn_from(ledger, decided):
    """The message says what there is instead."""
    with pytest.raises(InputError, match="9 immature"):
        pool(ledger).dataset("card_id", NOW_US)
    with pytest.raises(ConfigError, match="duration"):
        pool(ledger, 'good_after = "soon"')


@settings(max_examples=30, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 90), st.lists(st.tuples(st.integers(0, 20), st.sampled_from(SOURCES)))), max_size=12
    ),
    st.integers(0, 3),
)
def test_the_training_set_has_the_bits_that_were_decided_on(tmp_path_factory, events, imported):
    """Features of the pool are those that each decision was made on, labels that moved them included."""
    with Ledger(f"sqlite:///{tmp_path_factory.mktemp('pool')}/ledger.db", "os") as ledger:
        import_rows(ledger, range(imported), {0: 5})
        scorer = make_scorer(ledger, plan=PLAN)
        for place, (second, labels) in enumerate(events):
            scorer.decide([submission(row(imported + place, second))])
            take(scorer, [label(number, True, source, second) for number, source in labels])
        if imported or events:
            found = pool(ledger).dataset("card_id", sys.maxsize // 2)
            assert [one.tobytes() for one in found.features[imported:]] == recorded(ledger)
            assert found.features.dtype == np.float64
