"""FastAPI and LightGBM through a pandas DataFrame with named columns: the tutorials' way. Arguments: PORT MODELS."""

from __future__ import annotations

import sys
from pathlib import Path

import lightgbm
import pandas as pd
import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel

PORT, MODELS = int(sys.argv[1]), Path(sys.argv[2])


class Features(BaseModel):
    """What a client sends."""

    features: list[float]


app = FastAPI()
model = lightgbm.Booster(model_file=MODELS / "trees.txt")
names = [f"feature_{place}" for place in range(model.num_feature())]


@app.post("/predict")
def predict(given: Features) -> dict[str, float]:
    """Return the score; a plain function, which FastAPI runs in a thread."""
    row = pd.DataFrame([given.features], columns=names)
    return {"score": float(model.predict(row, num_threads=1)[0])}


if __name__ == "__main__":
    uvicorn.run(
        app, host="127.0.0.1", port=PORT, loop="uvloop", http="httptools", access_log=False, log_level="warning"
    )
