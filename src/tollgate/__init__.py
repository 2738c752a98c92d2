"""Tollgate: real-time payment fraud decisions."""

__version__ = "0.1.0"
