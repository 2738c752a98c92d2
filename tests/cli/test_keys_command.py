"""`tollgate keys` and `tollgate audit`: what a person types, and what it changes."""

import json

import pytest
import typer

from tollgate.cli.audit import audit
from tollgate.cli.keys import keys
from tollgate.control import Scope
from tollgate.errors import AuthError, InputError
from tollgate.keys import KeyRing
from tollgate.ledger.controls import Controls


@pytest.fixture
def run(invoke):
    """Runs a command and returns what it printed on its output."""
    app = typer.Typer()
    app.add_typer(keys)
    app.command()(audit)
    return lambda *arguments, expect=0: invoke(app, *arguments, expect=expect).stdout


def ring():
    with Controls("sqlite:///tollgate.db") as controls:
        return KeyRing(controls.keys())


def test_a_key_is_created_used_listed_and_revoked(run):
    """The printed line is the key and nothing else; it works until it is revoked, and the list never shows it."""
    text = run("keys", "create", "--name", "shop", "--scope", "score", "--scope", "label", "--rate", "7", "--by", "ana")
    text = text.strip()
    key = ring().check(text.encode(), Scope.LABEL, 0)
    assert (key.name, key.scopes, key.rate_per_s) == ("shop", (Scope.SCORE, Scope.LABEL), 7.0)
    listed = run("keys", "list")
    assert all(part in listed for part in (key.id, "shop", "score label"))
    assert text.rpartition("_")[2] not in listed
    run("keys", "revoke", key.id, "--by", "ben")
    with pytest.raises(AuthError):
        ring().check(text.encode(), Scope.LABEL, 0)


def test_the_audit_command_shows_who_did_what(run):
    """As a table for people and a JSON object a line for machines, the newest last."""
    text = run("keys", "create", "--name", "shop", "--scope", "score", "--by", "ana").strip()
    name = text.split("_")[1]
    run("keys", "revoke", name, "--by", "[b]ben")
    records = [json.loads(line) for line in run("audit", "--json").splitlines()]
    assert [(one["actor"], one["action"], one["subject"]) for one in records] == [
        ("ana", "key.create", name), ("[b]ben", "key.revoke", name)
    ]  # fmt: skip
    assert [json.loads(line)["seq"] for line in run("audit", "--json", "--newest", "1").splitlines()] == [2]
    shown = run("audit")
    assert "[b]ben" in shown
    assert text.rpartition("_")[2] not in shown


def test_the_actor_is_the_systems_user_unless_named(run, monkeypatch):
    """A change is never without a name."""
    monkeypatch.setenv("LOGNAME", "carla")
    run("keys", "create", "--name", "shop", "--scope", "admin")
    assert json.loads(run("audit", "--json"))["actor"] == "carla"


def test_what_cannot_be_is_refused(run):
    """An unknown key, an unknown scope and a rate of nothing change nothing."""
    with pytest.raises(InputError, match="tollgate keys list"):
        run("keys", "revoke", "zz")
    run("keys", "create", "--name", "a", "--scope", "all", expect=2)
    run("keys", "create", "--name", "a", "--scope", "score", "--rate", "0", expect=2)
    run("keys", "create", "--name", "a", expect=2)
    assert run("audit", "--json") == ""
