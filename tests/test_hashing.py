"""Hashes of texts: SipHash-2-4 as its authors define it, one text or many."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tollgate.hashing import HashKey, category_code, category_codes, entity_key, text_hashes

REFERENCE = HashKey.raw(bytes(range(16)))
KEY = HashKey.of(b"k" * 16)
TEXTS = st.text(st.characters(), max_size=40)  # any length against words of eight bytes; the separator, surrogates
MASK = 2**64 - 1


def rotated(x, bits):
    return (x << bits | x >> (64 - bits)) & MASK


def siphash(data, key):
    """The paper's definition, over Python's whole numbers."""
    k = [int.from_bytes(key[:8], "little"), int.from_bytes(key[8:], "little")]
    v = [k[0] ^ 0x736F6D6570736575, k[1] ^ 0x646F72616E646F6D, k[0] ^ 0x6C7967656E657261, k[1] ^ 0x7465646279746573]

    def rounds(count):
        for _ in range(count):
            v[0] = (v[0] + v[1]) & MASK
            v[1] = rotated(v[1], 13) ^ v[0]
            v[0] = rotated(v[0], 32)
            v[2] = (v[2] + v[3]) & MASK
            v[3] = rotated(v[3], 16) ^ v[2]
            v[0] = (v[0] + v[3]) & MASK
            v[3] = rotated(v[3], 21) ^ v[0]
            v[2] = (v[2] + v[1]) & MASK
            v[1] = rotated(v[1], 17) ^ v[2]
            v[2] = rotated(v[2], 32)

    padded = data + bytes(-(len(data) + 1) % 8) + bytes([len(data) % 256])
    for at in range(0, len(padded), 8):
        word = int.from_bytes(padded[at : at + 8], "little")
        v[3] ^= word
        rounds(2)
        v[0] ^= word
    v[2] ^= 0xFF
    rounds(4)
    return v[0] ^ v[1] ^ v[2] ^ v[3]


def test_the_vector_of_the_paper():
    """Key 00..0f and input 00..0e give what appendix A of the SipHash paper prints."""
    text = "".join(map(chr, range(15)))
    assert entity_key(text, REFERENCE) == 0xA129CA6149BE45E5 == siphash(bytes(range(15)), bytes(range(16)))


@given(st.lists(TEXTS, max_size=8))
def test_a_batch_of_texts_has_the_hashes_of_the_definition(texts):
    """Each text of a batch is hashed as it would be alone, whatever is in it and beside it."""
    want = [siphash(text.encode("utf-8", "surrogatepass"), bytes(range(16))) for text in texts]
    assert text_hashes(texts, REFERENCE).tolist() == want
    assert [entity_key(text, REFERENCE) for text in texts] == want


@pytest.mark.parametrize("length", [255, 256, 257, 5000])
def test_a_long_text_has_the_hash_of_the_definition(length):
    """The length counts modulo 256, as the definition says."""
    assert entity_key("ä" * length, REFERENCE) == siphash(("ä" * length).encode(), bytes(range(16)))


@given(st.lists(TEXTS, max_size=8))
def test_category_codes_are_whole_numbers_that_a_float_holds(texts):
    """A code has 52 bits, and one text has one code alone and in a batch."""
    codes = category_codes(texts)
    assert codes.dtype == np.float64
    assert [category_code(text) for text in texts] == codes.tolist()
    assert all(code == int(code) and 0 <= code < 2**52 for code in codes.tolist())


def test_category_codes_never_change():
    """Stored bundles and rules hold them."""
    assert category_codes(["ecom", "pos", ""]).tolist() == [3693014099985742.0, 3059311337024748.0, 898242122119815.0]


def test_another_secret_gives_other_keys():
    """Who lacks the secret cannot find an id by trying all of them."""
    others = [HashKey.of(b"l" * 16), HashKey.of(b"k" * 17), HashKey.of(b"k" * 64)]
    assert len({entity_key("card-1", key) for key in (KEY, *others)}) == 4
    assert entity_key("card-1", KEY) == entity_key("card-1", HashKey.of(b"k" * 16))
