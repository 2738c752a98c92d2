"""Allow and block lists: found by what a batch holds, for as long as they count."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deciding import READER, payment
from tollgate.control import ListEntry, ListKind
from tollgate.errors import InputError
from tollgate.lists import NOWHERE, Lists, check_column

ALLOW, BLOCK = ListKind.ALLOW, ListKind.BLOCK
NOW_US = 1000


def entry(kind, column, value, expires_us=None):
    return ListEntry(kind, column, value, "why", "ana", 0, expires_us)


def lists(*entries):
    return Lists.of(entries, READER.schema, READER.read_entity)


VALUES = st.sampled_from(["a", "b", "c"])
ENTRIES = st.lists(
    st.builds(
        entry, st.sampled_from(ListKind), st.sampled_from(["card_id", "device_id", "channel"]), VALUES,
        st.sampled_from([None, NOW_US - 1, NOW_US, NOW_US + 1]),
    ),
    unique_by=lambda one: (one.list, one.column, one.value), max_size=9,
)  # fmt: skip
PAYMENTS = st.lists(
    st.fixed_dictionaries(
        {"card_id": VALUES, "device_id": st.one_of(st.none(), VALUES), "channel": st.one_of(st.none(), VALUES)}
    ),
    min_size=1, max_size=6,
)  # fmt: skip


@settings(deadline=None)
@given(ENTRIES, PAYMENTS)
def test_an_entry_counts_where_its_column_has_its_value_and_until_it_expires(entries, rows):
    """Compared with a plain search; the first column of the schema with an entry is the one that is named."""
    batch = READER.from_rows([payment(n, **row) for n, row in enumerate(rows)])
    made = lists(*entries)
    found = made.hits(batch, NOW_US)
    counts = {}
    for place, row in enumerate(rows):
        for kind, hits in ((BLOCK, found.block), (ALLOW, found.allow)):
            want = []
            for column in ("card_id", "device_id", "channel"):  # in the order of the schema
                for one in entries:
                    counting = one.expires_us is None or one.expires_us > NOW_US
                    if (one.list, one.column, one.value) == (kind, column, row[column]) and counting:
                        want.append(one)
                        counts[(kind, column)] = counts.get((kind, column), 0) + 1
            got = None if hits[place] == NOWHERE else made.entries[hits[place]]
            assert got == (want[0] if want else None)
    assert found.counts == counts


def test_a_file_hands_over_the_time_of_every_payment():
    """So an entry counts for the payments before it expires, and for none after."""
    batch = READER.from_rows([payment(n) for n in range(3)])
    made = lists(entry(BLOCK, "card_id", "card-1", int(batch.time_us[2])))
    assert (made.hits(batch, batch.time_us).block == NOWHERE).tolist() == [False, False, True]


def test_numbers_and_texts_of_one_id_are_one_value():
    """As the reader takes them: 7 in JSON and 7 on the list."""
    batch = READER.from_rows([payment(0, card_id=7, mcc=5411)])
    assert (lists(entry(BLOCK, "card_id", "7")).hits(batch, 0).block != NOWHERE).all()
    assert (lists(entry(ALLOW, "mcc", "5411")).hits(batch, 0).allow != NOWHERE).all()


def test_entries_that_a_schema_has_no_column_for_are_told_and_do_no_harm():
    """Another champion may have another schema; an amount is no value to list."""
    strange = (entry(BLOCK, "iban", "x"), entry(BLOCK, "amount", "10"))
    made = lists(*strange, entry(BLOCK, "card_id", "card-1"))
    assert made.unused == strange
    assert made.hits(READER.from_rows([payment(0)]), 0).block.tolist() == [0]


@pytest.mark.parametrize("column", ["amount", "iban", "transaction_id", "location"])
def test_only_entities_and_categories_have_lists(column):
    """Said before an entry is made, with the columns that there are."""
    check_column("card_id", READER.schema)
    check_column("mcc", READER.schema)
    with pytest.raises(InputError, match="there are: currency, card_id"):
        check_column(column, READER.schema)


def test_an_empty_batch_and_no_entries_are_fine():
    """Nothing is found in nothing."""
    batch = READER.from_rows([payment(0)])
    assert lists().hits(batch, 0).block.tolist() == [NOWHERE]
    assert lists(entry(BLOCK, "card_id", "card-1")).hits(batch.take(np.array([], dtype=np.int64)), 0).block.size == 0
