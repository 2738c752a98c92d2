"""What the three servers on FastAPI share: their arguments PORT MODELS, what goes in and out, and how they are run."""

from __future__ import annotations

import sys
from pathlib import Path

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


def run(app: FastAPI) -> None:
    """Serve with the fastest parts that uvicorn has, and without a log of each request."""
    uvicorn.run(
        app, host="127.0.0.1", port=PORT, loop="uvloop", http="httptools", access_log=False, log_level="warning"
    )
