"""The index of hashes: a dictionary that walks on where a place is taken."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tollgate.ledger.identities import HASH_KEY_BYTES, Identities, hash_ids
from tollgate.ledger.lookup import NOT_THERE


@given(
    parts=st.lists(st.lists(st.integers(1, 40) | st.integers(0, 2**64 - 1), max_size=30), max_size=8),
    expected=st.integers(0, 5000),
)
def test_every_number_is_met_on_the_walk_from_its_hash(parts, expected):
    """However hashes collide, and however large the index was made at first."""
    index, numbered = Identities(expected), []
    for part in parts:
        index.add(np.array(part, dtype=np.uint64), len(numbered) + 1)
        numbered += part
    for number, hashed in enumerate(numbered, 1):
        at, candidate = hashed, int(index.find(np.array([hashed], dtype=np.uint64))[0])
        met = set()
        while candidate != NOT_THERE:
            met.add(candidate)
            at, candidate = index.next(at)
        assert number in met
    assert len(index) == len(numbered)


def test_an_index_that_grows_holds_what_one_of_the_right_size_holds():
    """Growing moves a few slots with each insert, and loses none."""
    hashes = np.random.default_rng(1).integers(1, 2**63, 50_000, dtype=np.uint64)
    small, large = Identities(), Identities(50_000)
    for start in range(0, 50_000, 777):
        small.add(hashes[start : start + 777], start + 1)
    large.add(hashes, 1)
    strangers = np.random.default_rng(2).integers(1, 2**63, 50_000, dtype=np.uint64)
    assert small.find(hashes).tolist() == large.find(hashes).tolist() == list(range(1, 50_001))
    assert not small.find(strangers).any()
    assert not large.find(strangers).any()


def test_hashes_depend_on_the_key():
    """Whoever does not know the key cannot make ids that collide."""
    one, other = hash_ids(["a", "ü"], bytes(HASH_KEY_BYTES)), hash_ids(["a", "ü"], b"k" * HASH_KEY_BYTES)
    assert len({*one.tolist(), *other.tolist()}) == 4
