"""Rule sets as files: read alike from TOML and JSON, refused with what is wrong."""

import json

import pytest

from tollgate.errors import ConfigError
from tollgate.rules import RuleMode, parse_rules, read_rules

RULE = {"name": "r", "when": "tx.amount > 5", "action": "block", "reason": "why"}
TOML = """
[[rules]]
name = "r"
when = "tx.amount > 5"
action = "block"
reason = "why"
expires = 2026-01-02T03:04:05+01:00
"""


def parse(*rules):
    return parse_rules(json.dumps({"rules": rules}).encode(), "here")


def test_toml_and_json_say_the_same(tmp_path):
    """And what is published of either is the same document, which reads back as itself."""
    (tmp_path / "rules.toml").write_text(TOML)
    (tmp_path / "rules.json").write_text(json.dumps({"rules": [{**RULE, "expires": "2026-01-02T03:04:05+01:00"}]}))
    one, two = read_rules(tmp_path / "rules.toml"), read_rules(tmp_path / "rules.json")
    assert one.digest == two.digest == parse_rules(one.encode(), "published").digest
    assert one.rules[0].expires_us == 1_767_319_445_000_000


def test_a_rule_that_says_no_more_is_in_shadow_and_limited_if_it_blocks():
    """A rule is looked at before it acts, and one that is wrong cannot block everybody."""
    (block,) = parse(RULE).rules
    (review,) = parse({**RULE, "action": "review"}).rules
    assert (block.mode, block.limit, review.limit) == (RuleMode.SHADOW, 60, None)


@pytest.mark.parametrize(
    ("rules", "says"),
    [
        ([{**RULE, "name": "R 1"}], "rule 'R 1': expected a name"),
        ([RULE, RULE], "rule 'r': expected every name once"),
        ([{**RULE, "acton": "block"}], "acton"),
        ([{**RULE, "action": "stop"}], "stop.*rules\\[0\\].action"),
        ([{**RULE, "mode": "on"}], "rules\\[0\\].mode"),
        ([{**RULE, "limit_per_minute": 0}], "limit_per_minute"),
        ([{**RULE, "when": "x" * 2001}], "rules\\[0\\].when"),
        ([{**RULE, "reason": "a\nb"}], "rule 'r': expected a reason of printable"),
        ([{**RULE, "reason": ""}], "rules\\[0\\].reason"),
        ([{**RULE, "expires": "2026-01-01T00:00:00"}], "expires"),
        ([{**RULE, "name": f"r{n}"} for n in range(201)], "at most 200 rules"),
    ],
)
def test_a_document_that_is_wrong_says_where(rules, says):
    """The file, and the rule or the path in it."""
    with pytest.raises(ConfigError, match=says) as refused:
        parse(*rules)
    assert refused.value.message.startswith("here: ")


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("rules.yaml", "", "ending in .toml or .json"),
        ("rules.toml", "[[rules", "rules.toml: "),
        ("rules.json", "{", "rules.json: "),
        ("rules.toml", "# " + "x" * 2**20, "at most 1048576 bytes"),
        ("none.toml", None, "expected rules at"),
    ],
)
def test_a_file_that_cannot_be_read_says_why(tmp_path, name, text, says):
    """Another format, a syntax error, one too large, none at all."""
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(ConfigError, match=says):
        read_rules(tmp_path / name)
