"""How far a distribution has moved from what it was in training, and how much of that chance explains.

The population stability index (PSI) is `sum((p - q) ln(p / q))` over bins, with the shares q of the reference and p of
today; below 0.1 is usually read as no change, above 0.25 as a large one (Siddiqi, "Credit Risk Scorecards", 2006). If
nothing has moved it is about `(1/n + 1/m)` times a chi-square variable with `bins - 1` degrees of freedom (Yurdakul,
"Statistical properties of population stability index", 2018), n and m being the rows today and in the reference: with
few rows it is large without any drift.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from tollgate.model.profile import FeatureProfile

FLOOR = 1e-4  # the least share of a bin: an empty one would make the index infinite
CHANCE = 3.09  # standard normal quantile of 99.9%: many features are looked at, and one in a thousand is enough

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]


class Drift(msgspec.Struct, frozen=True, kw_only=True):
    """One feature, or the score, against its reference.

    Attributes:
        name: Of the feature.
        psi: Over the bins of the profile, and one for missing; null without rows.
        expected: What `psi` is on average where nothing has moved and rows are independent.
        chance: What it exceeds by chance once in a thousand.
        missing: Share of the rows on which it is missing; null without rows.
        missing_before: The same in the reference.
        rows: Of today.
        edges: Of the profile.
        shares: Of all rows today, in each bin, the last being the missing ones.
        shares_before: Of all rows of the reference.
        categorical: Whether the edges are codes.
    """

    name: str
    psi: float | None
    expected: float
    chance: float
    missing: float | None
    missing_before: float
    rows: int
    edges: tuple[float, ...]
    shares: tuple[float, ...]
    shares_before: tuple[float, ...]
    categorical: bool = False

    @property
    def is_beyond_chance(self) -> bool:
        """Whether it has moved more than chance explains."""
        return self.psi is not None and self.psi > self.chance

    @property
    def lost(self) -> float:
        """By how much the share of missing rows has changed, beyond what chance explains; at least 0."""
        if self.missing is None:
            return 0.0
        share = max(self.missing_before, 1 / self.rows)
        noise = CHANCE * math.sqrt(share * (1 - min(share, 1)) / self.rows)
        return max(abs(self.missing - self.missing_before) - noise, 0.0)


def psi(shares: Floats, before: Floats) -> float:
    """Return the population stability index of shares, float64 (B,), against those of a reference."""
    now, then = np.maximum(shares, FLOOR), np.maximum(before, FLOOR)
    return float(np.sum((now - then) * np.log(now / then)))


def noise(bins: int, rows: int, rows_before: int) -> tuple[float, float]:
    """Return what the index is without drift: on average, and at most, but for once in a thousand.

    The quantile of the chi-square distribution is that of Wilson & Hilferty (1931).

    Args:
        bins: That have rows today or in the reference.
        rows: Of today, above 0.
        rows_before: Of the reference, above 0.
    """
    freedom = bins - 1
    if freedom < 1:
        return 0.0, 0.0
    scale = 1 / rows + 1 / rows_before
    spread = 2 / (9 * freedom)
    return scale * freedom, scale * freedom * (1 - spread + CHANCE * math.sqrt(spread)) ** 3


class Histogram:
    """Counts the values of F features in the bins of their profiles, a chunk at a time."""

    def __init__(self, profiles: Sequence[FeatureProfile], rows_before: int) -> None:
        """Count nothing yet.

        Args:
            profiles: The reference of each feature.
            rows_before: How many rows that was.
        """
        self._profiles = profiles
        self._rows_before = rows_before
        self._edges = [np.array(one.edges, dtype=np.float64) for one in profiles]
        self._counts = [np.zeros(len(one.shares) + 1, dtype=np.int64) for one in profiles]

    def add(self, features: Floats) -> None:
        """Count N rows, float64 (N, F); NaN is missing."""
        assert features.shape[1] == len(self._profiles)
        for place, profile in enumerate(self._profiles):
            bins = bins_of(profile, self._edges[place], features[:, place])
            self._counts[place] += np.bincount(bins, minlength=len(self._counts[place]))

    def drifts(self) -> list[Drift]:
        """Return each feature against its reference, in their order."""
        return [
            drift_of(profile, counts, self._rows_before)
            for profile, counts in zip(self._profiles, self._counts, strict=True)
        ]


def bins_of(profile: FeatureProfile, edges: Floats, values: Floats) -> Counts:
    """Return the bin of each of N values, int64 (N,), as the profile counted its own; missing is the last bin.

    Args:
        profile: With K edges and S shares.
        edges: Those of the profile, float64 (K,).
        values: float64 (N,).
    """
    if profile.categorical:
        places = np.minimum(np.searchsorted(edges, values), max(edges.size - 1, 0))
        known = edges[places] == values if edges.size else np.zeros(values.shape, dtype=np.bool_)
        bins = np.where(known, places, len(profile.shares) - 1)
    else:
        bins = np.searchsorted(edges, values, side="right")
    found: Counts = np.where(np.isfinite(values), bins, len(profile.shares)).astype(np.int64)
    return found


def drift_of(profile: FeatureProfile, counts: Counts, rows_before: int) -> Drift:
    """Return what the counts of each bin, int64 (S + 1,), say against a profile with S shares."""
    present = 1 - profile.missing
    before = np.append(np.array(profile.shares) * present, profile.missing)
    rows = int(counts.sum())
    shares = counts / max(rows, 1)
    used = int(np.count_nonzero((before > 0) | (counts > 0)))
    expected, chance = noise(used, rows, rows_before) if rows else (0.0, 0.0)
    return Drift(
        name=profile.name,
        psi=psi(shares, before) if rows else None,
        expected=expected,
        chance=chance,
        missing=float(shares[-1]) if rows else None,
        missing_before=profile.missing,
        rows=rows,
        edges=profile.edges,
        shares=tuple(shares.tolist()),
        shares_before=tuple(before.tolist()),
        categorical=profile.categorical,
    )
