"""What a configuration may say of servers that share a ledger."""

import pytest

from tollgate.config import parse_config
from tollgate.errors import ConfigError

POSTGRES = 'url = "postgresql+psycopg://me@db/tollgate"\n'
REDIS = '[state]\nengine = "redis"\n'


def test_several_servers_share_a_ledger_on_postgresql_over_one_state():
    """Both are needed."""
    assert parse_config(f"[ledger]\nshared = true\n{POSTGRES}{REDIS}", "here").ledger.shared


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (f"[ledger]\nshared = true\n{REDIS}", "needs a url on PostgreSQL"),
        (f"[ledger]\nshared = true\n{POSTGRES}", "needs a feature state that all share"),
        ('[state.redis]\nwriter = "(alone)"\n', "writer"),
        (f'[state.redis]\nwriter = "{"a" * 64}"\n', "writer"),
    ],
)
def test_what_cannot_be_shared_is_refused_when_the_configuration_is_read(text, says):
    """Not at the first decision."""
    with pytest.raises(ConfigError, match=says):
        parse_config(text, "here")
