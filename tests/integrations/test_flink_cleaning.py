"""Foreign records become transactions or dead letters; none of this needs Flink."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tollgate.duration import DAY_US
from tollgate.errors import ConfigError, InputError
from tollgate.intake import TransactionReader
from tollgate.money import EXPONENTS, DatedRates, Money
from tollgate.schema import Column, Kind, Schema, payment_schema
from tollgate.stream.record import Record
from tollgate_flink.cleaning import Cleaning, admission_of
from tollgate_flink.mapping import FieldMapping
from tollgate_flink.settings import FieldRule, TableSettings, read_settings
from tollgate_flink.tables import read_tables

NOW_US = 1_769_860_800_000_000
MONEY = Money("EUR", (DatedRates(datetime(2020, 1, 1, tzinfo=UTC).date(), {"JPY": 0.006, "KWD": 3.0}),))
RULES = {
    "transaction_id": FieldRule("id"),
    "effective_time": FieldRule("at", kind="milliseconds"),
    "amount": FieldRule("minor", kind="minor_units"),
    "currency": FieldRule("ccy", default="EUR"),
    "card_id": FieldRule("card.token"),
    "mcc": FieldRule("shop", table="shops", column="mcc"),
    "channel": FieldRule("entry", values={"81": "ecom"}),
    "card_present": FieldRule("present", kind="flag"),
}
LOCAL_TIMES = datetime(1971, 1, 1), datetime(2190, 1, 1)  # noqa: DTZ001  # they have no zone
TABLES = {"shops": {"7": {"mcc": "5411"}}}
SOUND = {"id": "t-1", "at": NOW_US // 1000, "minor": 1234, "card": {"token": "c-1"}}


def mapping(**rules):
    return FieldMapping(RULES | rules, TABLES, payment_schema())


def cleaning(*, guarded=("card_id",), max_record_bytes=1000):
    reader = TransactionReader(payment_schema(), MONEY, b"k" * 32)
    admission = admission_of(reader, guarded, lambda: NOW_US, DAY_US)
    return Cleaning(
        mapping(), reader, admission, "card_id", ("good", "bad"), max_record_bytes, hide=guarded is not None
    )


def record(value, offset=0, key=b"k"):
    body = value if value is None or isinstance(value, bytes) else json.dumps(value).encode()
    return Record("raw", 1, offset, 5, key, body)


def cleaned(*values):
    return cleaning().clean([record(value, offset) for offset, value in enumerate(values)])


def test_a_record_is_renamed_cast_completed_and_keyed_by_card():
    """Every kind of rule at once; what there is no value for is left out."""
    (one,) = cleaned(SOUND | {"shop": 7, "entry": 81, "present": "0", "unread": [1]})
    assert (one.topic, one.key) == ("good", b"c-1")
    assert json.loads(one.value) == {
        "transaction_id": "t-1", "effective_time": "2026-01-31T12:00:00Z", "amount": 12.34, "currency": "EUR",
        "card_id": "c-1", "mcc": "5411", "channel": "ecom", "card_present": False,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("value", "code"),
    [
        (None, "no_value"),
        (b"{", "invalid_json"),
        (b"[]", "invalid_json"),
        (b"[" * 900, "invalid_json"),
        (b"\xff{}", "invalid_json"),
        (b" " * 1001, "record_too_large"),
        ({}, "missing_field"),
        (SOUND | {"minor": "x"}, "wrong_type"),
        (SOUND | {"minor": 1.5}, "bad_amount"),
        (SOUND | {"minor": -1}, "bad_amount"),
        (SOUND | {"ccy": "XYZ"}, "unknown_currency"),
        (SOUND | {"ccy": "USD"}, "no_rate"),
        (SOUND | {"entry": "82"}, "unknown_value"),
        (SOUND | {"present": "perhaps"}, "wrong_type"),
        (SOUND | {"at": "soon"}, "wrong_type"),
        (SOUND | {"at": 2 * NOW_US // 1000}, "time_ahead"),
        (SOUND | {"id": ""}, "missing_field"),
        (SOUND | {"card": "c-1"}, "missing_field"),
        (SOUND | {"card": {"token": "4111 1111 1111 1111"}}, "raw_pan"),
    ],
)
def test_what_cannot_be_used_is_a_dead_letter_that_says_why_and_where_it_is(value, code):
    """Between two good ones, which it does not disturb."""
    before, letter, after = cleaned(SOUND, value, SOUND | {"id": "t-2"})
    assert (before.topic, letter.topic, after.topic) == ("good", "bad", "good")
    found = json.loads(letter.value)
    assert (found["code"], found["topic"], found["partition"], found["offset"]) == (code, "raw", 1, 1)
    assert letter.key == b"k"


def test_no_raw_card_number_is_in_a_dead_letter_nor_its_key():
    """A topic of foreign records may be keyed by what should not be passed on."""
    number = "4111111111111111"
    (letter,) = cleaning().clean([record(SOUND | {"card": {"token": number}}, key=number.encode())])
    assert letter.topic == "bad"
    assert number.encode() not in letter.value + letter.key


def test_card_numbers_pass_where_tollgate_lets_them():
    """`[serve] pan` is for both ways in."""
    number = "4111111111111111"
    (one,) = cleaning(guarded=None).clean([record(SOUND | {"card": {"token": number}})])
    assert (one.topic, one.key) == ("good", number.encode())


def test_nothing_comes_of_nothing():
    """An empty batch is a batch."""
    assert cleaned() == []


@given(st.integers(0, 10**10), st.sampled_from(["EUR", "JPY", "KWD"]))
def test_minor_units_come_back_exactly(minor, currency):
    """What Tollgate's reader makes of the amount, in the same currency, is the whole number that came."""
    made = mapping().fields(SOUND | {"minor": minor, "ccy": currency})["amount"]
    assert Money(currency).to_minor(json.loads(json.dumps(made)), currency, NOW_US) == minor
    assert made == minor / 10 ** EXPONENTS[currency]


@given(st.datetimes(*LOCAL_TIMES))
def test_a_local_time_becomes_the_moment_that_python_finds(moment):
    """In any year, with any fraction of a second, on both sides of a change of the clock."""
    rule = FieldRule("at", kind="time", format="%d.%m.%Y %H:%M:%S.%f", zone="Europe/Berlin")
    text = moment.strftime("%d.%m.%Y %H:%M:%S.%f")
    made = mapping(effective_time=rule).fields(SOUND | {"at": text})["effective_time"]
    assert datetime.fromisoformat(made) == moment.replace(tzinfo=ZoneInfo("Europe/Berlin")).astimezone(UTC)


def test_a_time_goes_into_the_unit_of_the_schema():
    """A schema whose times are numbers gets a number."""
    columns = payment_schema().columns | {"effective_time": Column(Kind.TIMESTAMP, required=True, unit="s")}
    made = FieldMapping(RULES, TABLES, Schema(columns)).fields(SOUND | {"at": NOW_US // 1000 + 500})
    assert made["effective_time"] == NOW_US / 1e6 + 0.5


def test_a_time_that_does_not_match_its_format_is_named():
    """With the foreign name in the message and ours as the column."""
    rule = FieldRule("at", kind="time", format="%d.%m.%Y")
    with pytest.raises(InputError, match=r"'at': expected a time such as %d\.%m\.%Y") as caught:
        mapping(effective_time=rule).fields(SOUND | {"at": "2026-01-31"})
    assert caught.value.where["column"] == "effective_time"


@pytest.mark.parametrize(
    ("rules", "words"),
    [
        ({"card": FieldRule("x")}, "card: the champion's schema reads"),
        ({"mcc": FieldRule("shop", table="no", column="mcc")}, "expected a table of shops"),
        ({"mcc": FieldRule("x", kind="minor_units")}, "minor_units are of money"),
        ({"mcc": FieldRule("x", kind="seconds")}, "of a timestamp, and this is category"),
        ({"effective_time": FieldRule("at", kind="time", zone="Mars/Base")}, "IANA time zone"),
    ],
)
def test_rules_that_do_not_fit_the_schema_are_refused_at_once(rules, words):
    """Before any record comes."""
    with pytest.raises(ConfigError, match=words):
        mapping(**rules)


def test_a_field_that_the_schema_requires_has_to_be_mapped():
    """Else every record would be a dead letter."""
    with pytest.raises(ConfigError, match="requires card_id"):
        FieldMapping({name: rule for name, rule in RULES.items() if name != "card_id"}, TABLES, payment_schema())


def test_the_key_is_an_entity_of_the_schema():
    """Not the amount, say."""
    reader = TransactionReader(payment_schema(), MONEY, b"k" * 32)
    with pytest.raises(ConfigError, match="key: expected an entity"):
        Cleaning(mapping(), reader, admission_of(reader, None, lambda: 0, 0), "amount", ("a", "b"), 1, hide=True)


@pytest.mark.parametrize(
    ("content", "words"),
    [("k,mcc\n1,5411\n1.0,5812\n", None), ("k,mcc\n1,5411\n1,5812\n", "'1' came twice"), ("k\n1\n", "has no mcc")],
)
def test_a_table_has_each_key_once_and_the_columns_that_rules_take(tmp_path, content, words):
    """As text: a table in CSV has no numbers."""
    (tmp_path / "shops.csv").write_text(content)
    tables = {"shops": TableSettings("shops.csv", "k")}
    if words is None:
        assert read_tables(tables, RULES, tmp_path)["shops"] == {"1": {"mcc": "5411"}, "1.0": {"mcc": "5812"}}
        return
    with pytest.raises(ConfigError, match=words):
        read_tables(tables, RULES, tmp_path)


EXAMPLE = Path(__file__).parents[2] / "integrations" / "flink" / "enrich.example.toml"
FILE = """
[kafka]
from = "a"
to = "b"
dead_letters = "c"

[flink]
checkpoints = "checkpoints"

[fields]
transaction_id = "id"
"""


def test_settings_are_read_with_their_defaults(tmp_path):
    """A text alone is a rule."""
    path = tmp_path / "enrich.toml"
    path.write_text(FILE)
    settings = read_settings(path)
    assert settings.rules == {"transaction_id": FieldRule("id")}
    assert settings.kafka.start == "earliest"
    assert timedelta(milliseconds=settings.kafka.transaction_timeout_ms) == timedelta(minutes=15)


def test_the_example_fits_a_card_payment():
    """Whoever copies it has a file that works."""
    settings = read_settings(EXAMPLE)
    tables = {name: {} for name in settings.tables}
    made = FieldMapping(settings.rules, tables, payment_schema()).fields({"cents": 5, "booked": "31.01.2026 13:00:00"})
    assert made == {"amount": 0.05, "currency": "EUR", "effective_time": "2026-01-31T12:00:00Z"}


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('to = "b"', 'to = "a"', "three different topics"),
        ('"checkpoints"', '"checkpoints"\nevery = "1h"', "a duration such as"),
        ("[flink]", '[kafka.client]\nacks = "1"\n[flink]', "acks: exactly once depends"),
        ('"id"', '{ from = "id", zone = "UTC" }', "format and zone belong"),
        ('"id"', '{ from = "id", table = "t" }', "table and column"),
        ('"id"', '{ from = "a..b" }', "names with dots"),
        ('from = "a"', 'form = "a"', "form"),
    ],
)
def test_a_mistake_in_the_settings_is_said(tmp_path, old, new, words):
    """With the table that it is in."""
    path = tmp_path / "enrich.toml"
    path.write_text(FILE.replace(old, new, 1))
    with pytest.raises(ConfigError, match=words):
        read_settings(path)
