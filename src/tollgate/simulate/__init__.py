"""Synthetic card payments: people with habits, kinds of fraud that come and go, labels that arrive late."""

from tollgate.simulate.campaign import Campaign, Tactic
from tollgate.simulate.drift import Drift, Surge
from tollgate.simulate.frame import LABEL_FIELDS, PAYMENT_FIELDS
from tollgate.simulate.rotation import Rotation, rotating
from tollgate.simulate.rows import TYPOLOGIES
from tollgate.simulate.scenario import Mix, Scenario
from tollgate.simulate.stream import payloads, simulate, write

__all__ = [
    "LABEL_FIELDS",
    "PAYMENT_FIELDS",
    "TYPOLOGIES",
    "Campaign",
    "Drift",
    "Mix",
    "Rotation",
    "Scenario",
    "Surge",
    "Tactic",
    "payloads",
    "rotating",
    "simulate",
    "write",
]
