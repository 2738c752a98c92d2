"""What each feature and the score looked like in training: the reference for reasons and for drift."""

from __future__ import annotations

import msgspec
import numpy as np
from numpy.typing import NDArray

BINS = 10  # of a number, holding equal numbers of training rows: the usual choice for PSI
MAX_CODES = 20  # of a category, the most frequent; the rest is counted together

TAIL = (0.95, 0.99)  # further edges of the score, where decisions are made


class FeatureProfile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One feature over the training rows.

    Attributes:
        typical: The median, or the most frequent code of a category; null where it is always missing.
        missing: Share of the rows on which it is missing.
        edges: Of a number: the K inner edges of its K + 1 bins, rising; a value at an edge is above it. Of a
            category: its K most frequent codes, rising.
        shares: Of the rows that have it, in each bin, float (K + 1,); of a category the last is all other codes.
    """

    name: str
    categorical: bool
    typical: float | None
    missing: float
    edges: tuple[float, ...]
    shares: tuple[float, ...]


class ScoreProfile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The calibrated score over payments that the model had not seen when it scored them.

    Attributes:
        rows: How many those were.
        profile: Like that of a feature; its bins hold a tenth of the rows each, and the highest is cut further.
    """

    rows: int
    profile: FeatureProfile


def profile_scores(scores: NDArray[np.float64]) -> ScoreProfile:
    """Return the profile of calibrated scores, float64 (N,), N > 0."""
    cuts = np.unique(np.concatenate((np.linspace(0, 1, BINS + 1)[1:-1], TAIL)))
    edges = np.unique(np.quantile(scores, cuts, method="higher"))
    counts = np.bincount(np.searchsorted(edges, scores, side="right"), minlength=edges.size + 1)
    shares = counts / scores.size
    typical = float(np.median(scores))
    return ScoreProfile(
        scores.size, FeatureProfile("score", False, typical, 0.0, tuple(edges.tolist()), tuple(shares.tolist()))
    )


def profile_features(
    features: NDArray[np.float64], names: tuple[str, ...], categorical: tuple[bool, ...]
) -> tuple[FeatureProfile, ...]:
    """Return a profile of each of the F columns of `features`, float64 (N, F), N > 0."""
    return tuple(
        _profile(column, name, is_category)
        for column, name, is_category in zip(features.T, names, categorical, strict=True)
    )


def _profile(column: NDArray[np.float64], name: str, categorical: bool) -> FeatureProfile:
    present = column[np.isfinite(column)]
    missing = float(np.mean(np.isnan(column)))
    if present.size == 0:
        return FeatureProfile(name, categorical, None, missing, (), (0.0,))
    if categorical:
        codes, rows = np.unique(present, return_counts=True)
        frequent = np.argsort(-rows, kind="stable")
        typical = codes[frequent[0]]
        top = np.sort(frequent[:MAX_CODES])
        edges, counts = codes[top], np.append(rows[top], rows[frequent[MAX_CODES:]].sum())
    else:
        typical = np.median(present)
        edges = np.unique(np.quantile(present, np.linspace(0, 1, BINS + 1)[1:-1], method="higher"))
        counts = np.bincount(np.searchsorted(edges, present, side="right"), minlength=edges.size + 1)
    shares = counts / present.size
    return FeatureProfile(name, categorical, float(typical), missing, tuple(edges.tolist()), tuple(shares.tolist()))
