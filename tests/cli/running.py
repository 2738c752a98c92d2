"""Runs the command line as a user does: in a process of its own."""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from pathlib import Path

ENVIRONMENT = {**os.environ, "COLUMNS": "200", "OMP_NUM_THREADS": "1"}
START_LIMIT_S = 120


def tollgate(*arguments, cwd, expect=0, env=None):
    """Run a command; return what it printed, both streams together."""
    done = subprocess.run(
        [sys.executable, "-m", "tollgate", *map(str, arguments)],
        cwd=cwd, env=ENVIRONMENT | (env or {}), text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False,
        timeout=600,
    )  # fmt: skip
    assert done.returncode == expect, f"{arguments} ended with {done.returncode}:\n{done.stdout}"
    return done.stdout


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


class Server:
    """A running `tollgate serve`."""

    def __init__(self, process, url, internal):
        self.process, self.url, self.internal = process, url, internal

    def get(self, path):
        with urllib.request.urlopen(self.url + path, timeout=10) as answer:
            return json.loads(answer.read())

    def operate(self, method, path, body=None):
        """Ask the internal port; return status and answer, as text."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.internal + path, data=data, method=method)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def predict(self, body):
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        request = urllib.request.Request(self.url + "/predict", data=data, method="POST")
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.status, json.loads(answer.read())
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.loads(error.read())


@contextmanager
def serving(*arguments, cwd, env=None):
    """Serve on a free port until the block is left; wait until it is ready."""
    command = [sys.executable, "-m", "tollgate", "serve", "--port", "0", *map(str, arguments)]
    with Path(cwd, "server.log").open("a") as log:
        process = subprocess.Popen(
            command, cwd=cwd, env=ENVIRONMENT | (env or {}), stdout=subprocess.PIPE, stderr=log, text=True
        )
    try:
        line = process.stdout.readline()
        assert " on http" in line, Path(cwd, "server.log").read_text()
        internal = process.stdout.readline().split(": ")[1].split()[0]
        server = Server(process, line.split(" on ")[1].split()[0], internal)
        until = time.monotonic() + START_LIMIT_S
        while True:
            try:
                server.get("/health/ready")
                break
            except OSError:
                assert time.monotonic() < until, Path(cwd, "server.log").read_text()
                time.sleep(0.05)
        yield server
    finally:
        process.terminate()
        process.wait(30)
        process.stdout.close()
