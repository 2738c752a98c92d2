"""A set of files is read as one file would be: same rows, same order, same refusals."""

import datetime as dt

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tollgate.errors import InputError
from tollgate.files import TransactionFile
from tollgate.folders import LocalFolder, open_folder
from tollgate.intake import TransactionReader
from tollgate.money import Money
from tollgate.parts import SeenIds, TransactionSet
from tollgate.schema import payment_schema
from tollgate.transaction import concatenate

READER = TransactionReader(payment_schema(), Money(), b"k" * 16)


def payments(start, count):
    begin = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    return pl.DataFrame({
        "transaction_id": [f"t{i}" for i in range(start, start + count)],
        "effective_time": [begin + dt.timedelta(minutes=i) for i in range(start, start + count)],
        "amount": [1.5 + i for i in range(start, start + count)],
        "currency": ["EUR"] * count,
        "card_id": [f"c{i % 3}" for i in range(start, start + count)],
        "country": [("NO", "DE")[i % 2] for i in range(start, start + count)],
    })  # fmt: skip


def write(folder, name, frame):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    {".parquet": frame.write_parquet, ".csv": frame.write_csv, ".jsonl": frame.write_ndjson}[path.suffix](path)


def rows_of(chunks):
    chunks = list(chunks)
    return concatenate([chunk.batch for chunk in chunks]), [one for chunk in chunks for one in chunk.rejected]


def test_a_set_gives_the_rows_of_its_files_in_the_order_of_their_names(tmp_path):
    """What begins with `_` or `.` is not of the set, and an empty file is one without rows."""
    whole = payments(0, 100)
    cuts = {"day=9/part-2.parquet": (0, 30), "day=9/part-10.parquet": (30, 30), "day=10/part-0.parquet": (30, 100)}
    for name, (start, end) in cuts.items():
        write(tmp_path / "set", name, whole[start:end])
    write(tmp_path / "set", "_temporary/part-0.parquet", whole)
    write(tmp_path / "set", "day=9/.part-3.parquet", whole)
    (tmp_path / "set" / "day=9" / "_SUCCESS").touch()
    write(tmp_path, "whole.parquet", whole)
    parts = TransactionSet(LocalFolder(tmp_path / "set"), READER)
    got, rejected = rows_of(parts.chunks())
    file = TransactionFile(tmp_path / "whole.parquet", READER)
    want, _ = rows_of(file.chunks())
    assert got.ids == want.ids
    assert (got.values.view(np.int64) == want.values.view(np.int64)).all()
    assert (got.keys == want.keys).all()
    assert rejected == []
    assert parts.category_texts() == file.category_texts()
    assert parts.unread == file.unread
    again, _ = rows_of(parts.chunks())
    assert again.ids == want.ids


def test_an_id_that_came_in_an_earlier_file_is_rejected_with_its_file(tmp_path):
    """A retry that was written a day later must not count twice."""
    write(tmp_path, "day=1/a.parquet", payments(0, 10))
    write(tmp_path, "day=2/a.parquet", pl.concat([payments(10, 2), payments(3, 1), payments(12, 1), payments(12, 1)]))
    got, rejected = rows_of(TransactionSet(LocalFolder(tmp_path), READER).chunks())
    assert got.ids == [f"t{i}" for i in range(13)]
    assert [(one.part, one.row, one.transaction_id, one.error.code) for one in rejected] == [
        ("day=2/a.parquet", 2, "t3", "duplicate_id"), ("day=2/a.parquet", 4, "t12", "duplicate_id")
    ]  # fmt: skip


def test_what_a_folder_is_called_is_a_column_of_its_files(tmp_path):
    """As Hive and Spark write it: a column that is partitioned by is in no file."""
    write(tmp_path, "country=NO/a.parquet", payments(0, 4).drop("country"))
    write(tmp_path, "country=DE/a.parquet", payments(4, 4).drop("country"))
    write(tmp_path, "country=XX/a.parquet", payments(8, 4))
    parts = TransactionSet(LocalFolder(tmp_path), READER)
    got, _ = rows_of(parts.chunks())
    texts = [parts.category_texts()[code] for code in got.value("country").tolist()]
    assert texts == ["DE"] * 4 + ["NO"] * 4 + ["NO", "DE"] * 2


def test_a_set_of_another_machine_is_read_file_by_file(tmp_path):
    """With the same rows as on this one; a URL may also name one file."""
    pytest.importorskip("fsspec")
    root = f"memory://{tmp_path.name}/payments"
    folder = open_folder(root)
    for name, frame in (("day=1/a.parquet", payments(0, 5)), ("day=2/a.parquet", payments(5, 5))):
        with folder.put(name) as path:
            frame.write_parquet(path)
    assert rows_of(TransactionSet(open_folder(root), READER).chunks())[0].ids == [f"t{i}" for i in range(10)]
    one = TransactionSet(open_folder(f"{root}/day=2/a.parquet"), READER)
    assert rows_of(one.chunks())[0].ids == [f"t{i}" for i in range(5, 10)]


def test_a_set_without_files_or_with_a_file_that_lacks_a_column_says_so(tmp_path):
    """The first file is looked at when the set is opened, the others when they are reached."""
    with pytest.raises(InputError, match="but there are none"):
        TransactionSet(LocalFolder(tmp_path), READER)
    write(tmp_path, "a.parquet", payments(0, 5))
    write(tmp_path, "b.parquet", payments(5, 5).drop("amount"))
    parts = TransactionSet(LocalFolder(tmp_path), READER)
    with pytest.raises(InputError, match="expected a column 'amount'"):
        list(parts.chunks())


@settings(max_examples=100, deadline=None)
@given(st.lists(st.lists(st.integers(0, 50), unique=True, max_size=20), max_size=12), st.integers(0, 12))
def test_seen_ids_are_those_that_came_in_an_earlier_batch(batches, cut):
    """Also after what was kept is loaded again."""
    seen, known = SeenIds(), set()
    for number, batch in enumerate(batches):
        if number == cut:
            seen = SeenIds(seen.hashes)
        there = seen.add(np.array(batch, dtype=np.uint64))
        assert there.tolist() == [one in known for one in batch]
        known.update(batch)
