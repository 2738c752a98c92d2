"""Conditions as text: what is understood, what is refused, and where an error points."""

import pytest

from deciding import PLAN
from tollgate.errors import ConfigError
from tollgate.rules import Rule, RuleSet, compile_rules


def compiled(when):
    return compile_rules(RuleSet((Rule(name="r", when=when, action="block", reason="x"),)), PLAN)


@pytest.mark.parametrize(
    ("when", "says"),
    [
        ("tx.amout > 5", "at character 1, 'tx.amout': .*no value column 'amout'; did you mean 'amount'"),
        ("tx.amount > 5 and cart.count(over='1h') > 3", "at character 19, 'cart': there is no 'cart'; did you mean"),
        ("amount_sum > 3 or ü > 1", "there is no 'amount_sum'; did you mean 'amount'"),
        ('tx.channel == "é" and carb > 1', "at character 23, 'carb'"),
        ("currency == 'EUR'", "did you mean 'tx.currency'"),
        ("card.total(over='1h') > 3", "there is no 'total' of it; there are: .*count"),
        ("card.count(over='2h') > 3", "no feature of this bundle is 'card_count_2h'.*did you mean 'card_count_1h'"),
        ("card.zscore(tx.amount, over='1d') > 3", "character 1, 'card.zscore.*no feature of this bundle"),
        ("card.count(over='1 hour') > 3", "character 1, 'card.count.*expected a duration"),
        ("card.count(over=5) > 3", "it takes other arguments: over, where, delay"),
        ("card.sum(5, over='1h') > 3", "it takes other arguments: value, over"),
        ("card.lag(tx.amount, last=2) > 3", "choose one, such as"),
        ("card.lag(tx.amount, last=2)[7] > 3", "expected one step of a list"),
        ("tx.amount > 5 & tx.hour_of_day < 6", "put brackets around each comparison"),
        ("(tx.amount > 5) & tx.amount", "put brackets around each comparison"),
        ("tx.amount", "expected a condition"),
        ("card", "expected a condition"),
        ("True", "expected a condition"),
        ("3 > 2", "expected a value and a number or text"),
        ("card > 3", "the entity 'card'"),
        ("tx > 3", "the transaction itself"),
        ("'a' + 'b' > tx.amount", "expected numbers here, but got the text"),
        ("tx.amount > 1 / 0", "division by zero"),
        ("tx.amount > 'x'", "a text can be compared"),
        ("tx.card_id == 'card-1'", "belong on a list: tollgate lists add"),
        ("tx.channel > 3", "'channel' is a category"),
        ("channel > 3", "'channel' is a category"),
        ("tx.channel < 'pos'", "a text can be compared"),
        ("tx.channel in 'pos'", "in brackets"),
        ("tx.channel in ()", "in brackets"),
        ("tx.amount is 3", "expected one of the comparisons"),
        ("tx.amount ** 2 > 4", "expected one of the operators"),
        ("tx.amount > 1e999", "expected a finite number"),
        ("tx.amount > 3j", "expected a finite number"),
        ("tx.amount > None", "expected a finite number"),
        ("tx.local('Mars/Olympus').hour_of_day > 3", "IANA"),
        ("tx.amount >", "cannot be read: invalid syntax"),
        ("tx.channel == '\\d'", "cannot be read"),
        ("", "Expected `str` of length|expected 1 to 2000 characters"),
        (" ", "expected 1 to 2000 characters"),
        ("tx.amount > 1 or " * 130 + "tx.amount > 1", "expected 1 to 2000 characters"),
        ("~" * 60 + "tx.card_present", "at most 400 parts, 40 in each other"),
        ("(" * 300 + "1" + ")" * 300, "cannot be read"),
        ("tx.amount > 0" + " or 0<tx.amount" * 130, "at most 400 parts"),
    ],
)  # fmt: skip
def test_what_cannot_be_understood_is_refused_with_its_place_and_what_is_known(when, says):
    """The rule, the place in the text, what was expected, and the nearest name that there is."""
    with pytest.raises(ConfigError, match=says) as refused:
        compiled(when)
    assert refused.value.message.startswith("rule 'r', when: ")


@pytest.mark.parametrize(
    "when",
    [
        "__import__('os').system('true')", "(lambda: 1)() > 0", "[x for x in tx] == 1", "tx.__class__ == 1",
        "card.__init__(1) > 1", "card.columns == 1", "log1p.__globals__ == 1", "card.count(**tx) > 1",
        "card.count(*tx) > 1", "(y := 3) > tx.amount", "f'{tx}' == tx.channel", "tx.amount if 1 else 2", "{1: 2} == 1",
        "abs.__self__ == 1", "tx.local.__func__ == 1", "entity.__code__ == 1", "score.args == 1", "score.named('x') > 1",
    ],
)  # fmt: skip
def test_nothing_but_the_language_can_be_reached(when):
    """What Python could do beyond it, attributes of its objects above all, is refused."""
    with pytest.raises(ConfigError, match="rule 'r', when: "):
        compiled(when)


@pytest.mark.parametrize(
    "when",
    [
        "tx.card_present", "not tx.card_present", "tx.card_present == True", "channel == 'ecom'",
        "tx.channel in ('ecom', 'pos')", "tx.channel not in ['ecom']", "1 < tx.amount <= 9 and 0 < card_count_1h",
        "card.sum(tx.amount, over='24h') / card.count(over='60m') > 60 * 60", "amount.fill(0) > 1",
        "tx.amount.clip(0, 10) > -5", "abs(tx.amount - 5) < 2 and log1p(tx.amount) > 1", "tx.mcc.is_missing()",
        "haversine_km(tx.location_lat, tx.location_lon, 0, 0) > 100", "tx.local('Europe/Berlin').hour_of_day < 6",
        "tx.currency == tx.country", "tx.amount\n > 5\n and score > 0.5", "(tx.amount > 5) & True",
        "entity('card_id').count(over='1h') > 1",
    ],
)  # fmt: skip
def test_what_a_features_file_can_say_of_one_transaction_a_rule_can_too(when):
    """Columns, clocks, functions, and histories that the plan has, in whatever way they are written."""
    assert len(compiled(when).rules) == 1
