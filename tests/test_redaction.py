"""What is logged holds no credentials, no card numbers and no hidden columns, however deep they lie."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tollgate.control import Scope
from tollgate.keys import new_key
from tollgate.redaction import CARD_NUMBER, MAX_DEPTH, MAX_ITEMS, MAX_TEXT, REMOVED, redact, redact_text

TOKEN, KEY = new_key("shop", [Scope.SCORE], 1.0, 0, lambda size: bytes(range(200, 200 + size)))
SECRET = TOKEN.rpartition(f"{KEY.id}_")[2]
CARD = "4111111111111111"
texts = st.text("ab 0,:=\n\"'{}", max_size=40)


def wrapped(value, depth):
    for level in range(depth):
        value = [value] if level % 2 else {"x": value}
    return value


@given(texts, texts, st.integers(0, MAX_DEPTH + 2), st.sampled_from([TOKEN, f"Bearer {TOKEN}", f"bearer  {TOKEN}"]))
def test_no_secret_of_a_key_is_left(before, after, depth, credential):
    """Wherever in a text and however deep a key stands, its secret is gone."""
    event = {"event": before + " " + credential + " " + after, "more": wrapped(credential.encode(), depth)}
    assert SECRET not in json.dumps(redact(event))


def test_the_id_of_a_key_is_left():
    """An operator must see which key it was."""
    assert redact_text(f"used {TOKEN}!") == f"used tollgate_{KEY.id}_{REMOVED}!"


@given(texts, texts, st.sampled_from([CARD, "4111 1111 1111 1111", "3782-822463-10005", "6205500000000000004"]))
def test_no_card_number_is_left(before, after, card):
    """A number in any text and any form is gone, unless digits beside it make it another number."""
    assert card not in redact_text(f"{before}x{card}x{after}")


@pytest.mark.parametrize("text", [f"{CARD} 12/27", f"{CARD} 123", f"0 {CARD}", f"12-27 {CARD} 999 1"])
def test_numbers_beside_a_card_number_do_not_hide_it(text):
    """An expiry date or a security code after a space does not keep the number in."""
    assert CARD not in redact_text(text)


@pytest.mark.parametrize(
    "value", [1_720_000_000_000_005, 1_720_000_000_003, 12, "4111111111111112", "card_1", 1.5, None, True]
)
def test_times_and_other_numbers_are_left(value):
    """What is no card number stays as it is, with its type."""
    assert redact({"value": value})["value"] == value


def test_a_card_number_as_a_whole_number_is_removed():
    """JSON bodies may hold it without quotes."""
    assert redact({"card": int(CARD)}) == {"card": CARD_NUMBER}


@pytest.mark.parametrize(
    "name", ["Authorization", "x-api-key", "X_API_KEY", "password", "Set-Cookie", "TOLLGATE_HASH_KEY"]
)
def test_values_under_secret_names_are_removed(name):
    """By name, whatever the value: in a table, and in a list of headers."""
    assert redact({name: "s3cret-value"}) == {name: REMOVED}
    assert redact({"headers": [(name.encode(), b"s3cret-value"), (b"host", b"h")]}) == {
        "headers": [[name, REMOVED], ["host", "h"]]
    }


def test_hidden_columns_are_removed_by_name_and_from_texts():
    """Values of configured columns go from tables, from JSON in a text and from name=value; prose stays."""
    event = {
        "card_id": "c-1", "body": {"ip": "10.0.0.1", "mcc": "5411"},
        "event": 'card_id: expected a text; got card_id=c-1, ip = "10.0.0.1" {"card_id": "c \\" 1", "mcc": "5411"} my_ip=7',
    }  # fmt: skip
    assert redact(event, ["card_id", "ip"]) == {
        "card_id": REMOVED, "body": {"ip": REMOVED, "mcc": "5411"},
        "event": f'card_id: expected a text; got card_id={REMOVED}, ip = {REMOVED} {{"card_id": {REMOVED}, '
        '"mcc": "5411"} my_ip=7',
    }  # fmt: skip
    assert redact(event)["card_id"] == "c-1"


def test_the_event_itself_is_not_changed():
    """Redaction works on a copy: what is logged may be in use."""
    event = {"headers": [["authorization", TOKEN]], "body": {"token": "t"}}
    redact(event)
    assert event == {"headers": [["authorization", TOKEN]], "body": {"token": "t"}}


def test_what_is_too_much_is_cut():
    """Depth, items and texts have limits, and a cycle ends."""
    loop = {}
    loop["self"] = loop
    assert len(json.dumps(redact(loop))) < 200
    event = redact({"items": list(range(MAX_ITEMS + 5)), "text": "ä" * (MAX_TEXT + 5)})
    assert event["items"][-1] == "... 5 more"
    assert event["text"] == "ä" * MAX_TEXT + f"... {MAX_TEXT + 5} characters"
    assert redact({str(n): n for n in range(MAX_ITEMS + 2)})["..."] == "2 more"


@pytest.mark.parametrize("place", range(MAX_TEXT - 20, MAX_TEXT + 2))
def test_a_card_number_at_the_cut_is_not_cut_in_half(place):
    """A number across the limit is removed whole, not shown up to it."""
    assert "4111" not in redact_text("x" * place + CARD + "x" * 500)


def test_other_objects_become_text_and_are_looked_through():
    """An exception's message is a text like any other."""
    assert redact({"error": ValueError(f"got {CARD}")}) == {"error": f"got {CARD_NUMBER}"}
