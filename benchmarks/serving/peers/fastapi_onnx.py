"""FastAPI and ONNX Runtime. Arguments: PORT MODELS."""

from __future__ import annotations

import numpy as np
import onnxruntime
from fastapi import FastAPI
from fastapi_shape import MODELS, Features, Score, run

app = FastAPI()
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
session = onnxruntime.InferenceSession(MODELS / "mlp.onnx", options, providers=["CPUExecutionProvider"])


@app.post("/predict")
async def predict(given: Features) -> Score:
    """Return the score; on the event loop, since a thread for each request costs more than the model."""
    row = np.array([given.features], dtype=np.float32)
    return Score(score=float(session.run(None, {"features": row})[0][0, 0]))


if __name__ == "__main__":
    run(app)
