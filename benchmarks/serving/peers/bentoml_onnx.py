"""BentoML and ONNX Runtime with adaptive batching. Run by `bentoml serve bentoml_onnx:Fraud`; MODELS is the folder."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import bentoml
import numpy as np
import onnxruntime
from bentoml.validators import DType

MAX_BATCH = 64
MAX_LATENCY_MS = 1_000  # what it aims at less than; a tight one is answered with 503


@bentoml.service(workers=1, traffic={"timeout": 30}, logging={"access": {"enabled": False}})
class Fraud:
    """Scores rows of 40 features."""

    def __init__(self) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        path = Path(os.environ["MODELS"]) / "mlp.onnx"
        self.session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    @bentoml.api(batchable=True, max_batch_size=MAX_BATCH, max_latency_ms=MAX_LATENCY_MS)
    def predict(self, features: Annotated[np.ndarray, DType("float32")]) -> np.ndarray:
        """Return the scores, float32 (N,)."""
        scores: np.ndarray = self.session.run(None, {"features": features})[0][:, 0]
        return scores
