"""`tollgate monitor`: what a scheduler, a scraper and a person get."""

import datetime as dt
import json
import re
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import msgspec
import pytest
import typer
from prometheus_client.parser import text_string_to_metric_families
from typer.testing import CliRunner

from observing import FIRST_DAY, add_labels, manifest, payments, record, store
from tollgate.bundle import CANARY, MODEL, CanaryShare, Registry
from tollgate.cli.monitoring import monitor
from tollgate.config import MonitorConfig
from tollgate.errors import EXIT_ATTENTION, BundleError, ConfigError
from tollgate.label import LabelSource
from tollgate.ledger import Ledger

START = FIRST_DAY + 30
PAGE = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text(encoding="utf-8")
LOOK_S = 60


def day(number):
    return str(dt.date(1970, 1, 1) + dt.timedelta(days=number))


@pytest.fixture
def watched(tmp_path, monkeypatch):
    """A folder with a champion and a ledger: two calm weeks, then one of other amounts."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "220")
    Path("tollgate.toml").write_text('[label]\ndelay = "5d"\n[monitor]\nfewest_frauds = 5\n')
    bundle = store(tmp_path / "bundles", manifest(payments(14, 0)))
    with Ledger("sqlite:///tollgate.db", "os") as ledger:
        calm = payments(14, 1, first_day=START)
        record(ledger, calm, bundle, shadow=("0123456789abcdef", 0.05))
        record(ledger, payments(7, 2, first_day=START + 14, raised=4.0), bundle)
        known_us = (START + 9) * 86_400_000_000
        add_labels(ledger, *((one["transaction_id"], True, known_us, LabelSource.CHARGEBACK) for one in calm[:2000:20]))
    return bundle


def run(*arguments, expect=0):
    app = typer.Typer()
    app.command()(monitor)
    done = CliRunner().invoke(app, arguments)
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == expect, done.output
    return done


def test_the_exit_code_tells_a_scheduler_whether_to_wake_somebody(watched):
    """0 as long as nothing is over its limit, else 6; the table names what is, first."""
    wide = "[label]\ndelay = '5d'\n[monitor]\ncalibration_limit = 1000.0\nfewest_frauds = 5\n"
    Path("tollgate.toml").write_text(wide)
    calm = run("--at", day(START + 14)).output
    assert "attention" not in calm
    assert "other figures of features: 4 as in training; --all shows them" in calm
    assert "card_count_1h" not in calm
    assert "card_count_1h" in run("--at", day(START + 14), "--all").output
    moved = run("--at", day(START + 21), expect=EXIT_ATTENTION).output
    rows = [line for line in moved.splitlines() if re.match(r"│ (attention|watch|unknown|fine)", line)]
    assert "attention" in rows[0]
    assert re.search(r"│ attention │ amount +│ drift", moved)
    assert "challenger 0123456789abcdef: " in calm
    assert "labels by chargeback: " in calm


def test_json_holds_findings_and_figures(watched):
    """The same as the table, for machines."""
    said = json.loads(run("--json", "--at", day(START + 21), expect=EXIT_ATTENTION).stdout)
    assert said["state"] == "attention"
    assert {"subject", "measure", "state", "value", "limit", "text", "weight"} == set(said["findings"][0])
    assert said["seen"]["bundle"] == watched
    assert said["seen"]["traffic"]["transactions"] == 2100
    assert said["seen"]["features"][0]["name"] == "amount"


def test_the_canary_is_named(watched):
    """With its share, as text and as data; a pointer that cannot be read holds nothing back."""
    registry = Registry(Path("bundles"))
    looked = ("--at", day(START + 21))
    assert "canary" not in run(*looked, expect=EXIT_ATTENTION).output
    assert json.loads(run("--json", *looked, expect=EXIT_ATTENTION).stdout)["canary"] is None

    second = registry.store(manifest(payments(14, 3)), {MODEL: b"not looked at here"})
    registry.try_out(CanaryShare(second, 0.075))
    assert f"canary {second}: decides for 7.5% of the cards" in run(*looked, expect=EXIT_ATTENTION).stdout
    said = json.loads(run("--json", *looked, expect=EXIT_ATTENTION).stdout)
    assert said["canary"] == {"bundle": second, "share": 0.075}

    Path("bundles", CANARY).write_text("{")
    done = run(*looked, expect=EXIT_ATTENTION)
    assert "whether there is a canary is not known" in done.stderr
    assert "attention" in done.stdout


def test_the_report_stands_alone(watched):
    """A page with what was found and pictures inside."""
    run("--report", "monitor.html", "--at", day(START + 21), expect=EXIT_ATTENTION)
    page = Path("monitor.html").read_text(encoding="utf-8")
    assert page.count("data:image/svg+xml;base64,") >= 6
    assert "ask for attention: " in page
    assert "Calibration" in page
    assert not re.search(r"(src|href)=\"http", page)


def test_the_textfile_has_every_metric_of_the_page(watched):
    """And docs/metrics.md names no other."""
    run("--textfile", "tollgate.prom", "--at", day(START + 14), "--window", "14d", expect=EXIT_ATTENTION)
    families = list(text_string_to_metric_families(Path("tollgate.prom").read_text()))
    named = set(re.findall(r"^\| `(tollgate_monitor_\w+)", PAGE, re.MULTILINE))
    assert named == {one.name for one in families}
    values = {one.name: one.samples for one in families}
    assert values["tollgate_monitor_transactions"][0].value == 4200
    assert {one.labels["feature"] for one in values["tollgate_monitor_psi"]} > {"score", "amount"}


def test_metrics_are_served_while_it_looks_again_and_again(watched):
    """A process of its own, beside whoever writes the ledger; what cannot be read once is read the next time."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    command = [sys.executable, "-m", "tollgate", "monitor", "--every", "1s", "--port", str(port)]
    with Ledger("sqlite:///tollgate.db") as ledger, Path("monitor.log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            record(ledger, payments(1, 9, first_day=START + 40), watched)
            until = time.monotonic() + LOOK_S
            found = ""
            while "tollgate_monitor_transactions 300.0" not in found:
                assert time.monotonic() < until, found + Path("monitor.log").read_text()
                time.sleep(0.2)
                try:
                    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
                        found = answer.read().decode()
                except OSError:
                    assert process.poll() is None, Path("monitor.log").read_text()
        finally:
            process.terminate()
            process.wait(30)


def test_what_cannot_be_meant_is_refused(watched):
    """A port without a loop, a moment with one, a bundle that is not there."""
    with pytest.raises(ConfigError, match="--every"):
        run("--port", "0")
    with pytest.raises(ConfigError, match="leave one of them out"):
        run("--every", "1m", "--at", day(START))
    with pytest.raises(BundleError, match="expected the id of a bundle"):
        run("--bundle", "nothing")
    Path("tollgate.toml").write_text("[monitor]\npsi_watch = 0.5\n")
    with pytest.raises(ConfigError, match="psi_watch"):
        run()


def test_the_page_names_every_setting_with_its_default():
    """docs/monitoring.md has what `[monitor]` has, and nothing else."""
    page = (Path(__file__).parents[2] / "docs" / "monitoring.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (`\w+`(?:, `\w+`)*) \| ([^|]+) \|", page[page.index("Limits are in") :], re.MULTILINE)
    told = {
        name.strip("` "): value.strip(' `"')
        for names, values in rows
        for name, value in zip(
            names.split(","), values.split(",") * (1 if "," in values else names.count(",") + 1), strict=True
        )
    }
    defaults = msgspec.structs.asdict(MonitorConfig())
    assert told == {name: "none" if value is None else str(value) for name, value in defaults.items()}
