"""`tollgate lists`: what a person types, and what it changes."""

import json
from pathlib import Path

import pytest
import typer

from tollgate.cli.lists import lists
from tollgate.control import ListKind
from tollgate.errors import ConfigError, InputError
from tollgate.ledger.controls import Controls


@pytest.fixture
def run(invoke):
    """Runs `tollgate lists` and returns what it printed."""
    app = typer.Typer()
    app.add_typer(lists)
    return lambda *arguments, expect=0: invoke(app, "lists", *arguments, expect=expect).output


def kept():
    with Controls("sqlite:///tollgate.db") as controls:
        return controls.entries(), [(one.action, one.actor) for one in controls.audit()]


def test_an_entry_is_added_shown_and_removed(run):
    """With who, why and until when; the audit trail has both changes."""
    added = run("add", "block", "card_id", "c-1", "--reason", "stolen", "--expires", "7d", "--by", "ana")
    ((entry,), _) = kept()
    assert (entry.list, entry.column, entry.value, entry.reason) == (ListKind.BLOCK, "card_id", "c-1", "stolen")
    assert entry.expires_us - entry.added_us == 7 * 86_400_000_000
    assert "block card_id=c-1 until 2" in added
    assert all(part in run("show") for part in ("block", "card_id", "c-1", "stolen", "ana"))
    assert json.loads(run("show", "--json"))["value"] == "c-1"
    run("remove", "block", "card_id", "c-1", "--by", "ben")
    assert kept() == ([], [("list.add", "ana"), ("list.remove", "ben")])


def test_an_expired_entry_is_shown_as_such(run):
    """A duration of nothing has passed at once."""
    run("add", "allow", "country", "FR", "--reason", "campaign", "--expires", "0s")
    assert "(expired)" in run("show")


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        (("add", "block", "amount", "5", "--reason", "x"), InputError, "expected an entity or category column"),
        (("add", "block", "card_id", "4111111111111111", "--reason", "x"), InputError, "raw card number"),
        (("add", "block", "card_id", "c", "--reason", "x", "--expires", "soon"), ConfigError, "expected a duration"),
        (("add", "block", "card_id", "c", "--reason", ""), InputError, "reason: expected 1 to 500"),
        (("remove", "block", "card_id", "c"), InputError, "there is none"),
    ],
)
def test_what_cannot_be_listed_is_refused(run, arguments, error, says):
    """And nothing is kept of it, a card number least of all."""
    with pytest.raises(error, match=says):
        run(*arguments)
    assert kept() == ([], [])


def test_a_token_that_looks_like_a_card_number_may_be_listed(run):
    """Where the user says that it is one."""
    run("add", "block", "card_id", "4111111111111111", "--reason", "x", "--token")
    assert len(kept()[0]) == 1


@pytest.mark.parametrize("left_out", ["--reason", "list"])
def test_a_reason_and_a_list_are_required(run, left_out):
    """A usage error, as the shell shows it."""
    kind = "grey" if left_out == "list" else "block"
    run("add", kind, "card_id", "c", *(("--reason", "x") if left_out == "list" else ()), expect=2)


def test_where_the_server_hashes_card_numbers_so_do_the_lists(run, monkeypatch):
    """The number itself is kept nowhere, and names its entry however it is written."""
    Path("tollgate.toml").write_text('[serve]\npan = "hash"\n')
    number = "4111111111111111"
    with pytest.raises(ConfigError, match="TOLLGATE_HASH_KEY"):
        run("add", "block", "card_id", number, "--reason", "x")
    monkeypatch.setenv("TOLLGATE_HASH_KEY", "a secret of enough bytes")
    run("add", "block", "card_id", number, "--reason", "x")
    ((entry,), _) = kept()
    assert entry.value.startswith("pan_")
    run("remove", "block", "card_id", "4111-1111-1111-1111")
    assert kept()[0] == []
