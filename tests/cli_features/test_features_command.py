"""`tollgate features`."""

import math

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

from tollgate.cli.features import features
from tollgate.errors import EXIT_PARTIAL, ConfigError, InputError
from tollgate.features.payments import PAYMENT_FEATURES
from tollgate.simulate import Scenario, simulate, write

WIDE = {"COLUMNS": "220"}
ONE = """
from tollgate.features import entity, tx
card = entity("card_id")
FEATURES = [tx.amount, *card.count(over=["1h", "1d"]), tx.mcc.category()]
"""
TWO = """
from tollgate.features import entity, tx
card = entity("card_id")
FEATURES = [
    tx.amount, card.count(over="1h", where=tx.amount < 5).named("card_count_1h"), card.count(over="1d").named("daily"),
    card.sum(tx.amount, over="7d"),
]
"""


@pytest.fixture(scope="module")
def payments(tmp_path_factory):
    """A file of simulated payments."""
    path = tmp_path_factory.mktemp("payments") / "payments.parquet"
    write(simulate(Scenario(transactions=1500, cards=100, merchants=200, days=20, fraud_rate=0.05)), path)
    return path


@pytest.fixture
def configured(tmp_path):
    """A configuration whose features file is ONE."""
    (tmp_path / "one.py").write_text(ONE)
    (tmp_path / "two.py").write_text(TWO)
    path = tmp_path / "tollgate.toml"
    path.write_text('features = "one.py"\n')
    return path


def invoke(*arguments):
    return CliRunner(env=WIDE).invoke(features, [str(one) for one in arguments])


def test_list_shows_every_feature_and_the_memory_of_each_kind_of_entity(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = invoke("list")
    assert result.exit_code == 0
    for feature in PAYMENT_FEATURES:
        assert f" {feature.name} " in result.output
    assert f"{len(PAYMENT_FEATURES)} features" in result.output
    for text in ("card x merchant", "within 90d", "1m, 10m, 1h, 1d, 7d, 30d", "bytes an event"):
        assert text in result.output


def test_list_reads_the_features_that_the_configuration_names(configured):
    result = invoke("list", "--config", configured)
    assert "4 features" in result.output
    assert "card_count_1d" in result.output


def test_explain_says_a_feature_in_words_and_shows_its_tree(configured):
    result = invoke("explain", "card_count_1h", "--config", configured)
    assert result.output.splitlines() == [
        "card_count_1h: how many transactions of the card in the last 1h.",
        "",
        "Never missing.",
        "Looks at card: 1h.",
        "Keeps count: 24 bytes an entity and 0 bytes an event, where nothing else needs them.",
        "",
        "window: how many transactions of the card in the last 1h",
    ]
    assert "Missing where mcc is missing." in invoke("explain", "mcc", "--config", configured).output


def test_explain_of_an_unknown_name_lists_those_that_there_are(configured):
    error = invoke("explain", "nothing", "--config", configured).exception
    assert isinstance(error, ConfigError)
    assert "there are: amount, card_count_1h" in error.message


def test_diff_tells_what_was_added_removed_changed_and_renamed(configured):
    result = invoke("diff", configured.with_name("one.py"), configured.with_name("two.py"), "-c", configured)
    assert result.exit_code == 0
    assert result.output.splitlines() == [
        "+ card_amount_sum_7d: the sum of amount over the transactions of the card in the last 7d",
        "- mcc: mcc of the transaction, as a category",
        "~ card_count_1h",
        "    was how many transactions of the card in the last 1h",
        "    is  how many transactions of the card in the last 1h where amount < 5",
        "= card_count_1d is now called daily",
        "1 added, 1 removed, 1 changed, 1 renamed, 1 the same",
    ]


def test_diff_of_a_file_that_does_not_fit_the_schema_is_refused(configured):
    wrong = configured.with_name("wrong.py")
    wrong.write_text("from tollgate.features import tx\nFEATURES = [tx.colour]")
    assert isinstance(invoke("diff", configured.with_name("one.py"), wrong, "-c", configured).exception, ConfigError)


def test_preview_prints_the_figures_of_the_first_rows_by_label(configured, payments):
    page = configured.with_name("out") / "page.html"
    result = invoke("preview", payments, "--config", configured, "--rows", 1000, "--output", page)
    assert result.exit_code == 0

    frame = pl.read_parquet(payments).head(1000)
    good, fraud = (frame.filter(pl.col("is_fraud") == label) for label in (False, True))
    assert 0 < len(fraud) < len(frame)
    assert f"{len(good)} good payments and {len(fraud)} frauds" in result.output
    (line,) = [line for line in result.output.splitlines() if " amount " in line]
    cells = [[text.strip() for text in cell.split("/")] for cell in line.split("│")[2:-1]]
    for place, part in enumerate((good, fraud)):
        amount = part["amount"]
        shown = [float(cell[place].replace(",", "")) for cell in cells]
        assert shown[0] == amount.null_count()
        np.testing.assert_allclose(shown[1:], [amount.min(), amount.median(), amount.max()], rtol=1e-3)
    (line,) = [line for line in result.output.splitlines() if " mcc " in line]
    assert f"{good['mcc'].null_count()} / {fraud['mcc'].null_count()}" in line

    html = page.read_text()
    assert html.count("data:image/svg+xml;base64,") == 4
    for text in ("card_count_1d", "how many transactions of the card in the last 1d", f"{len(fraud)} frauds"):
        assert text in html
    assert "<script" not in html


def test_preview_of_a_file_with_a_bad_row_leaves_it_out_and_says_so(configured, payments, tmp_path):
    data = tmp_path / "some.csv"
    frame = (
        pl.read_parquet(payments)
        .head(50)
        .with_columns(amount=pl.when(pl.int_range(50) == 3).then(-1.0).otherwise("amount"))
    )
    frame.with_columns(pl.col("effective_time", "label_available").dt.to_string("iso:strict")).write_csv(data)
    result = invoke("preview", data, "--config", configured, "--rows", 20, "--output", tmp_path / "page.html")
    assert result.exit_code == EXIT_PARTIAL
    assert "20 payments" in (tmp_path / "page.html").read_text().replace("over 20\n", "over 20 ")
    assert (tmp_path / "page.html.rejected.jsonl").read_text().count("bad_amount") == 1


def test_preview_of_a_file_without_a_usable_row_is_an_error(configured, tmp_path):
    data = tmp_path / "none.csv"
    data.write_text(
        "transaction_id,effective_time,amount,currency,card_id,is_fraud\na,2026-01-01T00:00:00Z,x,EUR,c,0\n"
    )
    result = invoke("preview", data, "--config", configured, "--output", tmp_path / "page.html")
    assert isinstance(result.exception, InputError)
    assert not (tmp_path / "page.html").exists()


def test_missing_constant_and_single_label_features_are_drawn_too():
    from tollgate.distribution import draw_category, draw_number
    from tollgate.preview import figures_of

    nothing, same = np.empty(0), np.full(10, 2.5)
    assert draw_number(nothing, nothing) is None
    assert draw_category(nothing, nothing, {}) is None
    for good, fraud in ((same, nothing), (nothing, same), (same, same), (np.geomspace(1e-3, 1e6, 50), same),
                        (np.array([-1e9, 0, 1e9]), same), (np.array([3.0]), np.array([3.0]))):  # fmt: skip
        assert draw_number(good, fraud).rstrip().endswith("</svg>")
    assert "</svg>" in draw_category(np.arange(30.0), same, {2.5: "a very long name of a category"})
    assert all(math.isnan(one) for one in figures_of(np.full(3, math.nan), categorical=False)[2:])
