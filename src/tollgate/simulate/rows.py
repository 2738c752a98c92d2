"""Simulated payments as columns of numbers, before they get their names."""

from __future__ import annotations

from dataclasses import dataclass, fields
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from tollgate.simulate.scenario import Mix

ABSENT = -1  # in place of a device or an IP address that a payment does not have


class Channel(IntEnum):
    """How the payment was made; the name in lower case is the value in the data."""

    POS = 0
    ECOM = 1
    ATM = 2
    MOTO = 3  # mail order, telephone order


GENUINE = 0
# The code of a typology in `Rows.typology` is its place here, counted from 1; those of campaigns come after them.
TYPOLOGIES = Mix.__struct_fields__


def code_of(typology: str) -> int:
    """Return the code of one of `TYPOLOGIES`."""
    return 1 + TYPOLOGIES.index(typology)


@dataclass(frozen=True, slots=True)
class Rows:
    """N payments, in any order.

    Attributes:
        time_us: Microseconds since the scenario began, int64 (N,).
        card: Row of the population's card, int64 (N,).
        merchant: Row of the market's merchant, int64 (N,).
        amount: Euros, float64 (N,), whole cents.
        channel: A `Channel`, int64 (N,).
        device: Number of the device or `ABSENT`, int64 (N,).
        ip: Number of the IP address or `ABSENT`, int64 (N,).
        city: Row of `CITIES` where the payer was, int64 (N,).
        lat: Degrees, float64 (N,).
        lon: Degrees, float64 (N,).
        typology: `GENUINE` or the code of the typology, int64 (N,).
    """

    time_us: NDArray[np.int64]
    card: NDArray[np.int64]
    merchant: NDArray[np.int64]
    amount: NDArray[np.float64]
    channel: NDArray[np.int64]
    device: NDArray[np.int64]
    ip: NDArray[np.int64]
    city: NDArray[np.int64]
    lat: NDArray[np.float64]
    lon: NDArray[np.float64]
    typology: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.time_us)

    def take(self, rows: NDArray[np.int64]) -> Rows:
        """Return the chosen rows, in the order asked for."""
        return Rows(*(getattr(self, field.name)[rows] for field in fields(self)))


def join(parts: list[Rows]) -> Rows:
    """Return the rows of all parts, one after the other. There must be at least one part."""
    return Rows(*(np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(Rows)))
