"""`tollgate label`: a file of verdicts into the ledger, or to the server that writes it."""

import json
from pathlib import Path

import polars as pl
import pytest
import typer

from cli.running import serving, tollgate
from tollgate.cli.history import import_history
from tollgate.cli.labels import label
from tollgate.client import Client
from tollgate.errors import EXIT_PARTIAL, InputError, LedgerError
from tollgate.label import Label, LabelSource
from tollgate.ledger import Ledger
from tollgate.ledger.controls import Controls

URL = "sqlite:///tollgate.db"


@pytest.fixture
def run(invoke):
    """Runs `tollgate label` in a folder whose ledger has ten transactions; returns what it printed."""
    app = typer.Typer()
    app.command("import")(import_history)
    app.command()(label)
    pl.DataFrame({
        "transaction_id": [f"t-{n}" for n in range(10)],
        "effective_time": [f"2026-01-01T00:00:0{n}Z" for n in range(10)],
        "amount": [1.0] * 10, "currency": ["EUR"] * 10, "card_id": ["c"] * 10, "is_fraud": [0] * 10,
    }).write_csv("history.csv")  # fmt: skip
    invoke(app, "import", "history.csv")
    return lambda *arguments, expect=0: invoke(app, "label", *arguments, expect=expect)


def columns(*numbers, **more):
    return pl.DataFrame({"transaction_id": [f"t-{n}" for n in numbers], "is_fraud": [1] * len(numbers), **more})


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".jsonl"])
def test_a_file_of_labels_is_recorded_once_with_who_did_it(run, suffix):
    """By source and result in the summary, and in the audit trail; again, it changes nothing."""
    frame = columns(1, 2, source=["chargeback", "analyst"], label_available=["2026-01-02T00:00:00Z"] * 2)
    write = {".csv": pl.DataFrame.write_csv, ".parquet": pl.DataFrame.write_parquet}.get(
        suffix, pl.DataFrame.write_ndjson
    )
    write(frame, f"labels{suffix}")
    shown = run(f"labels{suffix}", "--by", "ana").output
    assert "2 labels" in shown
    assert all(source in shown for source in ("chargeback", "analyst"))
    run(f"labels{suffix}", "--by", "ana")
    with Ledger(URL, write=False) as ledger, Controls(URL) as controls:
        assert ledger.labels == 10 + 2
        assert [one.number for one in ledger.frauds(0, 10).frauds] == [2, 3]
        assert [(one.actor, one.action, one.detail["recorded"], one.detail["known"]) for one in controls.audit()] == [
            ("ana", "labels.add", 2, 0), ("ana", "labels.add", 0, 2),
        ]  # fmt: skip


def test_rows_that_cannot_be_taken_go_to_a_file_and_the_rest_goes_on(run):
    """With row, code and reason; the exit code says that some were left."""
    pl.DataFrame({
        "transaction_id": ["t-1", "nobody", "", "t-2", "t-3", "t-4"],
        "is_fraud": ["1", "1", "1", "perhaps", "", "0"],
        "available_us": ["5", "5", "5", "5", "5", "soon"],
    }).write_csv("labels.csv")  # fmt: skip
    run("labels.csv", "--source", "customer", expect=EXIT_PARTIAL)
    rejected = [json.loads(line) for line in Path("labels.csv.rejected.jsonl").read_text().splitlines()]
    assert [(one["row"], one["code"]) for one in rejected] == [
        (1, "unknown_transaction"), (2, "missing_value"), (3, "wrong_type"), (4, "missing_value"), (5, "bad_label"),
    ]  # fmt: skip
    with Ledger(URL, write=False) as ledger:
        assert ledger.labels == 10 + 1


def test_a_file_of_which_nothing_can_be_taken_is_an_error(run):
    """And so is one without the columns."""
    columns(77).write_csv("labels.csv")
    with pytest.raises(InputError, match="no label of"):
        run("labels.csv", "--source", "analyst")
    with pytest.raises(InputError, match="expected a column 'source'"):
        run("labels.csv")


def test_a_ledger_that_a_server_writes_is_not_written_beside_it(run):
    """The message says how to reach the server."""
    columns(1).write_csv("labels.csv")
    with Ledger(URL), pytest.raises(LedgerError, match="--server"):
        run("labels.csv", "--source", "analyst")


def test_a_running_server_takes_labels_and_has_them_after_a_restart(workspace):
    """By the command and by the client; each is counted by source and result, and none is taken twice."""
    with serving(cwd=workspace) as server:
        assert server.predict(PAYMENT)[0] == 200
        columns(1, 2, source=["chargeback"] * 2).write_csv(workspace / "labels.csv")
        shown = tollgate("label", "labels.csv", "--server", server.internal, cwd=workspace, expect=EXIT_PARTIAL)
        assert "t-2" in shown
        verdict = Label("t-1", is_fraud=True, source=LabelSource.CHARGEBACK)
        with Client(server.internal) as client:
            assert client.label(verdict).result == "known"
        metrics = server.operate("GET", "/metrics")[1]
        for result in ("recorded", "known", "unknown_transaction"):
            assert f'tollgate_labels_total{{result="{result}",source="chargeback"}} 1.0' in metrics or (
                f'tollgate_labels_total{{source="chargeback",result="{result}"}} 1.0' in metrics
            )
    with serving(cwd=workspace) as server, Client(server.internal) as client:
        assert client.label(verdict).result == "known"


PAYMENT = {"transaction_id": "t-1", "effective_time": "2026-01-01T00:00:00Z", "amount": 10.0, "currency": "EUR",
           "card_id": "card-1"}  # fmt: skip
