"""What must hold when things break, in short; `python -m benchmarks.faults` does it at length."""

import polars as pl
import pytest

from benchmarks import redis_servers
from benchmarks.faults.artifacts import bundle_at_start, snapshot
from benchmarks.faults.connections import half_closed
from benchmarks.faults.ground import Ground, array_of
from benchmarks.faults.killed import kill
from benchmarks.faults.ledger import locked
from benchmarks.faults.malformed import bad_inputs
from benchmarks.faults.postgres import postgres
from benchmarks.faults.replicas import replicas
from benchmarks.faults.row import QUICK
from benchmarks.faults.server import warm_up
from benchmarks.serving.traffic import traffic_of
from benchmarks.table import Progress
from services import lack

SHORT = QUICK._replace(rounds=3, bodies=300, generated=0, locked_s=6.5)
PAST = pl.duration(days=4000)  # the traffic's dates go on after those of the file, and none may be in the future


@pytest.fixture(scope="module")
def ground(trained, tmp_path_factory):
    """Servers, warmed up once, on the bundle that a user would have trained."""
    frame = pl.read_parquet(trained / "payments.parquet").head(4000)
    traffic = traffic_of(frame.with_columns(pl.col("effective_time") - PAST), frame.height)
    ground = Ground(tmp_path_factory.mktemp("faults"), trained / "bundles", traffic, None, Progress())
    warm_up(ground.folder("warm"), array_of(traffic, 0, 10))
    return ground


@pytest.mark.slow
def test_kill_9_under_load_loses_nothing_and_doubles_nothing(ground):
    """What was acknowledged is there after each kill, once, and features and state are those of an unbroken run."""
    held(kill(ground, SHORT))


@pytest.mark.slow
def test_postgresql_killed_under_load_loses_nothing_and_doubles_nothing(ground, postgres_server):
    """While it is away clients are told so; the server goes on by itself, with the state of an unbroken run."""
    assert postgres_server  # skipped where there is none
    held(postgres(ground, SHORT))


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_servers_on_one_ledger_and_one_state_are_killed_and_nothing_counts_twice_or_not_at_all(ground, postgres_server):
    """Whoever dies, one of them or Redis under them: any other has the same answers, and the state is the record's."""
    assert postgres_server
    if not redis_servers.installed():
        lack("redis", f"needs {redis_servers.PACKAGE}")
    held(replicas(ground, SHORT))


@pytest.mark.slow
def test_a_locked_ledger_is_waited_out_and_what_could_not_be_written_is_refused(ground):
    """While another process holds the ledger, 503 ledger_failed; afterwards on without a restart."""
    held(locked(ground, SHORT))


@pytest.mark.slow
def test_a_damaged_state_is_replaced_by_a_replay_with_the_same_answers(ground):
    """A flipped bit, a cut file and a state of other features cost time at the start and change no answer."""
    held(snapshot(ground, SHORT))


def test_a_damaged_bundle_is_refused_at_the_start(ground):
    """One flipped bit of model or manifest: one line that names the file, exit code 5."""
    held(bundle_at_start(ground, SHORT))


def test_malformed_bodies_end_no_process_and_cause_no_error_of_its_own(ground):
    """Cut, deep, huge, mistyped and undecodable bodies get 4xx, and the same process goes on."""
    held(bad_inputs(ground, SHORT))


def test_a_client_that_shuts_its_writing_side_is_answered(ground):
    """Half-closed connections are legal TCP, and some proxies make them."""
    held(half_closed(ground, SHORT))


def held(row):
    assert row.held, f"{row.fault}: expected that {row.outcome}; but {row.seen}"
