"""Labels that are wrong are noticed without knowing the truth; a wave of fraud is not taken for them."""

import numpy as np
import pytest

from tollgate.config import FeedConfig
from tollgate.feed import Feed, examine

SINCE_US = 1_000_000
RNG = np.random.default_rng(5)
BACKGROUND = RNG.beta(1, 30, 5000)


def feed(parts):
    """Labels of `parts`: source, frauds, goods, how often the score agrees with the label, and when."""
    sources, verdicts, times, scores = [], [], [], []
    for source, frauds, goods, agrees, available_us in parts:
        for verdict, count in ((True, frauds), (False, goods)):
            high = np.where(RNG.random(count) < agrees, verdict, not verdict)
            scores.append(np.where(high, RNG.beta(5, 2, count), RNG.beta(1, 30, count)))
            sources += [source] * count
            verdicts += [verdict] * count
            times += [available_us] * count
    return Feed(
        np.array(sources, dtype=object), np.array(verdicts), np.array(times, dtype=np.int64), np.concatenate(scores)
    )


def failed(*parts, config=FeedConfig()):
    return [check.name for check in examine(feed(parts), BACKGROUND, SINCE_US, config) if not check.passed]


USUAL = (("analyst", 200, 800, 0.8, 0), ("chargeback", 300, 0, 0.7, 0))


def test_the_usual_labels_are_believed():
    assert failed(*USUAL, ("analyst", 55, 200, 0.8, SINCE_US), ("chargeback", 80, 0, 0.7, SINCE_US)) == []


def test_a_wave_of_fraud_that_the_model_does_not_know_is_believed():
    """Twice as many frauds, and scores that say nothing of them: that is what a retrain is for."""
    assert failed(*USUAL, ("analyst", 110, 200, 0.55, SINCE_US), ("chargeback", 160, 0, 0.3, SINCE_US)) == []


def test_a_source_that_turned_its_labels_round_is_noticed():
    """By the share of fraud, and by the order of the scores."""
    inverted = ("analyst", 200, 55, 0.2, SINCE_US)
    assert failed(*USUAL, inverted) == ["fraud_share_analyst", "order_analyst"]


def test_an_inverted_source_is_noticed_from_its_first_day():
    """The order needs no history."""
    assert failed(("analyst", 200, 60, 0.2, SINCE_US)) == ["order_analyst"]


def test_flipped_labels_are_noticed_by_their_share():
    """5% of all good payments called fraud are ten times the usual frauds."""
    usual = ("customer", 60, 9940, 0.8, 0)
    flipped = ("customer", 60 + 497, 9443, 0.5, SINCE_US)
    assert "fraud_share_customer" in failed(usual, flipped)


def test_a_source_that_stops_reporting_fraud_is_noticed():
    assert failed(*USUAL, ("analyst", 0, 300, 0.8, SINCE_US)) == ["fraud_share_analyst"]


@pytest.mark.parametrize("parts", [(), (("analyst", 10, 10, 0.0, SINCE_US),)])
def test_too_few_labels_tell_nothing(parts):
    """Neither for nor against."""
    found = examine(feed((("import", 1, 1, 1.0, 0), *parts)), BACKGROUND, SINCE_US, FeedConfig())
    assert found == ()
