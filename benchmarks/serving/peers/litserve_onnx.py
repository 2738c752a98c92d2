"""LitServe and ONNX Runtime, batching on. Arguments: PORT MODELS."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import litserve
import numpy as np
import onnxruntime

PORT, MODELS = int(sys.argv[1]), Path(sys.argv[2])
MAX_BATCH = 64
BATCH_WAIT_S = 0.005  # for others to come; 0 and 1 ms are slower here, and so is fast_queue on one core


class Fraud(litserve.LitAPI):
    """Scores rows of 40 features."""

    def setup(self, device: str) -> None:
        """Load the model; `device` is always the CPU here."""
        del device
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(MODELS / "mlp.onnx", options, providers=["CPUExecutionProvider"])

    def decode_request(self, request):  # noqa: ANN001, ANN201  # annotations change what LitServe hands over
        """Return the row of one request, float32 (40,)."""
        return np.asarray(request["features"], dtype=np.float32)

    def batch(self, inputs: list[Any]) -> Any:
        """Return rows as one array, float32 (N, 40)."""
        return np.stack(inputs)

    def predict(self, x: Any) -> Any:
        """Return the scores, float32 (N,)."""
        return self.session.run(None, {"features": x})[0][:, 0]

    def unbatch(self, output: Any) -> list[float]:
        """Return the scores one by one."""
        scores: list[float] = output.tolist()
        return scores

    def encode_response(self, output):  # noqa: ANN001, ANN201
        """Return what the client gets."""
        return {"score": output}


if __name__ == "__main__":
    api = Fraud(max_batch_size=MAX_BATCH, batch_timeout=BATCH_WAIT_S)
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=1)
    server.run(host="127.0.0.1", port=PORT, num_api_servers=1, generate_client_file=False, log_level="warning")
