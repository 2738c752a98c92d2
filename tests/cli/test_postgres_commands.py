"""Every command that takes a ledger takes one on PostgreSQL."""

import json
from pathlib import Path

import pytest

from cli.running import serving, tollgate
from tollgate.ledger import Ledger
from tollgate.ledger.controls import Controls


@pytest.fixture
def url(postgres_server):
    return postgres_server.ledger()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_history_is_imported_served_from_archived_and_audited(workspace, url):
    """By the commands a user types, in the order of a first day."""
    config = workspace / "tollgate.toml"
    config.write_text(config.read_text() + f'\n[ledger]\nurl = "{url}"\n')
    assert "imported 30000 transactions" in tollgate("import", "payments.parquet", cwd=workspace)
    tollgate("lists", "add", "block", "card_id", "card-7", "--reason", "stolen", "--by", "ana", cwd=workspace)
    payment = {"transaction_id": "new", "effective_time": "2026-07-01T00:00:00Z", "amount": 5.0, "currency": "EUR",
               "card_id": "card-7"}  # fmt: skip
    with serving(cwd=workspace) as server:
        assert server.get("/health")["ledger_transactions"] == 30_000
        status, decided = server.predict(payment)
        assert (status, decided["outcome"], decided["reasons"][0]["code"]) == (200, "block", "list_block")
        assert server.predict(payment) == (200, decided)
    with Ledger(url, write=False) as ledger:
        assert [name for name, _, _ in ledger.decided()] == ["new"]
    assert "archived 30001 transactions" in tollgate("archive", "--older-than", "0s", "--to", "kept", cwd=workspace)
    with Ledger(url, write=False) as ledger:
        assert sum(len(part) for part in ledger.replay()) == 30_001
    key = tollgate("keys", "create", "--name", "shop", "--scope", "score", "--by", "ana", cwd=workspace).split()[-1]
    assert key.startswith("tollgate_")
    tollgate("keys", "revoke", key.split("_")[1], "--by", "ana", cwd=workspace)
    audit = [json.loads(line) for line in tollgate("audit", "--json", cwd=workspace).splitlines()]
    assert [one["action"] for one in audit] == ["list.add", "key.create", "key.revoke"]
    with Controls(url) as controls:
        assert controls.version() == 3
    assert not list(Path(workspace).glob("*.db*"))
