"""The packed form: whatever goes in comes out, one by one."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tollgate.ledger import Group, Shadow, Tried
from tollgate.ledger.group import Packed, pack

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)


@given(
    ids=st.lists(TEXT, min_size=1, max_size=6, unique=True),
    data=st.data(),
    features=st.integers(0, 3) | st.none(),
    decided=st.booleans(),
)
def test_each_transaction_is_cut_out_as_it_was_put_in(ids, data, features, decided):
    """Empty and non-ASCII texts too, NaN bit for bit, without features or answers or with them."""
    n = len(ids)
    texts = st.lists(st.binary(max_size=9), min_size=n, max_size=n)
    bodies, answers = data.draw(texts), data.draw(texts) if decided else []
    matrix = None if features is None else np.full((n, features), np.nan)
    shadow = Shadow("bundle-2", np.linspace(0, 1, n)) if decided else None
    packed = Packed(pack(Group(ids, np.arange(n) - 2**40, bodies, answers, matrix, 1, "b", shadow=shadow)))
    assert len(packed) == n
    assert [packed.id(row) for row in range(n)] == ids
    assert [packed.body(row) for row in range(n)] == bodies
    assert [packed.answer(row) for row in range(n)] == (answers if decided else [None] * n)
    assert packed.effective_us.tolist() == [i - 2**40 for i in range(n)]
    for row in range(n):
        assert packed.feature_bytes(row) == (None if matrix is None else matrix[row].tobytes())
    if features:
        assert packed.features.tobytes() == matrix.tobytes()
    assert (packed.shadow is None) == (not decided)
    if decided:
        assert packed.shadow.bundle == "bundle-2"
        assert packed.shadow.scores.tolist() == shadow.scores.tolist()


@given(rows=st.lists(st.booleans(), min_size=1, max_size=20))
def test_which_of_them_a_canary_decided_comes_out_as_it_was_put_in(rows):
    """A Tollgate that does not know of canaries refuses such a group instead of naming the wrong bundle."""
    n = len(rows)
    payload = pack(
        Group([str(row) for row in range(n)], np.zeros(n, int), [b""] * n, [b""] * n, None, 1, "b",
              tried=Tried("c", np.array(rows)))
    )  # fmt: skip
    assert payload[1] == 2
    tried = Packed(payload).tried
    assert (tried.bundle, tried.rows.tolist()) == ("c", rows)


@pytest.mark.parametrize("payload", [b"", b"\x90", b"\xc1", b"{}"])
def test_what_is_no_group_is_refused(payload):
    """Damage is an error, not another transaction."""
    with pytest.raises(ValueError, match="expected a packed group"):
        Packed(payload)


def test_a_group_of_a_later_format_is_refused():
    """An older Tollgate does not guess."""
    payload = bytearray(pack(Group(["a"], np.zeros(1, int), [b""], [], None, 1, None)))
    assert payload[1] == 1
    payload[1] = 3
    with pytest.raises(ValueError, match="format 3"):
        Packed(bytes(payload))
