"""Raw card numbers (PANs): recognised at the edge, so that none is stored.

A text is taken for one if it is nothing but 13 to 19 digits, single spaces or dashes between them, that begin as card
numbers do and pass the Luhn check (ISO/IEC 7812-1). One in ten numeric ids of such a length passes by chance; numbers
that begin with 0 are never cards, and those with 1 only at 15 digits, so that times in milliseconds or microseconds
are not taken for cards.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from hashlib import blake2b

import numba
import numpy as np
from numpy.typing import NDArray

from tollgate.errors import InputError
from tollgate.lines import joined

MIN_DIGITS, MAX_DIGITS = 13, 19
HASH_PREFIX = "pan_"
_HASH_BYTES = 16
_PERSON = b"tollgate.pan"  # the same key hashes other things elsewhere: these hashes are of their own kind
_ONES_DIGITS = 15  # UATP, and the oldest of JCB
_STARTS = frozenset("123456789 ")
_NUMBER = re.compile(r" *([0-9](?:[ -]?[0-9]){12,18}) *")
_DIGITS_ALONE = {ord(" "): None, ord("-"): None}
_RUN_BYTES = np.zeros(256, dtype=np.bool_)  # what a run of digits is written with
_RUN_BYTES[list(b"0123456789 -")] = True
_VALUES = bytes((code - 48) % 256 for code in range(256))
_DOUBLED = bytes((2 * (code - 48) // 10 + 2 * (code - 48) % 10) % 256 for code in range(256))  # sum of both digits


def passes_luhn(digits: str) -> bool:
    """Return whether the last of some decimal digits is the check digit of the others (ISO/IEC 7812-1, annex B)."""
    backwards = digits.encode()[::-1]
    return (sum(backwards[::2].translate(_VALUES)) + sum(backwards[1::2].translate(_DOUBLED))) % 10 == 0


def is_card_number(digits: str) -> bool:
    """Return whether decimal digits, and nothing else, look like a card number."""
    size = len(digits)
    if not MIN_DIGITS <= size <= MAX_DIGITS or digits[0] == "0" or (digits[0] == "1" and size != _ONES_DIGITS):
        return False
    return passes_luhn(digits)


def suspicious(bodies: Sequence[bytes]) -> list[int]:
    """Return the places of those JSON texts in which there is a run of so many digits that `guard` must look.

    One compiled pass over all texts: most transactions hold no such run, and are done with for a tenth of a
    microsecond.
    """
    data, lengths = joined(bodies)
    has_run = _has_run(np.frombuffer(data, dtype=np.uint8), np.cumsum(lengths), _RUN_BYTES)
    found: list[int] = has_run.nonzero()[0].tolist()
    return found


@numba.njit(cache=True)
def _has_run(data: NDArray[np.uint8], ends: NDArray[np.int64], in_run: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return which of N texts have MIN_DIGITS digits or more with at most one space or dash between two."""
    found = np.zeros(ends.size, dtype=np.bool_)
    first = 0
    for place in range(ends.size):
        end = ends[place]
        # A run is no shorter than its digits: where the last byte that it would need is none of a run's, neither is
        # any place before that byte the beginning of one. So most bytes are never looked at.
        while first + MIN_DIGITS <= end:
            last = first + MIN_DIGITS - 1
            while last >= first and in_run[data[last]]:
                last -= 1
            if last >= first:
                first = last + 1
                continue
            digits = 0
            gap = False
            at = first
            while at < end and in_run[data[at]]:
                if data[at] >= 48:
                    digits += 1
                    gap = False
                    if digits >= MIN_DIGITS:
                        break
                elif digits and not gap:
                    gap = True
                else:
                    digits = 0
                    gap = False
                at += 1
            first = at + 1
            if digits >= MIN_DIGITS:
                found[place] = True
                break
        first = end
    return found


def guard(texts: Sequence[str]) -> list[int]:
    """Return the places of those texts that look like raw card numbers."""
    suspects = [n for n, text in enumerate(texts) if len(text) >= MIN_DIGITS and text[0] in _STARTS]
    return [n for n in suspects if (digits := _digits(texts[n])) is not None and is_card_number(digits)]


def _digits(text: str) -> str | None:
    found = _NUMBER.fullmatch(text)
    return None if found is None else found[1].translate(_DIGITS_ALONE)


def hashed(text: str, key: bytes) -> str:
    """Return what stands for a card number, the same for each way of writing it: `pan_` and 32 hexadecimal digits.

    It is a keyed BLAKE2b (RFC 7693): without the key it cannot be found by trying all card numbers.

    Args:
        text: What `guard` recognised.
        key: 16 to 64 secret bytes. Another key gives other texts: histories and list entries by the old ones are lost.
    """
    digits = text.translate(_DIGITS_ALONE)
    return HASH_PREFIX + blake2b(digits.encode(), digest_size=_HASH_BYTES, key=key, person=_PERSON).hexdigest()


def refusal_of(column: str, text: str) -> InputError:
    """Return the error for a raw card number in a column; of the number it shows the last four digits alone."""
    last = text.translate(_DIGITS_ALONE)[-4:]
    return InputError(
        "raw_pan",
        f"'{column}': expected a token, but got what looks like a raw card number (it ends in {last}); send a token in "
        'its place, set [serve] pan = "hash", or leave the column out of [serve] pan_columns if its ids are like that',
        column=column,
    )
