"""`tollgate demo`: everything once, on one machine, with nothing else installed. Needs the extra `train`."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import msgspec
import numpy as np
import polars as pl
from numpy.typing import NDArray
from rich.console import Group
from rich.live import Live as Screen
from rich.markup import escape
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from tollgate.bundle import REPORT
from tollgate.cli.fitting import Prepared, Run, run_training
from tollgate.cli.history import import_history
from tollgate.cli.training import table_of
from tollgate.cli.wiring import OUT, features_of, open_config, open_labelled, open_registry
from tollgate.config import Config
from tollgate.decision import Decision, Outcome
from tollgate.errors import CapacityError, ConfigError
from tollgate.evaluate import Evaluation, fraud_groups
from tollgate.ledger import Ledger
from tollgate.report import Live, render_report
from tollgate.simulate import Scenario, payloads, simulate, write
from tollgate.simulate.traffic import Answer, send

_MARKER = ".tollgate-demo"  # a folder with it is ours to empty
_DAYS = 60
_LIVE = "1d"  # the newest part of the payments is sent live
_RATE_PER_S = 250.0
_LIVE_LIMIT_S = 15.0
_START_LIMIT_S = 90.0
_STOP_LIMIT_S = 15.0
_SHOWN = 8  # held payments on the screen
_OK = 200
_STYLES = {Outcome.APPROVE: "green", Outcome.REVIEW: "yellow", Outcome.BLOCK: "red"}


def demo(folder: Path, transactions: int, seed: int) -> None:
    """Simulate, train, evaluate, serve and send live traffic; show it, and sum it up."""
    started = time.monotonic()
    _empty(folder)
    data, settings = folder / "payments.parquet", folder / "tollgate.toml"
    settings.write_text(
        '# The built-in schema and features of a card payment.\n[ledger]\nurl = "sqlite:///ledger.db"\n'
    )
    config = open_config(settings)

    _say("1", f"simulate {transactions:,} card payments with five kinds of fraud, over {_DAYS} days")
    with OUT.status("simulating"):
        frame = simulate(Scenario(transactions=transactions, days=_DAYS, seed=seed))
        write(frame, data)
    OUT.print(f"{data}: {frame['is_fraud'].sum():,} frauds, labels arriving days to weeks later", highlight=False)

    _say("2", "train on the past, evaluate on the newest week, beside LightGBM on the same features")
    file, _ = open_labelled(data, config)
    run = run_training(file, features_of(config), config)
    assert run is not None
    open_registry(config).promote(run.bundle_id)
    OUT.print(table_of(run.evaluations))

    _say("3", "put the history into the ledger, and serve")
    import_history(data, settings, _LIVE)
    with _server(settings) as url:
        _say("4", f"send the newest day live, {_RATE_PER_S:.0f} payments a second")
        cut = frame["effective_time"].max() - timedelta(days=1)  # type: ignore[operator]
        traffic = _send(f"{url}/predict", frame.filter(pl.col("effective_time") > cut))
    summary = _summarise(run.evaluation, traffic, _skew(config, run.prepared))
    _write_report(folder / REPORT, config, frame, run, traffic, summary)
    OUT.print()
    OUT.print(_final(summary))
    OUT.print(f"[bold]{folder / REPORT}[/bold] shows all of it; {time.monotonic() - started:.0f} s in all")
    OUT.print(f"to go on: tollgate serve --config {settings}", highlight=False)


def _empty(folder: Path) -> None:
    """Empty a former demo's folder, or make a new one; never touch another's."""
    if folder.exists() and any(folder.iterdir()) and not (folder / _MARKER).is_file():
        raise ConfigError(
            "not_a_demo", f"expected an empty folder, or one of a former demo, but {folder} is neither; name another"
        )
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / _MARKER).touch()


def _say(number: str, text: str) -> None:
    OUT.print()
    OUT.print(Rule(f"[bold]{number}[/bold]  {escape(text)}", align="left"))


@contextmanager
def _server(settings: Path) -> Iterator[str]:
    """Run `tollgate serve` as a process of its own until it is ready; yield its URL."""
    log = settings.with_name("server.log")
    command = [sys.executable, "-m", "tollgate", "serve", "--config", str(settings), "--port", "0"]
    with log.open("w") as errors:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True)  # noqa: S603
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        if " on " not in line:
            raise CapacityError("no_server", f"the server did not start; see {log}")
        url = line.split(" on ")[1].split()[0]
        with OUT.status("the server replays the ledger: this is also how it recovers from a crash"):
            _await_ready(url, log)
        OUT.print(f"{line.strip()}", highlight=False)
        yield url
    finally:
        process.terminate()
        try:
            process.wait(_STOP_LIMIT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()


def _await_ready(url: str, log: Path) -> None:
    until = time.monotonic() + _START_LIMIT_S
    while time.monotonic() < until:
        try:
            with urllib.request.urlopen(f"{url}/health/ready", timeout=2) as answer:  # noqa: S310  # our own server
                if answer.status == _OK:
                    return
        except (urllib.error.URLError, OSError):
            pass
        time.sleep(0.1)
    raise CapacityError("no_server", f"the server was not ready after {_START_LIMIT_S:.0f} s; see {log}")


@dataclass(slots=True)
class _Traffic:
    """What came back."""

    latencies_ms: list[float] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    outcomes: Counter[Outcome] = field(default_factory=Counter)
    failed: int = 0
    held: deque[Decision] = field(default_factory=lambda: deque(maxlen=_SHOWN))

    def add(self, answer: Answer, decode: msgspec.json.Decoder[Decision]) -> None:
        if answer.status != _OK:
            self.failed += 1
            return
        decision = decode.decode(answer.body)
        self.latencies_ms.append(answer.latency_s * 1e3)
        self.outcomes[decision.outcome] += 1
        if decision.score is not None:
            self.scores.append(decision.score)
        if decision.outcome is not Outcome.APPROVE:
            self.held.append(decision)

    def quantile_ms(self, percent: float) -> float:
        return float(np.percentile(self.latencies_ms, percent)) if self.latencies_ms else float("nan")


def _send(url: str, frame: pl.DataFrame) -> _Traffic:
    traffic, decode = _Traffic(), msgspec.json.Decoder(Decision)
    with Screen(_screen(traffic), console=OUT, refresh_per_second=4) as screen:

        def show(answer: Answer) -> None:
            traffic.add(answer, decode)
            if len(traffic.latencies_ms) % 25 == 0:
                screen.update(_screen(traffic))

        asyncio.run(send(url, payloads(frame), rate=_RATE_PER_S, limit_s=_LIVE_LIMIT_S, on_answer=show))
        screen.update(_screen(traffic))
    return traffic


def _screen(traffic: _Traffic) -> Group:
    counts = "   ".join(f"[{style}]{outcome} {traffic.outcomes[outcome]:,}[/]" for outcome, style in _STYLES.items())
    latency = f"p50 {traffic.quantile_ms(50):.1f} ms   p99 {traffic.quantile_ms(99):.1f} ms"
    table = Table(box=None, show_header=False, pad_edge=False)
    for decision in traffic.held:
        style = _STYLES[decision.outcome]
        why = "; ".join(reason.text for reason in decision.reasons)
        table.add_row(Text(decision.outcome, style), f"{decision.score or 0:.2f}", decision.transaction_id, Text(why))
    return Group(Text.from_markup(f"{counts}   {latency}"), table)


def _skew(config: Config, prepared: Prepared) -> tuple[int, int]:
    """Return how many bits differ between the features that were served and those of the test set, and of how many."""
    test = prepared.parts.test
    places = {identifier: place for place, identifier in enumerate(test.ids.tolist())}
    differing = compared = 0
    with Ledger(config.ledger.url, write=False) as ledger:
        for identifier, _, features in ledger.decided():
            served = np.frombuffer(features, dtype=np.uint64)
            trained = test.features[places[identifier]].view(np.uint64)
            differing += int(np.bitwise_count(served ^ trained).sum())
            compared += served.size * 64
    return differing, compared


def _summarise(evaluation: Evaluation, traffic: _Traffic, skew: tuple[int, int]) -> list[tuple[str, str]]:
    """Return the figures of the demo, as text, and what each is."""
    own = evaluation.measures[evaluation.model]
    decided = " / ".join(f"{traffic.outcomes[outcome]:,}" for outcome in Outcome)
    return [
        (f"{own.average_precision:.3f}", "average precision on the test week"),
        (f"{own.recall:.1%}", f"of the frauds seen with {evaluation.alerts_per_day} alerts a day"),
        (f"{traffic.quantile_ms(50):.1f} ms", "median latency, live, durable (p50)"),
        (f"{traffic.quantile_ms(99):.1f} ms", "99th percentile of latency (p99)"),
        (decided, "approved / reviewed / blocked, live" + (f"; {traffic.failed} failed" if traffic.failed else "")),
        (f"{skew[0]} bits", f"train-serve skew, of {skew[1]:,} bits compared"),
    ]


def _final(summary: list[tuple[str, str]]) -> Table:
    table = Table(title="The demo in figures", title_justify="left", show_header=False)
    table.add_column("", style="dim")
    table.add_column("", justify="right", style="bold")
    for value, meaning in summary:
        table.add_row(meaning, value)
    return table


def _write_report(
    path: Path,
    config: Config,
    frame: pl.DataFrame,
    run: Run,
    traffic: _Traffic,
    summary: list[tuple[str, str]],
) -> None:
    typology = dict(zip(frame["transaction_id"], frame["typology"], strict=True))
    kinds: NDArray[np.object_] = np.array([typology[one] or "genuine" for one in run.evaluation.test.ids], dtype=object)
    live = Live(
        facts=summary[2:],
        latencies_ms=np.array(traffic.latencies_ms or [0.001]),
        scores=np.array(traffic.scores),
        held=[
            (one.transaction_id, one.outcome.value, one.score or 0.0, "; ".join(reason.text for reason in one.reasons))
            for one in reversed(traffic.held)
        ],
    )
    page = render_report(
        run.evaluation,
        run.history,
        title="Tollgate demo",
        currency=config.money.currency,
        groups=fraud_groups(run.evaluation.test, kinds),
        live=live,
    )
    path.write_text(page, encoding="utf-8")
