"""Snapshots: a run that was stopped and restored equals one that never stopped, and nothing else is taken for one."""

import os
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.streams import ROWS, SCHEMA, batch_of, timed
from features.test_engine import CARD, DEVICE, EXACT, NEAR, bits, payment
from tollgate.errors import EXIT_UNAVAILABLE, SnapshotError
from tollgate.features import NOT_FRAUD, Arrivals, FeatureEngine, tx
from tollgate.features import snapshot as snapshots
from tollgate.features.heap import CURSOR, NO_MIGRATION
from tollgate.features.plan import compile_plan
from tollgate.features.snapshot import plan_digest, restore, save
from tollgate.schema import Column, Kind, Schema

PLAN = compile_plan([*EXACT, *NEAR], SCHEMA, 100.0)
COUNT = compile_plan([CARD.count(over="7d"), CARD.is_new(), DEVICE.distinct(tx.card_id, over="1h")], SCHEMA, 100.0)
SMALL = 2**24


def known(rows):
    """When each row becomes known as fraud."""
    return np.array(
        [NOT_FRAUD if row["label_after"] is None else row["effective_time"] + row["label_after"] for row in rows]
    )


@settings(max_examples=120, deadline=None)
@given(ROWS, st.lists(st.integers(0, 60), min_size=1, max_size=3))
def test_a_run_with_restarts_equals_one_without_bit_for_bit(tmp_path_factory, drawn, cuts):
    rows = timed(drawn)
    batch, due = batch_of(rows), known(rows)
    path = tmp_path_factory.mktemp("snapshot") / "state"
    whole = Arrivals(FeatureEngine(PLAN, SMALL)).observe(batch, due)

    arrivals, parts, start = Arrivals(FeatureEngine(PLAN, SMALL)), [], 0
    for cut in [*sorted(min(cut, len(rows)) for cut in cuts), len(rows)]:
        parts.append(arrivals.observe(batch.take(slice(start, cut)), due[start:cut]))
        save(arrivals.engine, path, cut, waiting=arrivals.pending)
        engine, start, waiting = restore(PLAN, path, SMALL)
        assert (engine.observed, engine.late) == (arrivals.engine.observed, arrivals.engine.late)
        arrivals = Arrivals(engine, waiting)

    assert (bits(np.concatenate(parts)) == bits(whole)).all()


@pytest.mark.parametrize("stop", [0, 100, 340, 390, 700, 2000])
def test_it_goes_on_in_the_middle_of_a_growth_of_the_index(tmp_path, stop):
    batch = batch_of([payment(i, card=i + 1, device=i % 9 + 1) for i in range(2000)])
    again = batch_of([payment(3000 + i, card=i + 1) for i in range(2000)])
    engine = FeatureEngine(COUNT, SMALL)
    engine.observe(batch.take(slice(0, stop)))
    assert (engine.arrays.meta[CURSOR] != NO_MIGRATION) == (stop in (340, 390, 700))
    save(engine, tmp_path / "state", stop)
    engine = restore(COUNT, tmp_path / "state", SMALL).engine
    engine.observe(batch.take(slice(stop, 2000)))

    assert (engine.observe(again)[:, :2] == [1, 0]).all()


def test_entities_that_were_freed_before_stay_freed_and_their_memory_is_used_again(tmp_path):
    plan = compile_plan([CARD.count(over="1m")], SCHEMA, 100.0)
    batch = batch_of([payment(i, card=i + 1) for i in range(6000)])
    engine = FeatureEngine(plan, SMALL)
    engine.observe(batch.take(slice(0, 3000)))
    save(engine, tmp_path / "state", 3000)
    restored = restore(plan, tmp_path / "state", SMALL).engine
    for one in (engine, restored):
        one.observe(batch.take(slice(3000, 6000)))

    assert restored.freed == engine.freed > 2000
    assert (restored.entities, restored.state_bytes) == (engine.entities, engine.state_bytes)


@pytest.fixture
def saved(tmp_path):
    """An engine with some state, and where it is saved."""
    engine = FeatureEngine(COUNT, SMALL)
    engine.observe(batch_of([payment(i, card=i % 7 + 1, device=i % 3 + 1) for i in range(50)]))
    path = tmp_path / "state"
    save(engine, path, 50, key_check=b"mine")
    return engine, path


def test_only_what_is_in_use_is_written(saved):
    engine, path = saved
    assert engine.state_bytes < path.stat().st_size < engine.state_bytes + 2**14 + 2048  # the smallest index is 2**14


def test_the_position_is_given_back(saved):
    assert restore(COUNT, saved[1], SMALL, key_check=b"mine")[1:] == (50, None)


def refused(path, plan=COUNT, max_bytes=SMALL, key_check=b"mine"):
    with pytest.raises(SnapshotError, match="rebuild the state from the ledger") as caught:
        restore(plan, path, max_bytes, key_check=key_check)
    assert str(path) in caught.value.message
    assert (caught.value.exit_code, caught.value.status) == (EXIT_UNAVAILABLE, 503)
    return caught.value.code


def test_a_snapshot_that_is_not_there_is_an_error_of_its_own(tmp_path):
    assert refused(tmp_path / "none") == "no_snapshot"


@pytest.mark.parametrize(
    "features",
    [
        [CARD.count(over="1d"), CARD.is_new(), DEVICE.distinct(tx.card_id, over="1h")],
        [CARD.count(over="7d", where=tx.amount < 5), CARD.is_new(), DEVICE.distinct(tx.card_id, over="1h")],
        [CARD.count(over="7d"), CARD.is_new()],
        [CARD.count(over="7d"), CARD.is_new(), DEVICE.distinct(tx.card_id, over="1h"), tx.amount + 1],
    ],
    ids=["other window", "other condition", "one less", "one more"],
)
def test_a_snapshot_of_other_features_is_refused(saved, features):
    assert refused(saved[1], compile_plan(features, SCHEMA, 100.0)) == "other_plan"


def test_plans_differ_by_constant_zone_currency_and_column_even_where_their_programs_are_of_one_shape():
    def zone(name):
        return compile_plan([tx.local(name).hour_of_day], SCHEMA, 100.0)

    def limit(amount):
        return compile_plan([CARD.count(over="1d", where=tx.amount < amount)], SCHEMA, 100.0)

    columns = {**SCHEMA.columns, "card_id": Column(Kind.ENTITY, source="pan")}
    digests = [
        plan_digest(plan)
        for plan in (zone("Europe/Berlin"), zone("Asia/Tokyo"), limit(5), limit(6),
                     compile_plan(COUNT.features, SCHEMA, 1000.0), compile_plan(COUNT.features, Schema(columns), 100.0),
                     COUNT)
    ]  # fmt: skip
    assert len(set(digests)) == len(digests)


def test_a_feature_may_be_renamed(saved):
    renamed = [COUNT.features[0].named("other"), *COUNT.features[1:]]
    assert restore(compile_plan(renamed, SCHEMA, 100.0), saved[1], SMALL, key_check=b"mine").position == 50


def test_another_hash_key_is_refused(saved):
    assert refused(saved[1], key_check=b"yours") == "other_hash_key"
    assert refused(saved[1], key_check=b"") == "other_hash_key"


def test_another_format_is_refused_and_both_numbers_are_named(saved):
    path = saved[1]
    data = bytearray(path.read_bytes())
    data[8:12] = struct.pack("<I", 7)
    path.write_bytes(data)
    with pytest.raises(SnapshotError, match="format 2, but it is of format 7"):
        restore(COUNT, path, SMALL)


def test_a_snapshot_that_does_not_fit_is_refused(saved):
    assert refused(saved[1], max_bytes=2**13) == "snapshot_too_large"


def test_it_is_refused_wherever_it_was_cut_short(saved):
    path = saved[1]
    data = path.read_bytes()
    for size in {0, 1, 15, 16, 40, 300, *range(400, len(data), 997), len(data) - 1}:
        path.write_bytes(data[:size])
        assert refused(path) == "damaged_snapshot", size
    path.write_bytes(data + b"\0")
    assert refused(path) == "damaged_snapshot"


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_it_is_refused_wherever_one_bit_has_changed(tmp_path_factory, data):
    engine = FeatureEngine(COUNT, SMALL)
    engine.observe(batch_of([payment(i, card=i % 7 + 1) for i in range(20)]))
    path = tmp_path_factory.mktemp("snapshot") / "state"
    save(engine, path, 20)
    content = bytearray(path.read_bytes())
    place = data.draw(st.integers(0, len(content) - 1) | st.integers(0, 400))
    content[place] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(content)

    assert refused(path, key_check=b"") in ("damaged_snapshot", "other_format")


def test_no_flipped_bit_of_its_beginning_does_more_than_refuse_it(tmp_path):
    """A level of the index that was read as 2**50 once asked for that much memory."""
    engine = FeatureEngine(COUNT, SMALL)
    engine.observe(batch_of([payment(i) for i in range(20)]))
    path = tmp_path / "state"
    save(engine, path, 20)
    content = path.read_bytes()
    for place in range(600):
        for bit in (1, 64):
            path.write_bytes(content[:place] + bytes([content[place] ^ bit]) + content[place + 1 :])
            assert refused(path, key_check=b"") in ("damaged_snapshot", "other_format"), (place, bit)


def test_something_else_is_no_snapshot(tmp_path):
    path = tmp_path / "state"
    path.write_bytes(b"PAR1" * 100)
    assert refused(path) == "damaged_snapshot"


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_crash_between_writing_and_renaming_leaves_the_old_snapshot(saved, monkeypatch, step):
    engine, path = saved
    engine.observe(batch_of([payment(100 + i) for i in range(10)]))

    class Crash(BaseException):
        pass

    def crash(*_arguments):
        raise Crash

    with monkeypatch.context() as patched:
        patched.setattr(*((os, "fsync") if step == "fsync" else (snapshots.Path, "replace")), crash)
        with pytest.raises(Crash):
            save(engine, path, 60, key_check=b"mine")

    old = restore(COUNT, path, SMALL, key_check=b"mine")
    assert (old.position, old.engine.observed) == (50, 50)
    save(engine, path, 60, key_check=b"mine")
    assert restore(COUNT, path, SMALL, key_check=b"mine").engine.observed == 60
    assert list(path.parent.iterdir()) == [path]


def test_where_it_cannot_be_written_the_error_says_that_nothing_is_lost(saved, tmp_path):
    with pytest.raises(SnapshotError, match="can be rebuilt from the ledger"):
        save(saved[0], tmp_path / "no folder" / "state", 50)
