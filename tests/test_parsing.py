"""Compiled reading: what is read is what the codec and `Money` read; the rest is left to them."""

import math
from datetime import UTC, datetime, timedelta, timezone

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tollgate.codec import MAX_TIME_US, MIN_TIME_US, time_reader
from tollgate.errors import InputError
from tollgate.hashing import pack
from tollgate.money import MAX_AMOUNT_MINOR, Money
from tollgate.parsing import UNREAD, minor_units, read_times
from tollgate.schema import Column, Kind

READ = time_reader(Column(Kind.TIMESTAMP))
MOMENTS = st.datetimes(
    datetime.fromisoformat("1899-12-01"), datetime.fromisoformat("2200-02-01"),
    timezones=st.integers(-1439, 1439).map(lambda minutes: timezone(timedelta(minutes=minutes))),
)  # fmt: skip


def read(*texts, earliest_us=MIN_TIME_US, first=0):
    out = np.empty(len(texts) - first, dtype=np.int64)
    read_times(pack(texts), first, earliest_us, out)
    return out.tolist()


def by_codec(text):
    try:
        return READ(text)
    except InputError:
        return UNREAD


@given(st.lists(MOMENTS, min_size=1, max_size=5), st.sampled_from("T "), st.sampled_from(["auto", "milliseconds"]))
def test_a_time_with_an_offset_is_read_to_the_microsecond(moments, separator, precision):
    """Every instant that `datetime` writes is read, to the same bits, in a batch."""
    texts = [moment.isoformat(separator, precision) for moment in moments]
    assert read(*texts) == [by_codec(text) for text in texts]


@given(MOMENTS, st.integers(1, 6))
def test_a_fraction_may_have_one_to_six_digits(moment, digits):
    """Z stands for UTC, and missing digits for zeros."""
    whole = moment.astimezone(UTC).replace(tzinfo=None, microsecond=0)
    text = f"{whole.isoformat()}.{str(moment.microsecond).zfill(6)[:digits]}Z"
    assert read(text) == [by_codec(text)]


@given(MOMENTS, st.data())
def test_what_is_read_is_what_the_codec_reads(moment, data):
    """A text with a character changed, added or left out is read alike or not at all."""
    text = moment.isoformat()
    at = data.draw(st.integers(0, len(text) - 1))
    piece = data.draw(st.text(st.sampled_from("0123456789-+:.,TZzW \0é"), max_size=2))
    changed = text[:at] + piece + text[at + data.draw(st.integers(0, 2)) :]
    (got,) = read(changed)
    assert got in (UNREAD, by_codec(changed))


@pytest.mark.parametrize(
    "text",
    [
        "", "2026-01-31", "2026-01-31T12:00:00", "2026-01-31T12:00Z", "20260131T120000Z", "2026-W05-6T12:00:00Z",
        "2026-02-29T12:00:00Z", "1900-02-29T12:00:00Z", "2026-04-31T12:00:00Z", "2026-13-01T12:00:00Z",
        "2026-00-01T12:00:00Z", "2026-01-00T12:00:00Z", "0000-01-01T12:00:00Z", "2026-01-31T24:00:00Z",
        "2026-01-31T12:60:00Z", "2026-01-31T12:00:60Z", "2026-01-31T12:00:00.Z", "2026-01-31T12:00:00.1234567Z",
        "2026-01-31T12:00:00+24:00", "2026-01-31T12:00:00+01:60", "2026-01-31T12:00:00+0100",
        "2026-01-31T12:00:00+01:00:30", "2026-01-31T12:00:00z", "2200-01-01T00:00:00.000001Z", "1899-12-31T23:59:59Z",
        "2026-01-31T12:00:00Z\n", "٢٠٢٦-01-31T12:00:00Z",
    ],
)  # fmt: skip
def test_another_form_is_left_to_the_codec(text):
    """So is a day that does not exist, and a time out of bounds."""
    assert read(text) == [UNREAD]


def test_leap_days_and_bounds_are_read():
    """The years 2000 and 2024 have a 29th of February; the bounds themselves are inside."""
    texts = ["2000-02-29T00:00:00Z", "2024-02-29T23:59:59+00:00", "2200-01-01T00:00:00Z", "1900-01-01T00:00:00Z"]
    assert read(*texts) == [READ(text) for text in texts]
    assert read(*texts)[2:] == [MAX_TIME_US, MIN_TIME_US]
    assert read("1970-01-01T00:00:00Z", "1969-12-31T23:59:59Z", earliest_us=0) == [0, UNREAD]


def test_times_are_read_from_any_text_of_a_batch_on():
    """The texts before them do not matter."""
    assert read("é", "", "1970-01-01T00:00:01Z", first=2) == [1_000_000]


CENTS = st.integers(0, MAX_AMOUNT_MINOR + 5).map(lambda minor: minor / 100)


@given(st.lists(CENTS | st.floats(), min_size=1), st.sampled_from(["EUR", "JPY", "BHD", "CLF"]))
@example([-0.0, 0.0, math.nan, math.inf, -1.0, 0.005, 1e9, 1e11], "EUR")
def test_an_amount_is_read_as_money_reads_it_or_left_to_it(amounts, currency):
    """What is read has the bits of `Money.to_minor`; what is refused there is not read."""
    money, out = Money(currency), np.empty(len(amounts))
    minor_units(np.array(amounts), money.scale, out)
    for amount, got in zip(amounts, out.tolist(), strict=True):
        try:
            want = float(money.to_minor(amount, currency, 0))
        except InputError:
            want = math.nan
        assert np.float64(got).tobytes() == np.float64(want).tobytes()
