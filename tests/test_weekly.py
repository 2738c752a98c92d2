"""A model for each week learns from what was known when the week began, and from nothing else."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deciding import CARD, READER
from learning import DAY_0, payments
from tollgate.config import Config, PolicyConfig, TrainConfig
from tollgate.duration import DAY_US
from tollgate.errors import InputError
from tollgate.features import tx
from tollgate.features.plan import compile_plan
from tollgate.files import LabelFields, TransactionFile
from tollgate.past import past_of_file
from tollgate.prequential import WEEK_US, by_week
from tollgate.schema import payment_schema
from tollgate.simulate import Scenario, simulate, write
from tollgate.weekly import decide_retrained, known_at

DATA = payments(3000, days=40, delay_days=3)
PLAN = compile_plan([tx.amount, CARD.count(over="1h"), CARD.fraud_count(over="30d")], payment_schema(), 100.0)


@settings(max_examples=25, deadline=None)
@given(st.integers(10, 32), st.integers(0, 5))
def test_nothing_that_came_after_a_week_began_is_learned_from(day, delay_days):
    """Neither a payment of the last delay before it nor a label that was not known; validation is the newest part."""
    start_us = (DAY_0 + day) * DAY_US
    week = (DATA.time_us >= start_us) & (DATA.time_us < start_us + WEEK_US)
    split = known_at(DATA, start_us, week, delay_days * DAY_US, 0.2)
    for part in (split.train, split.validation):
        assert (part.time_us < start_us - delay_days * DAY_US).all()
        assert (part.available_us <= start_us).all()
    usable = (DATA.time_us < start_us - delay_days * DAY_US) & (DATA.available_us <= start_us)
    assert len(split.train) + len(split.validation) == usable.sum()
    assert split.train.time_us.max() < split.validation.time_us.min()
    assert len(split.validation) == pytest.approx(0.2 * usable.sum(), abs=2)
    assert split.test.ids.tolist() == DATA.ids[week].tolist()


def test_a_week_with_nothing_before_it_is_refused():
    """The message says what to do."""
    with pytest.raises(InputError, match="begin later with --since"):
        known_at(DATA, DAY_0 * DAY_US, np.ones(len(DATA), bool), 0, 0.2)


def test_each_week_has_a_model_of_its_own(tmp_path):
    """Weeks from the first to the newest payment are decided, each after its training, and older ones are not."""
    path = tmp_path / "payments.parquet"
    write(simulate(Scenario(transactions=6000, cards=300, merchants=200, days=56, fraud_rate=0.05)), path)
    file = TransactionFile(path, READER, LabelFields("is_fraud", "label_available", 0))
    config = Config(train=TrainConfig(model="lightgbm"), policy=PolicyConfig(choose="cost"))
    (first,) = [chunk.batch.time_us for chunk in file.chunks()]
    since_us = int(first.min()) // DAY_US * DAY_US + 42 * DAY_US
    told = []
    decided = decide_retrained(past_of_file(file), PLAN, config, since_us, training=told.append)
    assert told == [since_us, since_us + WEEK_US]
    assert len(decided.time_us) == (first >= since_us).sum()
    found = by_week(decided, config.policy.costs, since_us=since_us, end_us=int(decided.available_us.max()))
    assert len(found.weeks) == 2
    assert found.total.recall > 0.4
    assert found.total.saved > 0
