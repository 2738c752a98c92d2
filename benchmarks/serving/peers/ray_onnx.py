"""Ray Serve and ONNX Runtime, batching on, with its settings for throughput. Arguments: PORT MODELS."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

os.environ["RAY_SERVE_THROUGHPUT_OPTIMIZED"] = "1"  # read when it is imported

import numpy as np
import onnxruntime
import ray
from ray import serve
from starlette.requests import Request

PORT, MODELS = int(sys.argv[1]), Path(sys.argv[2])
MAX_BATCH = 64
BATCH_WAIT_S = 0.001  # for others to come
STORE_BYTES = 128 * 2**20


@serve.deployment(num_replicas=1, max_ongoing_requests=256)
class Fraud:
    """Scores rows of 40 features."""

    def __init__(self, path: str) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    @serve.batch(max_batch_size=MAX_BATCH, batch_wait_timeout_s=BATCH_WAIT_S)
    async def score(self, rows: list[Any]) -> list[float]:
        """Return the scores of rows that came together."""
        scores: list[float] = self.session.run(None, {"features": np.stack(rows)})[0][:, 0].tolist()
        return scores

    async def __call__(self, request: Request) -> dict[str, float]:
        """Return the score of one request."""
        given = await request.json()
        return {"score": await self.score(np.asarray(given["features"], dtype=np.float32))}


if __name__ == "__main__":
    ray.init(num_cpus=2, include_dashboard=False, object_store_memory=STORE_BYTES, log_to_driver=False)
    serve.start(http_options={"host": "127.0.0.1", "port": PORT})
    serve.run(Fraud.bind(str(MODELS / "mlp.onnx")), route_prefix="/predict")
    signal.sigwait({signal.SIGTERM, signal.SIGINT})
    serve.shutdown()
    ray.shutdown()
