"""Synthetic card payments: people with habits, five kinds of fraud, labels that arrive late."""

from tollgate.simulate.frame import LABEL_FIELDS, PAYMENT_FIELDS
from tollgate.simulate.rows import TYPOLOGIES
from tollgate.simulate.scenario import Mix, Scenario
from tollgate.simulate.stream import payloads, simulate, write

__all__ = ["LABEL_FIELDS", "PAYMENT_FIELDS", "TYPOLOGIES", "Mix", "Scenario", "payloads", "simulate", "write"]
