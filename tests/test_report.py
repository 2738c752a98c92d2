import base64
import re
from html.parser import HTMLParser
from xml.etree import ElementTree as ET

import numpy as np
import pytest

from learning import CATEGORICAL, NAMES, payments
from tollgate.config import EvaluateConfig, PolicyConfig
from tollgate.dataset import Window
from tollgate.duration import DAY_US
from tollgate.evaluate import evaluate, fraud_groups
from tollgate.model.profile import profile_features
from tollgate.report import MEASURES, History, render_report
from tollgate.train import Epoch

TEST = payments(2000, days=6)
RNG = np.random.default_rng(5)
SCORES = {
    "Tollgate": np.clip(0.6 * TEST.is_fraud + 0.4 * RNG.random(2000) ** 3, 0, 1),
    "LightGBM": np.clip(0.3 * TEST.is_fraud + 0.6 * RNG.random(2000) ** 3, 0, 1),
}
HISTORY = History(
    training=Window(17_000 * DAY_US, 17_007 * DAY_US),
    rows=1234,
    frauds=56,
    validation_rows=300,
    epochs=[Epoch(1, 0.5, 0.4, 0.6, True), Epoch(2, 0.4, 0.35, 0.7, True), Epoch(3, 0.3, 0.36, 0.65, False)],
    best=2,
    warnings=["feature '<script>' is missing on all training rows"],
    features=profile_features(TEST.features, NAMES, CATEGORICAL),
)


def render(scores=SCORES, test=TEST, history=HISTORY, groups=None):
    evaluation = evaluate(test, scores, EvaluateConfig(alerts_per_day=20), PolicyConfig())
    return evaluation, render_report(evaluation, history, title="Model <1>", currency="EUR", groups=groups)


class Page(HTMLParser):
    """Collects the tags, the pictures and the text of a page."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.sources, self.words = [], [], []
        self.feed(text)
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.sources += [value for name, value in attributes if name in ("src", "href")]

    def handle_data(self, data):
        self.words.append(data)


@pytest.fixture(scope="module")
def rendered():
    groups = fraud_groups(TEST, np.where(TEST.amount > 300, "large_amount", "other").astype(object))
    return render(groups=groups)


def test_it_says_what_was_measured(rendered):
    evaluation, html = rendered
    page = Page(html)
    own = evaluation.measures["Tollgate"]

    assert f"see {100 * own.recall:.1f}% of the frauds" in page.text
    assert f"{100 * own.value_detection_rate:.1f}% of the stolen money" in page.text
    assert f"{own.average_precision:.3f}" in page.text
    for _, title, _, _ in MEASURES:
        assert title in page.text
    for words in ("Fitted on 1,234 payments with 56 frauds", "keeping epoch 2 of 3", "2,000", "card_count_1h"):
        assert words in page.text


def test_the_better_model_is_marked_whichever_it_is():
    swapped = {"Tollgate": SCORES["LightGBM"], "LightGBM": SCORES["Tollgate"]}

    rows = [
        re.search(r"Average precision<small>.*?</tr>", render(scores)[1], re.DOTALL)[0] for scores in (SCORES, swapped)
    ]

    marks = [re.findall(r'<td class="n( best)?">', row) for row in rows]
    assert marks == [[" best", ""], ["", " best"]]


def test_pictures_are_inside_and_nothing_is_fetched_or_run(rendered):
    page = Page(rendered[1])

    assert len(page.sources) == 8  # one more than without groups
    for source in page.sources:
        kind, data = source.split(",", 1)
        assert kind == "data:image/svg+xml;base64"
        assert ET.fromstring(base64.b64decode(data)).tag.endswith("svg")
    assert not {"script", "link", "iframe"} & set(page.tags)
    assert "url(" not in rendered[1]


def test_names_are_text_and_never_markup(rendered):
    page = Page(rendered[1])

    assert "feature '<script>' is missing" in page.text
    assert "Model <1>" in page.text


def test_the_same_evaluation_gives_the_same_bytes():
    assert render()[1] == render()[1]


def test_without_training_curve_or_groups_those_pictures_are_left_out():
    history = History(HISTORY.training, 10, 2, 5)

    page = Page(render(history=history)[1])

    assert len(page.sources) == 6
    assert "Read this first" not in page.text
    assert "keeping epoch" not in page.text


def test_scores_that_are_all_the_same_still_make_a_report():
    evaluation, html = render({"Tollgate": np.full(2000, 0.01)})

    assert evaluation.measures["Tollgate"].auc_roc == 0.5
    assert "0.500" in Page(html).text


def test_scores_of_zero_and_one_still_make_a_report():
    page = Page(render({"Tollgate": TEST.is_fraud.astype(float)})[1])

    assert len(page.sources) == 7


def test_a_test_without_fraud_still_makes_a_report_and_says_what_is_not_known():
    good = TEST.take(~TEST.is_fraud)

    page = Page(render({"Tollgate": SCORES["Tollgate"][~TEST.is_fraud]}, test=good)[1])

    assert len(page.sources) == 4
    assert "see \N{EN DASH} of the frauds" in page.text
