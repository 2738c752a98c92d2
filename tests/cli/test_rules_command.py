"""`tollgate rules`, and docs/policy.md, which says how they are used."""

import json
import re
import shlex
from pathlib import Path

import msgspec
import polars as pl
import pytest

from cli.running import tollgate
from tollgate.config import Config
from tollgate.decision import Outcome
from tollgate.features.payments import PAYMENT_FEATURES
from tollgate.features.plan import compile_plan
from tollgate.rules import Rule, RuleMode, compile_rules, parse_rules

PAGE = (Path(__file__).parents[2] / "docs" / "policy.md").read_text(encoding="utf-8")
COMMANDS = [line for text in re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL) for line in text.splitlines()]
(RULES,) = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
LARGE = {"name": "large", "when": "tx.amount > 100", "action": "review", "reason": "large", "mode": "live"}


def write(folder, *rules):
    (folder / "rules.json").write_text(json.dumps({"rules": rules}))


@pytest.fixture
def rules(workspace):
    """Runs `tollgate rules` on a file of rules in a folder with a champion and labelled payments."""

    def run(command, *arguments, expect=0):
        return tollgate("rules", command, *arguments, cwd=workspace, expect=expect)

    return run


def test_the_commands_on_the_page_run_in_order(workspace):
    """Lists first, then a rule set from its check to the audit trail."""
    (workspace / "rules.toml").write_text(RULES)
    assert len(COMMANDS) == 11
    printed = [tollgate(*shlex.split(one)[1:], cwd=workspace) for one in COMMANDS]
    assert "3 rules (2 live, 1 shadow, 0 off) compile" in printed[5]
    assert "in addition" not in printed[7]
    assert "what it adds to the thresholds" in printed[7]
    assert "published version 1: added fast_cards, new_device_at_night, small_and_known" in printed[8]
    assert "new_device_at_night" in printed[9]
    assert all(action in printed[10] for action in ("list.add", "list.remove", "rules.backtest", "rules.publish"))


def test_the_rules_on_the_page_compile_for_the_built_in_features():
    """And the table of fields names all that a rule has, with the defaults."""
    config = Config()
    plan = compile_plan(PAYMENT_FEATURES, config.table, config.money.scale)
    compiled = compile_rules(parse_rules(RULES.encode(), "the page", "toml"), plan)
    assert [one.mode for one in compiled.rules] == [RuleMode.LIVE, RuleMode.LIVE, RuleMode.SHADOW]
    table = PAGE[PAGE.index("| field |") :]
    fields = re.findall(r"^\| `(\w+)`", table, re.MULTILINE)
    assert sorted(fields) == sorted(one.name for one in msgspec.structs.fields(Rule))


def test_the_inline_conditions_on_the_page_are_of_the_language():
    """What is shown in a sentence can be pasted into a rule."""
    plan = compile_plan(PAYMENT_FEATURES, Config().table, 100.0)
    for when in ("card_count_10m.fill(0) < 3", "tx.mcc.is_missing() or score > 0.5"):
        assert when.split(" or ")[0] in PAGE
        document = json.dumps({"rules": [{**LARGE, "when": when}]}).encode()
        assert len(compile_rules(parse_rules(document, "the page"), plan).rules) == 1


def test_a_rule_that_does_not_compile_is_refused_by_every_command(workspace, rules):
    """With its name, the place and what is near; nothing is published."""
    write(workspace, {**LARGE, "when": "tx.amount > 5 and card_cuont_10m > 3"})
    for command in (("check", "rules.json"), ("test", "rules.json", "payments.parquet"), ("publish", "rules.json")):
        printed = rules(*command, expect=2)
        assert "rule 'large', when: at character 19, 'card_cuont_10m'" in printed
        assert "did you mean 'card_count_10m'" in printed
    assert json.loads(rules("show", "--json")) == {"rules": []}


def test_test_and_backtest_count_the_same_payments_and_print_json(workspace, rules):
    """One without labels, the other with them; a review rule moves payments from approve to review and none back."""
    write(workspace, LARGE)
    tried = json.loads(rules("test", "rules.json", "payments.parquet", "--json").splitlines()[-1])
    lines = rules("backtest", "rules.json", "payments.parquet", "--json").splitlines()
    found = json.loads(next(line for line in lines if line.startswith("{")))
    assert "trained on" in "".join(lines)
    assert tried["transactions"] == found["transactions"] == 30_000
    (trial,), (worth,) = tried["rules"], found["rules"]
    assert trial["hits"] == worth["alone"]["hits"] > 0
    assert len(trial["examples"]) == 3
    before, after = found["before"], found["after"]
    assert before[Outcome.APPROVE]["hits"] - after[Outcome.APPROVE]["hits"] == worth["added"]["hits"]
    assert before[Outcome.BLOCK] == after[Outcome.BLOCK]


def test_live_rules_need_a_back_test_of_this_file_or_force(workspace, rules):
    """Shadow rules need none; a change after the back-test needs another; what was published before needs none again."""
    write(workspace, {**LARGE, "mode": "shadow"})
    rules("publish", "rules.json")
    write(workspace, LARGE)
    assert "these rules will act: large" in rules("publish", "rules.json", expect=2)
    rules("backtest", "rules.json", "payments.parquet")
    assert "published version 2: changed large" in rules("publish", "rules.json")
    write(workspace, LARGE, {**LARGE, "name": "quiet", "mode": "shadow"})
    assert "published version 3: added quiet" in rules("publish", "rules.json")
    write(workspace, {**LARGE, "when": "tx.amount > 0"})
    rules("publish", "rules.json", expect=2)
    assert "published version 4: changed large; removed quiet" in rules("publish", "rules.json", "--force")
    trail = [json.loads(line) for line in tollgate("audit", "--json", cwd=workspace).splitlines()]
    published = [one["detail"] for one in trail if one["action"] == "rules.publish"]
    assert [(one["backtested"], one["forced"]) for one in published] == [
        (False, False), (True, False), (False, False), (False, True),
    ]  # fmt: skip


def test_rows_that_cannot_be_used_are_told_and_the_rest_is_tested(workspace, rules):
    """With the exit code that says so."""
    (workspace / "some.csv").write_text(
        "transaction_id,effective_time,amount,currency,card_id\n"
        "a,2026-01-01T00:00:00Z,500,EUR,c\nb,2026-01-01T00:00:01Z,-5,EUR,c\n"
    )
    write(workspace, LARGE)
    printed = rules("test", "rules.json", "some.csv", expect=4)
    assert "1 rows were rejected" in printed
    assert "100.000%" in printed


def test_a_file_is_scored_by_the_lists_and_rules_of_the_moment(workspace, rules):
    """With their reasons; the decisions on all other payments stay what the thresholds say."""
    frame = pl.read_parquet(workspace / "payments.parquet").head(2000)
    frame.write_parquet(workspace / "some.parquet")
    tollgate("score", "some.parquet", "before.parquet", cwd=workspace)
    card = frame["card_id"][0]
    tollgate("lists", "add", "block", "card_id", card, "--reason", "stolen", cwd=workspace)
    write(workspace, LARGE)
    rules("publish", "rules.json", "--force")
    tollgate("score", "some.parquet", "after.parquet", cwd=workspace)
    before = pl.read_parquet(workspace / "before.parquet")["outcome"].to_list()
    decided = pl.read_parquet(workspace / "after.parquet")
    for row, (old, new, reasons) in enumerate(zip(before, decided["outcome"], decided["reasons"], strict=True)):
        codes = [one["code"] for one in json.loads(reasons)]
        if frame["card_id"][row] == card:
            assert (new, codes[0]) == ("block", "list_block")
        elif frame["amount"][row] > 100 and old != "block":
            assert (new, codes[0]) == ("review", "rule_large")
        else:
            assert new == old
