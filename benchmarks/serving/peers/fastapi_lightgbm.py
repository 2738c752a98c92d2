"""FastAPI and LightGBM on an array: what people run. Arguments: PORT MODELS."""

from __future__ import annotations

import lightgbm
import numpy as np
from fastapi import FastAPI
from fastapi_shape import MODELS, Features, Score, run

app = FastAPI()
booster = lightgbm.Booster(model_file=MODELS / "trees.txt")


@app.post("/predict")
async def predict(given: Features) -> Score:
    """Return the score; on the event loop, since a thread for each request costs more than the model."""
    return Score(score=float(booster.predict(np.array([given.features]), num_threads=1)[0]))


if __name__ == "__main__":
    run(app)
