"""The HTTP front door: `POST /predict` and three health endpoints."""

from tollgate.serve.app import PredictApp
from tollgate.serve.batcher import Batcher
from tollgate.serve.server import serve

__all__ = ["Batcher", "PredictApp", "serve"]
