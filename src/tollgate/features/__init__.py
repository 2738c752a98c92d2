"""Features: declared once, computed by the same code in training, backtest, HTTP and streams."""

from tollgate.features.arrivals import NOT_FRAUD, Arrivals
from tollgate.features.declaration import Expr, constant, cos, cyclical, haversine_km, log1p, sin, tx
from tollgate.features.engine import FeatureEngine
from tollgate.features.entities import Entity, entity
from tollgate.features.plan import FeaturePlan
from tollgate.features.port import FILLING, Engine, RemoteEngine, Standing

__all__ = [
    "FILLING",
    "NOT_FRAUD",
    "Arrivals",
    "Engine",
    "Entity",
    "Expr",
    "FeatureEngine",
    "FeaturePlan",
    "RemoteEngine",
    "Standing",
    "constant",
    "cos",
    "cyclical",
    "entity",
    "haversine_km",
    "log1p",
    "sin",
    "tx",
]
