"""Rules hold where plain Python says that they do."""

import math

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deciding import PLAN, READER, engine, payment
from tollgate.errors import ConfigError
from tollgate.features import entity, tx
from tollgate.features.plan import compile_plan, plan_from_data
from tollgate.hashing import category_code
from tollgate.rules import Rule, RuleSet, compile_rules, parse_rules
from tollgate.schema import Column, Kind, Schema, payment_schema
from tollgate.transaction import Batch

NAN = math.nan
CHANNELS = ("ecom", "pos", "atm")


def rule(when, name="r", **changes):
    return msgspec.convert({"name": name, "when": when, "action": "block", "reason": "x", **changes}, Rule)


def rules(*conditions, plan=PLAN):
    return compile_rules(RuleSet(tuple(rule(one, f"r{place}") for place, one in enumerate(conditions))), plan)


def batch_of(rows):
    """A batch with what the oracle's rows say, everything else missing."""
    schema = payment_schema()
    values = np.full((len(schema.values), len(rows)), NAN)
    values[schema.values.index("amount")] = [row["amount"] * 100 for row in rows]
    values[schema.values.index("channel")] = [code(row) for row in rows]
    values[schema.values.index("card_present")] = [row["present"] for row in rows]
    keys = np.ones((len(schema.entities), len(rows)), dtype=np.uint64)
    return Batch(schema, [str(n) for n in range(len(rows))], np.zeros(len(rows), dtype=np.int64), keys, values)


def code(row):
    return NAN if row["channel"] is None else category_code(row["channel"])


def features_of(rows):
    return np.array([[row["amount"], row["count"], row["sum"], code(row)] for row in rows])


def known(*values):
    return not any(math.isnan(value) for value in values)


def either(function):
    """The function of two values, missing where one is."""
    return lambda a, b: function(a, b) if known(a, b) else NAN


AMOUNTS = st.one_of(st.just(NAN), st.integers(-50, 50).map(float))
ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "amount": AMOUNTS, "count": AMOUNTS, "sum": AMOUNTS, "score": st.one_of(st.just(NAN), st.floats(0, 1)),
            "channel": st.sampled_from([None, *CHANNELS]), "present": st.sampled_from([NAN, 0.0, 1.0]),
        }
    ),
    min_size=1, max_size=12,
)  # fmt: skip

# Every expression is a text, and a function from a row to its value.
VARIABLES = st.sampled_from(
    [
        ("tx.amount", lambda row: row["amount"]), ("amount", lambda row: row["amount"]),
        ("card_count_1h", lambda row: row["count"]), ('card.count(over="60m")', lambda row: row["count"]),
        ('card.sum(tx.amount, over="1d")', lambda row: row["sum"]), ("score", lambda row: row["score"]),
    ]
)  # fmt: skip
NUMBERS = st.integers(-20, 20).map(lambda n: (str(n), lambda _row: float(n)))
OPERATIONS = {
    "+": either(lambda a, b: a + b), "-": either(lambda a, b: a - b), "*": either(lambda a, b: a * b),
    "/": either(lambda a, b: a / b if b else NAN),
}  # fmt: skip
COMPARISONS = {
    "<": either(lambda a, b: a < b), "<=": either(lambda a, b: a <= b), ">": either(lambda a, b: a > b),
    ">=": either(lambda a, b: a >= b), "==": either(lambda a, b: a == b), "!=": either(lambda a, b: a != b),
}  # fmt: skip
LOGIC = {
    "&": either(lambda a, b: a and b), "and": either(lambda a, b: a and b), "|": either(lambda a, b: a or b),
    "or": either(lambda a, b: a or b),
}  # fmt: skip


def joined(table):
    def join(left, symbol, right):
        return f"({left[0]} {symbol} {right[0]})", lambda row: table[symbol](left[1](row), right[1](row))

    return join


VALUES = st.recursive(
    VARIABLES,
    lambda inner: st.builds(joined(OPERATIONS), inner, st.sampled_from(list(OPERATIONS)), st.one_of(inner, NUMBERS)),
    max_leaves=4,
)
ATOMS = st.one_of(
    st.builds(joined(COMPARISONS), VALUES, st.sampled_from(list(COMPARISONS)), st.one_of(VALUES, NUMBERS)),
    VALUES.map(lambda one: (f"{one[0]}.is_missing()", lambda row: not known(one[1](row)))),
    st.sampled_from(CHANNELS).map(
        lambda text: (
            f"(channel != '{text}')", lambda row: NAN if row["channel"] is None else row["channel"] != text
        )
    ),
    st.just(
        ("(tx.channel in ('ecom', 'pos'))", lambda row: NAN if row["channel"] is None else row["channel"] != "atm")
    ),
    st.just(("tx.card_present", lambda row: row["present"])),
)  # fmt: skip
CONDITIONS = st.recursive(
    ATOMS,
    lambda inner: st.one_of(
        st.builds(joined(LOGIC), inner, st.sampled_from(list(LOGIC)), inner),
        st.tuples(st.sampled_from(["~", "not "]), inner).map(
            lambda pair: (
                f"({pair[0]}{pair[1][0]})",
                lambda row: NAN if not known(pair[1][1](row)) else not pair[1][1](row),
            )
        ),
    ),
    max_leaves=5,
)


@settings(max_examples=150, deadline=None)
@given(st.lists(CONDITIONS, min_size=1, max_size=3), ROWS)
def test_a_rule_holds_exactly_where_plain_python_says_so(conditions, rows):
    """Missing values, precedence of what is written, and all rules of a set in one call."""
    scores = np.array([row["score"] for row in rows])
    held = rules(*(text for text, _ in conditions)).hold(batch_of(rows), features_of(rows), scores, 0)
    for place, (text, means) in enumerate(conditions):
        scoreless = np.isnan(scores) if "score" in text else np.zeros(len(rows), dtype=bool)
        want = [means(row) is True or means(row) == 1.0 for row in rows]
        assert held[:, place].tolist() == (np.array(want) & ~scoreless).tolist(), text


def test_a_history_in_a_rule_is_the_feature_that_the_model_read():
    """Over a real stream, the rule sees what the engine computed for the payment and nothing newer."""
    batch = READER.from_rows([payment(second, amount=second + 1.0) for second in range(6)])
    features = engine().observe(batch)
    held = rules('card.count(over="1h") >= 3', "card_count_1h >= 3").hold(batch, features, np.zeros(6), 0)
    assert held.tolist() == [[False, False]] * 3 + [[True, True]] * 3


def test_a_condition_with_where_and_a_last_category_find_their_features():
    """Also after the plan has been through JSON, as it is in a bundle."""
    card = entity("card_id")
    made = [
        card.count(over="10m", where=tx.amount < 5), card.last(tx.mcc).category(), card.lag(tx.amount, last=2)[1],
        card.is_new(),
    ]  # fmt: skip
    plan = compile_plan(made, payment_schema(), 100.0)
    plan = plan_from_data(plan.to_data(), plan.schema, 100.0)
    found = rules(
        'card.count(over="10m", where=tx.amount < 5) > 2', 'card.last(tx.mcc) == "5411"', "card.last(tx.mcc) == tx.mcc",
        "card.lag(tx.amount, last=2)[1] > 7", "not card.is_new()", "card_is_new", plan=plan,
    )  # fmt: skip
    batch = READER.from_rows([payment(0, mcc="5411"), payment(1, mcc="1")])
    features = np.array([[3, category_code("5411"), 8, 1], [2, category_code("5411"), 7, 0]])
    held = found.hold(batch, features, np.zeros(2), 0)
    assert held.tolist() == [[True, True, True, True, False, True], [False, True, False, False, True, False]]


def test_a_rule_holds_until_it_expires():
    """By the time that it is given: of the server for all, or of each payment of a file."""
    one = rule("tx.amount > 1", expires="2026-01-01T00:00:01Z")
    document = RuleSet((one,)).encode()
    compiled = compile_rules(parse_rules(document, "here"), PLAN)
    batch = READER.from_rows([payment(0), payment(1)])
    args = batch, np.zeros((2, 4)), np.zeros(2)
    end_us = 1_767_225_601_000_000
    assert compiled.hold(*args, end_us - 1).all()
    assert not compiled.hold(*args, end_us).any()
    assert compiled.hold(*args, batch.time_us).tolist() == [[True], [False]]


def test_columns_that_stand_for_features_never_meet_those_of_the_schema():
    """A user's own column may be called what ours would be."""
    schema = Schema({**payment_schema().columns, "feature_0": Column(Kind.NUMBER)})
    plan = compile_plan([entity("card_id").count(over="1h"), tx.feature_0.named("x")], schema, 100.0)
    compiled = rules("card_count_1h > 1 and tx.feature_0 < 0 and x > 0", plan=plan)
    values = np.full((len(schema.values), 1), NAN)
    values[schema.values.index("feature_0")] = -1.0
    one = Batch(schema, ["a"], np.zeros(1, dtype=np.int64), np.ones((5, 1), dtype=np.uint64), values)
    assert compiled.hold(one, np.array([[2.0, 1.0]]), np.zeros(1), 0).all()


def test_a_rule_that_is_off_is_checked_and_left_out():
    """So that it can be switched on without a surprise."""
    assert compile_rules(RuleSet((rule("tx.amount > 1", mode="off"),)), PLAN).rules == ()
    with pytest.raises(ConfigError, match="rule 'r', when"):
        compile_rules(RuleSet((rule("tx.amont > 1", mode="off"),)), PLAN)
