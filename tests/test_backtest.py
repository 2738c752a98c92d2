"""A back-test says what a rule set would have done, and no more."""

import json

import msgspec
import numpy as np
import pytest

from deciding import PLAN, READER, engine, payment, scores
from tollgate.backtest import backtest, scored
from tollgate.config import PolicyConfig
from tollgate.control import ListEntry, ListKind
from tollgate.decision import Outcome
from tollgate.errors import InputError
from tollgate.files import LabelFields, TransactionFile
from tollgate.lists import Lists
from tollgate.policy import OUTCOMES, Policy
from tollgate.rules import Rule, RuleSet, compile_rules

CONFIG = PolicyConfig(review=0.5, block=0.8)


def rule(name, action, when, mode="live", **changes):
    said = {"name": name, "action": action, "when": when, "mode": mode, "reason": "x", **changes}
    return msgspec.convert(said, Rule)


RULES = (
    rule("large", "block", "tx.amount > 300", limit_per_minute=2),
    rule("often", "review", "card_count_1h >= 3"),
    rule("known", "approve", "tx.amount < 100 and score > 0.2", mode="shadow"),
    rule("gone", "block", "tx.amount > 0", mode="off"),
)


@pytest.fixture
def history(tmp_path):
    """Fifty payments of five cards, every seventh a fraud."""
    rows = [
        payment(3 * n, card_id=f"card-{n % 5}", amount=float((n * 37) % 500)) | {"is_fraud": int(n % 7 == 0)}
        for n in range(50)
    ]
    path = tmp_path / "history.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    return rows, TransactionFile(path, READER, LabelFields("is_fraud", None, 0))


def run(file, before, after, compiled, trained_us=(0, 0)):
    return backtest(scored(file, engine(), scores), compiled, before, after, trained_us, PLAN.money_scale)


def test_each_figure_is_that_of_a_plain_count_over_the_rows(history):
    """Outcomes before and after, and what each rule holds on, alone and beyond the thresholds."""
    rows, file = history
    listed = Lists.of(
        [ListEntry(ListKind.BLOCK, "card_id", "card-3", "x", "ana", 0)], READER.schema, READER.read_entity
    )
    compiled = compile_rules(RuleSet(RULES), PLAN)
    found = run(file, Policy(CONFIG, None, listed), Policy(CONFIG, compiled, listed), compiled)

    batch = READER.from_rows([{k: v for k, v in row.items() if k != "is_fraud"} for row in rows])
    features = engine().observe(batch)
    points = scores(features)[0]
    plain = [OUTCOMES[int(p >= 0.5) + int(p >= 0.8)] for p in points]
    old = Policy(CONFIG, None, listed).judge(batch, features, points, batch.time_us).outcomes
    new = Policy(CONFIG, compiled, listed).judge(batch, features, points, batch.time_us).outcomes
    assert (found.transactions, found.frauds) == (50, 8)
    for matrix, levels in ((found.before, old), (found.after, new)):
        for level, outcome in enumerate(OUTCOMES):
            mine = [row for row, one in zip(rows, levels, strict=True) if one == level]
            tally = matrix[outcome]
            assert (tally.hits, tally.frauds) == (len(mine), sum(row["is_fraud"] for row in mine))
            assert tally.fraud_value == pytest.approx(sum(row["amount"] for row in mine if row["is_fraud"]))
            assert tally.good_value == pytest.approx(sum(row["amount"] for row in mine if not row["is_fraud"]))
    holds = {
        "large": [row["amount"] > 300 for row in rows],
        "often": features[:, PLAN.names.index("card_count_1h")] >= 3,
        "known": [row["amount"] < 100 and point > 0.2 for row, point in zip(rows, points, strict=True)],
    }
    changes = {
        "large": [one is not Outcome.BLOCK for one in plain], "often": [one is Outcome.APPROVE for one in plain],
        "known": [one is not Outcome.APPROVE for one in plain],
    }  # fmt: skip
    assert [one.name for one in found.rules] == list(holds)
    for worth in found.rules:
        alone = np.array(holds[worth.name])
        added = alone & np.array(changes[worth.name])
        fraud = np.array([row["is_fraud"] for row in rows], dtype=bool)
        assert alone.any()
        assert (worth.alone.hits, worth.alone.frauds) == (alone.sum(), (alone & fraud).sum())
        assert (worth.added.hits, worth.added.good) == (added.sum(), (added & ~fraud).sum())
    assert found.rules[0].limited > 0


def test_a_rule_set_that_is_the_published_one_changes_nothing(history):
    """Before and after are the same policy, each with limits of its own."""
    _, file = history
    compiled = compile_rules(RuleSet(RULES), PLAN)
    found = run(file, Policy(CONFIG, compiled), Policy(CONFIG, compiled), compiled)
    assert found.before == found.after


def test_what_the_model_was_trained_on_is_told(history):
    """It scores those payments better than it will score others."""
    _, file = history
    compiled = compile_rules(RuleSet(), PLAN)
    batch = next(file.chunks()).batch
    period = (int(batch.time_us[5]), int(batch.time_us[15]))
    assert run(file, Policy(CONFIG), Policy(CONFIG), compiled, period).trained_on == 10


def test_a_file_without_a_usable_row_is_refused(tmp_path):
    """An empty table of zeros would look like a rule that is harmless."""
    path = tmp_path / "bad.jsonl"
    path.write_text(json.dumps(payment(0, amount=-1.0) | {"is_fraud": 0}))
    file = TransactionFile(path, READER, LabelFields("is_fraud", None, 0))
    with pytest.raises(InputError, match="no row could be used"):
        run(file, Policy(CONFIG), Policy(CONFIG), compile_rules(RuleSet(), PLAN))
