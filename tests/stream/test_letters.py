"""Dead letters: what they keep of a record, and what they must not."""

import base64
import json

from hypothesis import given
from hypothesis import strategies as st

from tollgate.errors import InputError
from tollgate.stream.letters import MAX_KEPT_BYTES, alert, dead_letter
from tollgate.stream.record import Place, Record, next_offsets

ERROR = InputError("bad_amount", "expected an amount", column="amount")


def letter(value, key=None, hide=True):
    return json.loads(dead_letter(Record("in", 3, 17, 5, key, value), ERROR, hide=hide))


@given(st.none() | st.binary(max_size=200), st.none() | st.text(max_size=20))
def test_a_value_can_be_had_back_from_its_letter(value, key):
    """Whatever bytes came, the letter holds them, as text or as base64, and says where they are."""
    got = letter(value, None if key is None else key.encode("utf-8", "replace"), hide=False)
    back = got["value"]
    if back is not None:
        back = base64.b64decode(back) if got["encoding"] == "base64" else back.encode()
    assert back == value
    assert (got["cut"], got["hidden"]) == (False, False)
    assert (got["topic"], got["partition"], got["offset"], got["timestamp_ms"]) == ("in", 3, 17, 5)
    assert (got["code"], got["column"]) == ("bad_amount", "amount")


@given(st.integers(0, 5), st.sampled_from(["é", "€", "𝄞", "x", "\x00"]))
def test_a_long_value_is_cut_between_two_characters_and_fits_into_a_record(start, character):
    """However wide its characters are, what is kept is the beginning, as text, of bounded size."""
    text = "x" * start + character * (MAX_KEPT_BYTES + 1)
    raw = dead_letter(Record("in", 0, 0, 0, None, text.encode()), ERROR, hide=True)
    got = json.loads(raw)
    assert got["cut"]
    assert got["encoding"] == "utf-8"
    assert text.startswith(got["value"])
    assert MAX_KEPT_BYTES - 4 < len(got["value"].encode()) <= MAX_KEPT_BYTES
    assert len(raw) < 2**20


@given(st.binary(max_size=10), st.binary(max_size=10), st.sampled_from([b"4111111111111111", b"5500 0000 0000 0004"]))
def test_a_card_number_is_taken_out_of_whatever_it_stands_in(before, after, number):
    """Text or not, the number is gone and the letter says that something is missing."""
    got = letter(before + b"a" + number + b"a" + after, number)
    assert got["hidden"]
    whole = got["value"].encode()
    if got["encoding"] == "base64":
        whole = base64.b64decode(whole)
    assert number not in whole
    assert number.decode() not in got["key"]


def test_an_alert_is_both_texts_as_they_are():
    """Nothing is decoded and written anew."""
    assert json.loads(alert(b'{"a":1}', b'{"b":2.50}')) == {"transaction": {"a": 1}, "decision": {"b": 2.5}}


def test_offsets_are_those_of_each_partition():
    """A batch goes on after the last record of each partition."""
    records = [Record("in", part, offset, 0, None, b"") for part, offset in ((0, 5), (1, 9), (0, 6), (0, 8))]
    assert next_offsets(records) == {Place("in", 0): 9, Place("in", 1): 10}
