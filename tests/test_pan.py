"""The guard for raw card numbers: finds them however they are written, and tells none."""

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tollgate.pan import guard, hashed, is_card_number, passes_luhn, refusal_of, suspicious

# Published test numbers of the schemes, 13 to 19 digits.
CARDS = ["4222222222222", "30569309025904", "378282246310005", "4111111111111111", "5555555555554444",
         "6011111111111117", "3530111333300000", "6304000000000000", "6212345678901232", "135412345678911",
         "6205500000000000004"]  # fmt: skip
KEY = b"k" * 32
digits_of = st.text("0123456789", min_size=1, max_size=25)


def luhn_by_the_book(digits):
    total = 0
    for place, digit in enumerate(reversed(digits)):
        doubled = int(digit) * (2 if place % 2 else 1)
        total += sum(map(int, str(doubled)))
    return total % 10 == 0


@given(digits_of)
def test_luhn_is_that_of_the_standard(digits):
    """The table version agrees with doubling and summing digits one by one."""
    assert passes_luhn(digits) == luhn_by_the_book(digits)


@given(digits_of)
def test_exactly_one_check_digit_fits(digits):
    """For any digits one check digit of ten passes, so one numeric id in ten passes by chance."""
    assert sum(passes_luhn(digits + str(last)) for last in range(10)) == 1


@pytest.mark.parametrize("card", CARDS)
def test_card_numbers_are_found_however_they_are_written(card):
    """Bare, in groups of four by spaces or dashes, with spaces around."""
    groups = [card[at : at + 4] for at in range(0, len(card), 4)]
    texts = [card, " ".join(groups), "-".join(groups), f"  {card} "]
    assert guard(["card_1", *texts, ""]) == [1, 2, 3, 4]


@pytest.mark.parametrize(
    "text",
    [
        "", " ", "card_1", "4111111111111112", "411111111111", "4" * 20, "0000000000000000", "0000000000000",
        "4111  1111 1111 1111", "4111-1111-1111-1111-", "x4111111111111111", "4111.1111.1111.1111",
        "1700000000003", "1700000000000002", "42ab35f0-1111-4111-8111-111111111111", "٤" * 16,
    ],
)  # fmt: skip
def test_other_texts_are_left_alone(text):
    """Tokens, wrong check digits, other lengths, times that pass Luhn, and texts that hold more than a number."""
    assert guard([text]) == []


@given(st.lists(st.one_of(st.sampled_from(CARDS), st.text(max_size=20), digits_of), max_size=30))
def test_the_guard_names_the_places_of_card_numbers(texts):
    """It agrees with looking at each text by itself, in order."""
    expected = [
        n
        for n, text in enumerate(texts)
        if text.isascii() and text.strip(" ").isdigit() and is_card_number(text.strip(" "))
    ]
    found = guard(texts)
    assert [n for n in found if " " not in texts[n].strip(" ") and "-" not in texts[n]] == expected
    assert found == sorted(found)


def test_a_hash_stands_for_the_number_and_not_for_its_form():
    """One card is one text under one key, another under another, and it is no card number itself."""
    one = hashed("4111 1111 1111 1111", KEY)
    assert one == hashed("4111-1111-1111-1111", KEY) == hashed(" 4111111111111111", KEY)
    assert one.startswith("pan_")
    assert len(one) == 4 + 32
    assert len({one, hashed("4111111111111111", b"j" * 32), hashed("5555555555554444", KEY)}) == 3
    assert guard([one]) == []


@pytest.mark.parametrize("card", CARDS)
def test_a_refusal_shows_the_last_four_digits_at_most(card):
    """No five digits of the number in a row are in the error."""
    told = str(refusal_of("card_id", card).as_dict())
    assert card[-4:] in told
    assert not any(card[at : at + 5] in told for at in range(len(card) - 4))


@settings(deadline=None)  # the first example waits for the compiler
@given(st.lists(st.text(alphabet="0123456789 -a", max_size=24), max_size=5))
def test_what_the_guard_would_find_in_a_text_is_suspicious_in_its_json(texts):
    bodies = [msgspec.json.encode({"card_id": text}) for text in texts]
    assert set(guard(texts)) <= set(suspicious(bodies))


def test_a_run_of_digits_is_suspicious_only_if_it_is_long_enough_for_a_card_number():
    bodies = [
        b'{"a":"123456789012"}',
        b'{"a":1234567890123}',
        b'{"a":"1234 5678-9012 3"}',
        b'{"a":"1234  567890123"}',
        b"",
    ]
    assert suspicious(bodies) == [1, 2]
