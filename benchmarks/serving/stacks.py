"""The rows of the table: how each server is started, and what it is sent."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks.serving.environments import python_of
from benchmarks.serving.material import Material, environment, make_peer_models, tollgate_command
from benchmarks.serving.peer_models import FEATURES
from benchmarks.serving.process import NotRunError, Probe, free_port
from benchmarks.serving.traffic import head
from benchmarks.table import Progress

PEERS = Path(__file__).with_name("peers")
_JSON = {"Content-Type": "application/json"}
_SEED = 11
_ANSWER = '{"transaction_id":"000000000000","outcome":"approve","score":0.01}'
_NGINX = """\
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log stderr warn;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    scgi_temp_path {folder}/scgi;
    uwsgi_temp_path {folder}/uwsgi;
    keepalive_requests 1000000000;
    default_type application/json;
    server {{
        listen 127.0.0.1:{port};
        location / {{ return 200 '{answer}'; }}
    }}
}}
"""


class Ground(NamedTuple):
    """What a server needs to be started: the material, where the peers' environments are, and who is told."""

    material: Material
    peers: Path
    say: Progress


class Launch(NamedTuple):
    """How to start a server.

    Attributes:
        command: Its program and arguments.
        environment: Added to this process's.
        probe: What it answers once it is ready.
        request: The one request that it gets; None for one that gets distinct transactions.
    """

    command: Sequence[str]
    environment: Mapping[str, str]
    probe: Probe
    request: bytes | None = None


Prepare = Callable[[Ground, Path, int], Launch]  # from the ground, an empty folder and a free port


class Stack(NamedTuple):
    """One row.

    Attributes:
        key: Its name on the command line.
        title: Its name in the table.
        prepare: Returns how to start it; raises NotRunError where that cannot be.
        model: Of Tollgate's rows, the model; they get raw transactions, and keep windows and a ledger.
        installed: It needs an environment of its own.
    """

    key: str
    title: str
    prepare: Prepare
    model: str | None = None
    installed: bool = False

    @property
    def own(self) -> bool:
        """Whether it is Tollgate."""
        return self.model is not None


def _tollgate(model: str, durability: str) -> Prepare:
    def prepare(ground: Ground, folder: Path, port: int) -> Launch:
        for file in ground.material.history.glob("tollgate.db*"):
            shutil.copy(file, folder / file.name)
        config = ground.material.configure(folder, model, durability)
        command = tollgate_command(
            "serve", "--config", str(config), "--port", str(port), "--internal-port", str(free_port())
        )
        return Launch(command, environment(), Probe("/health/ready"))

    return prepare


def _nginx(_ground: Ground, folder: Path, port: int) -> Launch:
    nginx = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
    if nginx is None:
        raise NotRunError("no nginx on the path (a Debian package)")
    config = folder / "nginx.conf"
    config.write_text(_NGINX.format(folder=folder, port=port, answer=_ANSWER))
    return _answering([nginx, "-e", "stderr", "-c", str(config)], "/predict", {"features": _row()})


def _row() -> list[float]:
    row: list[float] = np.random.default_rng(_SEED).normal(size=FEATURES).round(4).tolist()
    return row


def _answering(command: Sequence[str], path: str, body: object, environment: Mapping[str, str] | None = None) -> Launch:
    """Return a launch of a server that gets one body every time."""
    text = json.dumps(body, separators=(",", ":")).encode()
    request = head(len(text)).replace(b"POST /predict ", f"POST {path} ".encode(), 1) + text
    return Launch(command, environment or {}, Probe(path, text, _JSON), request)


def _script(name: str, kind: str) -> Prepare:
    def prepare(ground: Ground, _folder: Path, port: int) -> Launch:
        python = python_of(kind, ground.peers)
        models = make_peer_models(ground.material.folder, ground.say)
        return _answering([str(python), str(PEERS / name), str(port), str(models)], "/predict", {"features": _row()})

    return prepare


def _bentoml(ground: Ground, folder: Path, port: int) -> Launch:
    python = python_of("bentoml", ground.peers)
    models = make_peer_models(ground.material.folder, ground.say)
    command = [
        str(python), "-m", "bentoml", "serve", "bentoml_onnx:Fraud",
        "--host", "127.0.0.1", "--port", str(port), "--working-dir", str(PEERS),
    ]  # fmt: skip
    settings = {"MODELS": str(models), "BENTOML_HOME": str(folder), "BENTOML_DO_NOT_TRACK": "True"}
    return _answering(command, "/predict", {"features": [_row()]}, settings)


def _mlserver(ground: Ground, folder: Path, port: int) -> Launch:
    python = python_of("mlserver", ground.peers)
    models = make_peer_models(ground.material.folder, ground.say)
    server = {
        "host": "127.0.0.1",
        "http_port": port,
        "grpc_port": free_port(),
        "metrics_endpoint": None,
        "parallel_workers": 0,  # inference on the event loop: no hop to another process on one core
        "debug": False,
        "gzip_enabled": False,
    }
    model = {
        "name": "fraud",  # without adaptive batching, which makes it slower and later with a model this small
        "implementation": "mlserver_onnx.Fraud",
        "parameters": {"uri": str(models / "mlp.onnx")},
    }
    (folder / "settings.json").write_text(json.dumps(server))
    (folder / "model-settings.json").write_text(json.dumps(model))
    body = {"inputs": [{"name": "features", "shape": [1, FEATURES], "datatype": "FP32", "data": _row()}]}
    command = [str(python), "-m", "mlserver.cli.main", "start", str(folder)]
    return _answering(command, "/v2/models/fraud/infer", body, {"PYTHONPATH": str(PEERS)})


TOLLGATE, NGINX, FASTAPI_LIGHTGBM, BENTOML = "tollgate", "nginx", "fastapi-lightgbm", "bentoml"
STACKS = (
    Stack(TOLLGATE, "Tollgate, mlp, fsync", _tollgate("mlp", "fsync"), model="mlp"),
    Stack("tollgate-os", "Tollgate, mlp, os", _tollgate("mlp", "os"), model="mlp"),
    Stack("tollgate-tabm", "Tollgate, tabm, fsync", _tollgate("tabm", "fsync"), model="tabm"),
    Stack(FASTAPI_LIGHTGBM, "FastAPI + LightGBM", _script("fastapi_lightgbm.py", "fastapi"), installed=True),
    Stack(
        "fastapi-dataframe",
        "FastAPI + LightGBM, DataFrame",
        _script("fastapi_dataframe.py", "fastapi"),
        installed=True,
    ),
    Stack("fastapi-onnx", "FastAPI + ONNX Runtime", _script("fastapi_onnx.py", "fastapi"), installed=True),
    Stack(BENTOML, "BentoML + ONNX Runtime", _bentoml, installed=True),
    Stack("litserve", "LitServe + ONNX Runtime", _script("litserve_onnx.py", "litserve"), installed=True),
    Stack("ray", "Ray Serve + ONNX Runtime", _script("ray_onnx.py", "ray"), installed=True),
    Stack("mlserver", "MLServer + ONNX Runtime", _mlserver, installed=True),
    Stack(NGINX, "nginx, static answer", _nginx),
)
