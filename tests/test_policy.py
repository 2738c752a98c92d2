"""What counts more than what: lists, rules, thresholds, fallback."""

import itertools
import math

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deciding import PLAN, READER, payment
from tollgate.config import PolicyConfig
from tollgate.control import ListEntry, ListKind
from tollgate.decision import Outcome
from tollgate.hashing import HashKey
from tollgate.lists import Lists
from tollgate.policy import HOLDOUT, OUTCOMES, Policy
from tollgate.rules import Rule, RuleSet, compile_rules

NAN = math.nan
CONFIG = PolicyConfig(review=0.5, block=0.8)
NOW_US = 1_767_225_600_000_000
MINUTE_US = 60_000_000
ACTIONS = ("approve", "review", "block")


def rule(name, action, when="tx.amount > 0", mode="live", **changes):
    said = {"name": name, "action": action, "when": when, "mode": mode, "reason": f"{name} says so", **changes}
    return msgspec.convert(said, Rule)


def policy(*rules, entries=(), config=CONFIG, holdout_key=None):
    compiled = compile_rules(RuleSet(rules), PLAN)
    listed = [ListEntry(kind, "card_id", value, "known", "ana", 0) for kind, value in entries]
    return Policy(config, compiled, Lists.of(listed, READER.schema, READER.read_entity), holdout_key)


def batch(count=1, **changes):
    return READER.from_rows([payment(n, **changes) for n in range(count)])


def judge(one, scores, now_us=NOW_US, **changes):
    """The verdict on as many payments as there are scores (or on one without any)."""
    many = batch(1 if scores is None else len(scores), **changes)
    return one.judge(many, np.zeros((len(many), 4)), None if scores is None else np.array(scores), now_us)


def outcomes(verdict):
    return [OUTCOMES[level].value for level in verdict.outcomes]


PARTS = list(itertools.product([False, True], [False, True], *[[False, True]] * 3, [0.1, 0.5, 0.8, NAN]))


@pytest.mark.parametrize(("on_block", "on_allow", "blocks", "approves", "reviews", "score"), PARTS)
def test_every_combination_of_lists_rules_and_score_is_decided_by_the_strongest(
    on_block, on_allow, blocks, approves, reviews, score
):
    """Block list, allow list, block rules, approve rules, then the more severe of review rules and thresholds."""
    entries = [(kind, "card-1") for kind, on in ((ListKind.BLOCK, on_block), (ListKind.ALLOW, on_allow)) if on]
    made = [rule(action, action) for action, on in zip(ACTIONS, (approves, reviews, blocks), strict=True) if on]
    verdict = judge(policy(*made, entries=entries), [score])
    by_score = "review" if math.isnan(score) else ["approve", "review", "block"][(score >= 0.5) + (score >= 0.8)]
    if on_block:
        want, says = "block", ["list_block"]
    elif on_allow:
        want, says = "approve", ["list_allow"]
    elif blocks:
        want, says = "block", ["rule_block"]
    elif approves:
        want, says = "approve", ["rule_approve"]
    elif reviews and by_score != "block":
        want, says = "review", ["rule_review"]
    else:
        want, says = by_score, []
    assert outcomes(verdict) == [want]
    assert [one.code for one in verdict.reasons.get(0, ())] == says
    assert verdict.degraded.tolist() == [math.isnan(score)]


@given(st.lists(st.one_of(st.floats(0, 1), st.sampled_from([0.5, 0.8, NAN])), max_size=20))
def test_without_lists_and_rules_the_thresholds_decide_and_the_fallback_where_there_is_no_score(scores):
    """A score at a threshold is over it; one missing score degrades one payment."""
    verdict = judge(Policy(msgspec.structs.replace(CONFIG, fallback=Outcome.BLOCK)), scores)
    want = ["block" if math.isnan(s) or s >= 0.8 else "review" if s >= 0.5 else "approve" for s in scores]
    assert outcomes(verdict) == want
    assert verdict.outcomes.dtype == np.int8


def test_without_the_model_rules_that_read_the_score_do_not_hold():
    """Not even through is_missing or fill; lists and the other rules count as always."""
    scored = [rule("a", "block", "score > 0.1"), rule("b", "block", "score.is_missing() or score.fill(1) > 0")]
    verdict = judge(policy(*scored), None)
    assert outcomes(verdict) == ["review"]
    assert verdict.rule_hits == {}
    assert outcomes(judge(policy(*scored, rule("c", "approve")), None)) == ["approve"]
    assert outcomes(judge(policy(*scored, entries=[(ListKind.BLOCK, "card-1")]), None)) == ["block"]
    assert outcomes(judge(policy(*scored), [NAN, 0.2])) == ["review", "block"]


def test_reasons_name_every_rule_that_decided_and_say_its_sentence():
    """In the order of the set; a rule that something stronger overruled is not among them, but its hit is counted."""
    made = policy(rule("one", "block"), rule("two", "block"), rule("three", "review"), rule("four", "approve"))
    verdict = judge(made, [0.1])
    assert [(one.code, one.text) for one in verdict.reasons[0]] == [
        ("rule_one", "one says so"), ("rule_two", "two says so"),
    ]  # fmt: skip
    assert verdict.rule_hits == {(name, "live"): 1 for name in ("one", "two", "three", "four")}


def test_the_reason_of_a_list_says_the_column_and_the_sentence_but_not_the_value():
    """A value may be a card number."""
    verdict = judge(policy(entries=[(ListKind.BLOCK, "card-1")]), [0.1])
    assert verdict.reasons[0][0].text == "card_id is on the block list: known"
    assert verdict.list_hits == {("block", "card_id"): 1}


def test_a_rule_in_shadow_is_counted_and_changes_nothing():
    """Neither outcome nor reasons; one that is off is not even counted."""
    verdict = judge(policy(rule("shy", "block", mode="shadow"), rule("gone", "block", mode="off")), [0.1, 0.6])
    assert outcomes(verdict) == ["approve", "review"]
    assert verdict.reasons == {}
    assert verdict.rule_hits == {("shy", "shadow"): 2}


def test_over_its_limit_a_rule_acts_as_in_shadow_until_the_minute_is_over():
    """The payments beyond it are decided as if the rule were not there, and counted as limited."""
    made = policy(rule("eager", "block", limit_per_minute=3))
    first = judge(made, [0.1] * 5)
    assert outcomes(first) == ["block"] * 3 + ["approve"] * 2
    assert first.rule_hits == {("eager", "live"): 3, ("eager", "limited"): 2}
    assert outcomes(judge(made, [0.1], NOW_US + MINUTE_US - 1)) == ["approve"]
    assert outcomes(judge(made, [0.1], NOW_US + MINUTE_US)) == ["block"]


def test_a_limit_goes_on_where_it_stands_when_the_rules_are_published_anew():
    """Of a rule of the same name; what the new policy uses does not count in the old one."""
    old = policy(rule("eager", "block", limit_per_minute=3))
    judge(old, [0.1] * 2)
    new = policy(rule("eager", "block", limit_per_minute=4), rule("other", "review"))
    new.succeed(old)
    assert outcomes(judge(new, [0.1] * 3)) == ["block", "block", "review"]
    assert outcomes(judge(old, [0.1] * 2)) == ["block", "approve"]


def test_what_something_stronger_decides_does_not_use_up_a_limit():
    """An allow-listed payment on which a block rule holds, and a review rule where the thresholds block."""
    made = policy(
        rule("eager", "block", "score < 0.8", limit_per_minute=1), rule("watch", "review", limit_per_minute=1),
        entries=[(ListKind.ALLOW, "card-1")],
    )  # fmt: skip
    judge(made, [0.1])
    assert outcomes(judge(made, [0.1], card_id="other")) == ["block"]
    judge(made, [0.9], card_id="other")
    assert [one.code for one in judge(made, [0.9, 0.1], card_id="other").reasons.get(1, ())] == ["rule_watch"]


def test_in_a_file_the_minutes_are_those_of_the_payments():
    """One call for a whole chunk gives what calls by the minute would."""
    made = policy(rule("eager", "block", limit_per_minute=1))
    many = READER.from_rows([payment(second) for second in (0, 30, 60, 61, 130)])
    verdict = made.judge(many, np.zeros((5, 4)), np.full(5, 0.1), many.time_us)
    assert outcomes(verdict) == ["block", "approve", "block", "approve", "block"]


def test_the_reasons_of_thresholds_and_of_a_missing_model_are_sentences():
    """For decisions that no feature explains."""
    assert Policy(CONFIG).over_threshold(0.9, Outcome.BLOCK).text == "the score 0.90 is at or above 0.80"
    assert Policy(CONFIG).without_score("model_failed").text == "decided without the model: model_failed"


HELD_OUT = PolicyConfig(review=0.5, block=0.8, holdout=0.25)


def test_a_share_of_what_the_score_blocks_is_let_through_always_the_same():
    """By the id and the key alone; with a reason. What is not blocked, or has no score, is not touched."""
    scores = [0.9] * 2000 + [0.6] * 500
    first = judge(policy(config=HELD_OUT, holdout_key=READER.key), scores)
    out = [row for row, outcome in enumerate(outcomes(first)) if outcome == "approve"]
    assert 425 < len(out) < 575  # 500 are expected; beyond 75 is less likely than one in ten thousand
    assert max(out) < 2000
    assert all(first.reasons[row] == (HOLDOUT,) for row in out)
    assert outcomes(first)[2000:] == ["review"] * 500
    again = judge(policy(config=HELD_OUT, holdout_key=READER.key), scores)
    assert outcomes(again) == outcomes(first)
    other = judge(policy(config=HELD_OUT, holdout_key=HashKey.of(b"x" * 16)), scores)
    assert outcomes(other) != outcomes(first)
    assert set(outcomes(judge(policy(config=HELD_OUT), scores[:2000]))) == {"block"}
    degraded = msgspec.structs.replace(HELD_OUT, fallback=Outcome.BLOCK, holdout=1.0)
    assert set(outcomes(judge(policy(config=degraded, holdout_key=READER.key), [NAN] * 50))) == {"block"}


@pytest.mark.parametrize(
    ("rules", "entries", "expected"),
    [
        ((), [(ListKind.BLOCK, "card-1")], "block"), ((), [(ListKind.ALLOW, "card-1")], "approve"),
        ((rule("hard", "block"),), [], "block"), ((rule("look", "review"),), [], "review"),
        ((rule("fine", "approve"),), [], "approve"),
    ],
)  # fmt: skip
def test_what_people_have_set_counts_more_than_the_hold_out(rules, entries, expected):
    """Lists and rules decide as without it, and then it is not named."""
    everything = msgspec.structs.replace(HELD_OUT, holdout=1.0)
    verdict = judge(policy(*rules, entries=entries, config=everything, holdout_key=READER.key), [0.9, 0.95])
    assert outcomes(verdict) == [expected] * 2
    assert HOLDOUT not in verdict.reasons[0]
