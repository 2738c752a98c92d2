"""What a monitor sees in a ledger, and what it makes of it."""

import msgspec
import numpy as np
import pytest

from deciding import READER
from observing import FIRST_DAY, GROUP, PER_DAY, POLICY, add_labels, manifest, payments, record
from tollgate.config import MonitorConfig, PolicyConfig
from tollgate.decision import Outcome
from tollgate.duration import DAY_US
from tollgate.label import LabelSource
from tollgate.ledger.archive import archive
from tollgate.ledger.decided import CHUNK_ROWS, decided_since, newest_us
from tollgate.ledger.labels import labels_of
from tollgate.maturity import wilson
from tollgate.monitor import State, findings, worst
from tollgate.observation import Observer, Periods

DELAY_US = 5 * DAY_US
WINDOW_US = 7 * DAY_US
TRAINING = payments(14, 0)
MANIFEST = manifest(TRAINING)
CONFIG = MonitorConfig(fewest_frauds=5)
START = FIRST_DAY + 30


@pytest.fixture
def ledger(open_ledger, tmp_path):
    return open_ledger(f"sqlite:///{tmp_path / 'l.db'}", "os")


def look(ledger, at_us, made=MANIFEST, bundle="champion", window_us=WINDOW_US):
    newest = newest_us(ledger.engine)
    periods = Periods.of(at_us, newest, window_us, DELAY_US)
    observer = Observer(bundle, made, periods, 5 * 60_000_000, lambda _bundle: PolicyConfig(review=0.3, block=0.95))
    for part in decided_since(ledger.engine, periods.since_us):
        observer.add(
            part,
            lambda ids: labels_of(ledger.engine, ids, at_us),
            lambda bodies: READER.from_bodies(bodies).value("amount") / 100,
        )
    return observer.observation(at_us, newest)


def by_name(seen, config=CONFIG):
    return {(one.subject, one.measure): one for one in findings(seen, config)}


def test_a_feature_whose_values_move_is_found_and_named_and_a_stable_one_is_not(ledger):
    """Amounts triple in the second week: the amount and the score move; counts and channels do not."""
    record(ledger, payments(7, 1, first_day=START), "champion")
    record(ledger, payments(7, 2, first_day=START + 7, raised=3.0), "champion")
    calm = by_name(look(ledger, (START + 7) * DAY_US))
    moved = by_name(look(ledger, (START + 14) * DAY_US))
    drifted = {name for name, one in moved.items() if one.measure == "drift" and one.state is State.ATTENTION}
    assert drifted == {("amount", "drift"), ("score", "drift")}
    assert "from" in moved["amount", "drift"].text
    assert moved["card_count_1h", "drift"].state is moved["channel", "drift"].state is State.FINE
    assert all(one.state is State.FINE for one in calm.values() if one.measure in ("drift", "missing"))
    assert findings(look(ledger, (START + 14) * DAY_US), CONFIG)[0].state is State.ATTENTION


def test_a_field_that_is_lost_is_named(ledger):
    """A third of the payments has no channel any more."""
    record(ledger, payments(7, 1, first_day=START, lost=1 / 3), "champion")
    found = by_name(look(ledger, (START + 7) * DAY_US))
    assert found["channel", "missing"].state is State.ATTENTION
    assert found["channel", "missing"].value.startswith("3")
    assert ("amount", "missing") not in found


def test_with_few_payments_drift_is_not_judged(ledger):
    """Ninety payments of the same kind have a large index by chance: it is said, and nobody is woken."""
    record(ledger, payments(1, 1, first_day=START, per_day=90, raised=3.0), "champion")
    found = by_name(look(ledger, (START + 1) * DAY_US))
    assert found["amount", "drift"].state is State.UNKNOWN
    assert "too few" in found["amount", "drift"].text


def test_immature_labels_are_not_counted(ledger):
    """Only payments older than the delay are judged, by labels known by then, and the newest label counts."""
    rows = payments(14, 1, first_day=START)
    decisions = record(ledger, rows, "champion")
    at_us = (START + 14) * DAY_US
    time_us = READER.from_rows(rows).time_us
    old = time_us < at_us - DELAY_US
    in_window = old & (time_us >= at_us - DELAY_US - WINDOW_US)
    rng = np.random.default_rng(3)
    fraud = rng.random(len(rows)) < 0.05
    late = rng.random(len(rows)) < 0.2  # the label comes after the look
    reversed_ = rng.random(len(rows)) < 0.2
    labels = []
    for place in np.flatnonzero(fraud).tolist():
        known_us = int(time_us[place]) + DELAY_US // 2 + (365 * DAY_US if late[place] else 0)
        labels.append((rows[place]["transaction_id"], True, known_us, LabelSource.CUSTOMER))
        if reversed_[place]:
            labels.append((rows[place]["transaction_id"], False, known_us + 1, LabelSource.CHARGEBACK))
    add_labels(ledger, *labels)
    seen = look(ledger, at_us)
    known = fraud & in_window & ~late & ~reversed_
    labelled = fraud & in_window & ~late
    levels = np.array([list(Outcome).index(one.outcome) for one in decisions])
    blocked_unknown = in_window & (levels == 2) & ~labelled
    held = in_window & (levels >= 1) & ~blocked_unknown
    amounts = np.array([row["amount"] for row in rows])
    done = seen.performance
    assert done.transactions == in_window.sum() < old.sum()
    assert (done.labelled, done.blocked_unknown) == (labelled.sum(), blocked_unknown.sum())
    assert (done.frauds, done.caught, done.alerts) == (known.sum(), (known & held).sum(), held.sum())
    assert done.frauds > 10
    assert blocked_unknown.any()
    assert done.recall == (known & held).sum() / known.sum()
    assert done.precision == (known & held).sum() / held.sum()
    assert done.value_detection_rate == pytest.approx(amounts[known & held].sum() / amounts[known].sum())
    open_ = in_window & (levels != 2)
    points = np.array([one.score for one in decisions])
    assert seen.calibration.expected == pytest.approx(points[open_].sum())
    assert seen.calibration.frauds == (known & open_).sum()
    assert sum(one.transactions for one in seen.calibration.bins) == open_.sum()
    customer = next(one for one in seen.lags if one.source == "customer")
    assert customer.labels == labelled.sum()
    assert customer.median_s == pytest.approx(2.5 * 86_400)


def test_scores_that_foretell_too_much_are_found(ledger):
    """No fraud comes where the scores expect many; as many as expected are fine."""
    rows = payments(14, 1, first_day=START)
    decisions = record(ledger, rows, "champion")
    at_us = (START + 14) * DAY_US
    rng = np.random.default_rng(4)
    times = READER.from_rows(rows).time_us
    add_labels(
        ledger,
        *(
            (one.transaction_id, True, int(when) + 1, LabelSource.ANALYST)
            for one, when in zip(decisions, times, strict=True)
            if one.outcome is not Outcome.BLOCK and rng.random() < one.score
        ),
    )
    fine = by_name(look(ledger, at_us))["calibration", "frauds"]
    assert fine.state is State.FINE
    wrong = by_name(look(ledger, at_us, bundle="champion"), msgspec.structs.replace(CONFIG, calibration_limit=1.01))
    assert wrong["calibration", "frauds"].state is State.FINE  # it is off by more than that, by chance
    high = [one.transaction_id for one in decisions if one.score > 0.02]
    add_labels(ledger, *((one, False, at_us - 1, LabelSource.CHARGEBACK) for one in high))
    found = by_name(look(ledger, at_us))["calibration", "frauds"]
    assert found.state is State.ATTENTION


def test_traffic_is_counted_day_by_day(ledger):
    """Outcomes, decisions without the model, late payments, and those of another bundle."""
    rows = payments(7, 1, first_day=START)
    rows[500], rows[1500] = rows[1500], rows[500]  # one comes long after newer ones
    decisions = record(ledger, rows, "champion", degraded=set(range(0, len(rows), 50)))
    record(ledger, payments(1, 2, first_day=START + 6), "another")
    seen = look(ledger, (START + 7) * DAY_US)
    traffic = seen.traffic
    assert traffic.transactions == len(rows) == sum(one.transactions for one in traffic.days)
    assert len(traffic.days) == 7
    assert {one: sum(d.outcome is one for d in decisions) for one in Outcome} == traffic.outcomes
    assert traffic.degraded == len(rows) // 50 == sum(one.degraded for one in traffic.days)
    assert traffic.late >= 999  # all that came after the one that was early, too
    assert PER_DAY // 2 < traffic.others <= PER_DAY
    found = by_name(seen)
    assert found["degraded", "share"].state is State.ATTENTION
    assert found["late", "share"].state is State.ATTENTION
    assert by_name(seen, MonitorConfig(alerts_per_day=1))["alerts", "a day"].state is State.ATTENTION
    assert by_name(seen)["alerts", "a day"].state is State.FINE


def test_silence_asks_for_attention(ledger):
    """Nothing decided by this bundle, and the newest payment is old; an empty ledger is no error."""
    assert worst(findings(look(ledger, START * DAY_US), CONFIG)) is State.ATTENTION
    record(ledger, payments(2, 1, first_day=START), "another")
    found = by_name(look(ledger, (START + 3) * DAY_US))
    assert found["decisions", "count"].state is found["newest payment", "age"].state is State.ATTENTION
    assert found["newest payment", "age"].value == "1.0 d"


def test_a_challenger_is_compared_at_its_own_thresholds(ledger):
    """How alike both treat payments, and how many alerts each would raise; what it failed to score is apart."""
    rows = payments(7, 1, first_day=START)
    decisions = record(ledger, rows[:1000], "champion", shadow=("challenger", 0.05))
    record(ledger, rows[1000:1200], "champion", shadow=("challenger", np.nan))
    record(ledger, rows[1200:], "champion")
    (one,) = look(ledger, (START + 7) * DAY_US).challengers
    points = np.array([d.score for d in decisions])
    theirs = np.clip(points + 0.05, 0, 1)
    levels = (points >= POLICY.review).astype(int) + (points >= POLICY.block)
    other = (theirs >= 0.3).astype(int) + (theirs >= 0.95)
    assert (one.bundle, one.transactions, one.unscored) == ("challenger", 1000, 200)
    assert one.same == pytest.approx(np.mean(levels == other))
    assert (one.alerts, one.champion_alerts) == ((other > 0).sum(), (levels > 0).sum())
    assert one.alerts_in_common == ((other > 0) & (levels > 0)).sum()
    assert one.mean_distance == pytest.approx(np.mean(np.abs(theirs - points)))


def test_archived_decisions_are_seen_as_before(ledger, tmp_path):
    """Wherever a decision lies, in the table or in files, it is counted once."""
    rows = payments(12, 1, first_day=START)
    record(ledger, rows[:1500], "champion", shadow=("challenger", 0.05))
    record(ledger, rows[1500:], "champion")
    at_us = (START + 12) * DAY_US
    before = look(ledger, at_us)
    assert archive(ledger, (START + 9) * DAY_US, tmp_path / "archive").transactions > 2000
    after = look(ledger, at_us)
    assert msgspec.json.encode(after) == msgspec.json.encode(before)


def test_small_groups_come_in_large_chunks_and_in_order(ledger):
    """Groups of a few are joined; imported history is left out, and what is older than asked for."""
    rows = payments(40, 1, first_day=START)
    record(ledger, rows, "champion")
    since_us = (START + 5) * DAY_US
    parts = list(decided_since(ledger.engine, since_us))
    assert [identifier for one in parts for identifier in one.ids] == [
        row["transaction_id"]
        for row, when in zip(rows, READER.from_rows(rows).time_us, strict=True)
        if when >= since_us
    ]
    assert len(parts) == 2
    assert CHUNK_ROWS <= len(parts[0].ids) < CHUNK_ROWS + GROUP
    assert all(len(one.features) == len(one.bodies) == len(one.answers) == len(one.ids) for one in parts)


def test_a_bundle_of_before_scores_were_kept_is_watched_without_them(ledger):
    """Its features are, and nothing is said of the score."""
    record(ledger, payments(7, 1, first_day=START), "champion")
    seen = look(ledger, (START + 7) * DAY_US, made=manifest(TRAINING, scores=None))
    assert seen.score is None
    assert ("score", "drift") not in by_name(seen)


@pytest.mark.parametrize(("hits", "rows"), [(0, 10), (3, 10), (10, 10), (50, 1000)])
def test_intervals_are_those_of_wilson(hits, rows):
    """As another library computes them."""
    from scipy.stats import binomtest

    other = binomtest(hits, rows).proportion_ci(method="wilson")
    assert wilson(hits, rows) == pytest.approx((other.low, other.high), abs=1e-5)
