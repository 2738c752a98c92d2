"""`tollgate simulate`."""

import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import polars as pl
import pytest
import typer
from typer.testing import CliRunner

from tollgate.cli.simulate import simulate
from tollgate.errors import EXIT_PARTIAL, ConfigError
from tollgate.simulate import Scenario
from tollgate.simulate import simulate as make_payments
from tollgate.simulate.traffic import TrafficError

SMALL = ("--transactions", "400", "--cards", "40", "--merchants", "200", "--days", "10", "--fraud-rate", "0.05")


def invoke(*arguments):
    app = typer.Typer()
    app.command()(simulate)
    return CliRunner().invoke(app, arguments)


@pytest.fixture
def server():
    """A server that approves; without a customer, it refuses. Yields its URL and the bodies that it got."""
    bodies = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1  # one write for head and body

        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            bodies.append(body)
            known = b"customer_id" in body
            reply = b'{"outcome": "approve", "score": 0.1}' if known else b"{}"
            self.send_response(200 if known else 422)
            self.send_header("Content-Length", str(len(reply)))
            self.end_headers()
            self.wfile.write(reply)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/predict", bodies
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_file_is_written_and_each_typology_is_listed(tmp_path):
    path = tmp_path / "payments.parquet"
    result = invoke(str(path), *SMALL, "--seed", "3", "--start", "2024-02-01")
    assert result.exit_code == 0
    written = pl.read_parquet(path)
    assert len(written) == 400
    assert written["effective_time"][0].date().isoformat() == "2024-02-01"
    for text in ("400 payments", "card_testing", "genuine", "380"):
        assert text in result.output


def test_the_newest_payments_go_to_the_server_and_the_answers_are_counted(server):
    url, bodies = server
    result = invoke("--url", url, *SMALL, "--rate", "2000", "--last", "2d", "--limit", "20s")
    frame = make_payments(Scenario(transactions=400, cards=40, merchants=200, days=10, fraud_rate=0.05))
    newest = frame.filter(pl.col("effective_time") > pl.col("effective_time").max() - pl.duration(days=2))
    assert 0 < len(bodies) == len(newest) < 400
    refused = newest["customer_id"].null_count()
    assert result.exit_code == (EXIT_PARTIAL if refused else 0)
    assert f"{len(newest)} requests" in result.output
    assert "approve" in result.output
    assert "p99" in result.output


def test_a_refused_payment_makes_the_exit_code_say_that_not_all_were_decided(server):
    url, bodies = server
    result = invoke("--url", url, *SMALL, "--rate", "2000", "--limit", "20s")
    assert len(bodies) == 400
    assert any(b"customer_id" not in body for body in bodies)
    assert result.exit_code == EXIT_PARTIAL
    assert "422" in result.output


def test_without_a_file_and_a_url_there_is_nothing_to_do():
    assert isinstance(invoke(*SMALL).exception, ConfigError)


def test_nobody_at_the_url_is_an_error():
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    assert isinstance(invoke("--url", f"http://127.0.0.1:{port}/", *SMALL).exception, TrafficError)
