"""A user's features file: read, or refused with what to do."""

import pytest

from tollgate.errors import ConfigError
from tollgate.features.source import read_features


def test_the_features_of_a_file_are_its_list(tmp_path):
    path = tmp_path / "features.py"
    path.write_text("from tollgate.features import tx\nFEATURES = [tx.amount]\n")
    assert [feature.name for feature in read_features(path)] == ["amount"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (None, "expected a features file"),
        ("x = 1", "expected FEATURES"),
        ("FEATURES = [[1]]", "unpack it with"),
        ("1/0", "ZeroDivisionError"),
        ("from tollgate.features import entity\nFEATURES = [entity('card_id').count(over='x')]", "expected a duration"),
    ],
)
def test_a_features_file_that_cannot_be_used_says_why(tmp_path, text, says):
    path = tmp_path / "features.py"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ConfigError, match=says):
        read_features(path)
