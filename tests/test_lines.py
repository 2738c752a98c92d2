"""Texts of JSON, one a line."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tollgate.lines import Lines, joined


@given(st.lists(st.text()))
def test_lines_are_the_texts_that_were_encoded_each_by_itself(values):
    texts = [msgspec.json.encode(one) for one in values]
    lines = Lines(msgspec.json.Encoder().encode_lines(values))
    assert len(lines) == len(texts)
    assert list(lines) == texts
    assert [lines[place] for place in range(len(lines))] == texts
    assert lines[1:] == texts[1:]


@given(st.lists(st.text()))
def test_lines_are_joined_as_any_texts_are(values):
    lines = Lines(msgspec.json.Encoder().encode_lines(values))
    (data, lengths), plain = joined(lines), joined(list(lines))
    assert data == plain.data
    assert lengths.tolist() == plain.lengths.tolist()


def test_there_is_no_line_after_the_last():
    with pytest.raises(IndexError):
        Lines(b"1\n")[1]
