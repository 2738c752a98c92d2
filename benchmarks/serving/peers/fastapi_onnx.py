"""FastAPI and ONNX Runtime. Arguments: PORT MODELS."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnxruntime
import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel

PORT, MODELS = int(sys.argv[1]), Path(sys.argv[2])


class Features(BaseModel):
    """What a client sends."""

    features: list[float]


class Score(BaseModel):
    """What it gets."""

    score: float


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
    uvicorn.run(
        app, host="127.0.0.1", port=PORT, loop="uvloop", http="httptools", access_log=False, log_level="warning"
    )
