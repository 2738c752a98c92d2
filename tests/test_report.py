import base64
import math
import re
from html.parser import HTMLParser
from xml.etree import ElementTree as ET

import numpy as np
import pytest

from learning import CATEGORICAL, NAMES, halves, payments
from tollgate.bootstrap import Interval
from tollgate.config import EvaluateConfig, PolicyConfig
from tollgate.dataset import Window
from tollgate.duration import DAY_US
from tollgate.evaluate import differences, evaluate, fraud_groups
from tollgate.model.profile import profile_features
from tollgate.report import MEASURES, History, _how_chosen, _verdict, render_report
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


def render(scores=SCORES, test=TEST, history=HISTORY, groups=None, categories=None, **settings):
    config = EvaluateConfig(alerts_per_day=20, **settings)
    evaluation = evaluate(test, scores, config, PolicyConfig(), categories=categories)
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


def test_a_figure_stands_with_its_interval(rendered):
    """The interval of each resampled measure of each model is below the figure, and it is said what it is."""
    evaluation, html = rendered
    page = Page(html)

    for name in SCORES:
        ap = evaluation.intervals[name]["average_precision"]
        assert f"{ap.low:.3f} to {ap.high:.3f}" in page.text
    assert "is its 95% interval" in page.text


def test_the_difference_of_the_two_models_is_one_sentence(rendered):
    """By how much, between what, and whether that is more than chance."""
    evaluation, html = rendered
    gap = evaluation.differences["LightGBM"]

    assert gap.low > 0
    assert (
        f"Average precision is better than LightGBM's by {gap.value:.3f} (95% interval {gap.low:.3f} to "
        f"{gap.high:.3f}): more than chance explains."
    ) in Page(html).text


@pytest.mark.parametrize(
    ("interval", "words"),
    [
        (
            Interval(0.012, -0.004, 0.02),
            "better than X's by 0.012 (95% interval -0.004 to 0.020): the difference may be",
        ),
        (
            Interval(-0.012, -0.02, 0.004),
            "worse than X's by 0.012 (95% interval -0.004 to 0.020): the difference may be",
        ),
        (
            Interval(-0.012, -0.02, -0.004, 0.9),
            "worse than X's by 0.012 (90% interval 0.004 to 0.020): more than chance",
        ),
        (Interval(math.nan, math.nan, math.nan), "cannot be compared with X's"),
    ],
)
def test_a_difference_is_told_as_how_much_better_or_worse(interval, words):
    """A worse model is told by positive numbers, the lower end first; one within chance is not called a victory."""
    assert f"Average precision {'' if 'cannot' in words else 'is '}{words}" in _verdict("X", interval).replace(
        "\N{MINUS SIGN}", "-"
    )


def test_money_saved_is_told_with_the_price_of_a_review(rendered):
    """A manager reads what is saved a day, or what it costs more than it saves."""
    evaluation, html = rendered
    saved = evaluation.measures["Tollgate"].money_saved_per_day

    assert f"At 5.00 EUR a review they save {saved:,.0f} EUR a day" in Page(html).text
    assert "EUR a day more than they save" in Page(render(review_cost=10_000)[1]).text


def test_slices_are_told_and_those_with_few_frauds_have_a_dash():
    """A slice with enough frauds has figures; one with too few has its counts and dashes."""
    shop = np.where(np.arange(2000) < 1990, "open", "hidden <b>").astype(object)

    evaluation, html = render(categories={"shop_kind": shop})

    few = next(one for one in evaluation.slices if one.name == "hidden <b>")
    many = next(one for one in evaluation.slices if one.name == "open")
    text = Page(html).text
    assert "By shop kind" in text
    assert f"hidden <b> 10 {few.frauds} " + " ".join("\N{EN DASH}" * 6) in text
    assert f"open 1,990 {many.frauds} {many.average_precision:.3f} {many.auc_roc:.3f}" in text


def test_several_weeks_are_told_one_by_one_and_drawn(rendered):
    """A test of 16 days has a table of three weeks and one picture more; a single week has neither."""
    test = payments(2000, days=16)

    evaluation, html = render({"Tollgate": SCORES["Tollgate"]}, test=test)

    page = Page(html)
    assert len(page.sources) == 8
    assert "all labels known on" in page.text
    for week in evaluation.weeks:
        assert f"{np.datetime64(week.start_us, 'us')}"[:10] + f" {week.days} {week.rows}" in page.text
    assert "all labels known on" not in Page(rendered[1]).text


def test_folds_are_told_as_weeks_and_compared_over_all():
    """Of several test periods each week is a row, and one sentence compares the models over all of them."""
    config = EvaluateConfig(alerts_per_day=20, resamples=30)
    folds = halves(TEST, SCORES, config)
    gap = differences(folds, config)

    html = render_report(folds[-1], HISTORY, title="Folds", currency="EUR", folds=folds, over_folds=gap)

    text = Page(html).text
    assert f"Over all 2 test periods: {_verdict('LightGBM', gap['LightGBM'])}" in text
    assert text.count("than LightGBM's by") == 1
    assert "Each test period had a model of its own" in text
    for fold in folds:
        assert f"{fold.weeks[0].rows:,} {fold.weeks[0].frauds} {fold.weeks[0].average_precision:.3f}" in text


def test_it_is_said_how_the_thresholds_were_chosen():
    """By hand, by budget or by cost, with the costs that were assumed and what they come to."""
    fixed, budget, cost = (
        evaluate(TEST, SCORES, EvaluateConfig(resamples=0), PolicyConfig(choose=choose))
        for choose in ("fixed", "budget", "cost")
    )

    assert "fixed scores of the configuration" in _how_chosen(fixed, "EUR")
    assert "at most 100 of them a day" in _how_chosen(budget, "EUR")
    text = _how_chosen(cost, "EUR")
    assert "a missed fraud costs 100% of its amount, a blocked good payment 10.00 EUR, a review 5.00 EUR" in text
    assert f"decisions would have cost {cost.policy_cost:,.0f} EUR" in text


def test_it_is_said_in_the_page_how_the_thresholds_were_chosen(rendered):
    """The sentence stands below the thresholds."""
    assert _how_chosen(rendered[0], "EUR") in Page(rendered[1]).text


def test_without_resampling_there_is_no_word_of_intervals():
    """`resamples = 0` gives a report without intervals and without a verdict."""
    text = Page(render(resamples=0)[1]).text

    assert "interval: how far" not in text
    assert "than LightGBM's" not in text
