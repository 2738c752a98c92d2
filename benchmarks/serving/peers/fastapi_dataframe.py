"""FastAPI and LightGBM through a pandas DataFrame with named columns: the tutorials' way. Arguments: PORT MODELS."""

from __future__ import annotations

import lightgbm
import pandas as pd
from fastapi import FastAPI
from fastapi_shape import MODELS, Features, run

app = FastAPI()
model = lightgbm.Booster(model_file=MODELS / "trees.txt")
names = [f"feature_{place}" for place in range(model.num_feature())]


@app.post("/predict")
def predict(given: Features) -> dict[str, float]:
    """Return the score; a plain function, which FastAPI runs in a thread."""
    row = pd.DataFrame([given.features], columns=names)
    return {"score": float(model.predict(row, num_threads=1)[0])}


if __name__ == "__main__":
    run(app)
