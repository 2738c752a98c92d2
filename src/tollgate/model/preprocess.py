"""From raw features to what a network reads, inside the exported graph.

A number becomes its normal score: its rank among the training rows, as a standard normal variable. That is
indifferent to units and long tails, and between the knots it is linear, so no sharp threshold on an amount is
blurred. A category becomes its place in a vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tollgate.model.search import locate

KNOTS = 128  # a power of two: the search halves it
MIN_CATEGORY_ROWS = 10  # a category seen on fewer rows shares the place of the unknown ones
MAX_CATEGORIES = 4096  # of one feature; the rarest beyond are unknown

_CODE_LIMIT = 2.0**53  # codes of categories are below it


@dataclass(frozen=True, slots=True)
class Tables:
    """What `Preprocess` knows of the training rows: D numeric and C categorical features.

    Attributes:
        numeric: Places of the numeric features, int64 (D,).
        knots: Values at which a score is known, rising, padded with infinity, float64 (D, KNOTS).
        scores: Normal scores at the knots, float64 (D, KNOTS).
        slopes: Score per unit from each knot to the next, float64 (D, KNOTS).
        masked: Places among the D of those that are missing on some training row, int64 (M,). The others get
            no mask: its weight would never be trained, and act on the first missing value like noise.
        categories: Places of the categorical features, int64 (C,).
        vocabulary: Their known codes, rising, padded with infinity, float64 (C, V).
        sizes: How many codes each of them knows, int64 (C,).
    """

    numeric: Tensor
    knots: Tensor
    scores: Tensor
    slopes: Tensor
    masked: Tensor
    categories: Tensor
    vocabulary: Tensor
    sizes: Tensor


def fit_tables(features: NDArray[np.float64], categorical: tuple[bool, ...]) -> Tables:
    """Return the tables of `features`, float64 (N, F), of which those marked `categorical` are codes."""
    is_category = np.array(categorical, dtype=np.bool_)
    numeric, categories = np.flatnonzero(~is_category), np.flatnonzero(is_category)
    curves = [_normal_scores(features[:, place]) for place in numeric]
    knots, scores, slopes = (
        torch.tensor(np.array([curve[part] for curve in curves]).reshape(-1, KNOTS)) for part in range(3)
    )
    words = [_vocabulary(features[:, place]) for place in categories]
    width = 1 << max((len(codes) for codes in words), default=1).bit_length()
    vocabulary = np.full((len(words), width), np.inf)
    for row, codes in zip(vocabulary, words, strict=True):
        row[: len(codes)] = codes
    return Tables(
        numeric=torch.tensor(numeric),
        knots=knots,
        scores=scores,
        slopes=slopes,
        masked=torch.tensor(np.flatnonzero(np.isnan(features[:, numeric]).any(axis=0))),
        categories=torch.tensor(categories),
        vocabulary=torch.tensor(vocabulary),
        sizes=torch.tensor([len(codes) for codes in words], dtype=torch.int64),
    )


class Preprocess(nn.Module):
    """Raw features to normal scores, masks of what is missing, and places of categories.

    Attributes:
        trees: How an export to ONNX looks values up; see `search`.
    """

    trees = False
    numeric: Tensor
    knots: Tensor
    scores: Tensor
    slopes: Tensor
    masked: Tensor
    categories: Tensor
    vocabulary: Tensor
    sizes: Tensor

    def __init__(self, tables: Tables) -> None:
        super().__init__()
        for name in Tables.__slots__:
            self.register_buffer(name, getattr(tables, name))
        # As plain numbers, which an export does not trace.
        self._numeric, self._categories = tables.numeric.numel(), tables.categories.numel()
        self._words = tables.vocabulary.shape[1]

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Return numbers, float32 (B, D + M), and places of categories, int64 (B, C), 0 being unknown or missing.

        Args:
            features: float64 (B, F); NaN is missing. Kept in float64 until here: a category's code and a large
                sum do not fit float32.
        """
        numbers = features if self._categories == 0 else features[:, self.numeric]  # all of them are numeric then
        return self._numbers(numbers), self._places(features[:, self.categories])

    def _numbers(self, values: Tensor) -> Tensor:
        if self._numeric == 0:
            return values.float()
        missing = torch.isnan(values)  # (B, D)
        lowest, highest = self.knots[:, 0], self.knots.masked_fill(self.knots.isinf(), -torch.inf).amax(1)
        values = torch.where(missing, lowest, values)
        values = torch.minimum(torch.maximum(values, lowest), highest)
        at = locate(values, self.knots, KNOTS, trees=self.trees)
        scores = self.scores.flatten()[at] + self.slopes.flatten()[at] * (values - self.knots.flatten()[at])
        scores = torch.where(missing, torch.zeros_like(scores), scores)  # the median, where there is none
        return torch.cat((scores.float(), missing[:, self.masked].float()), dim=1)

    def _places(self, codes: Tensor) -> Tensor:
        if self._categories == 0:
            return codes.long()
        codes = torch.where(codes < _CODE_LIMIT, codes, -torch.ones_like(codes))  # NaN too
        at = locate(codes, self.vocabulary, self._words, trees=self.trees)
        known = self.vocabulary.flatten()[at] == codes
        return torch.where(
            known, at - self._words * torch.arange(self._categories, device=at.device) + 1, torch.zeros_like(at)
        )


def _normal_scores(column: NDArray[np.float64]) -> tuple[NDArray[np.float64], ...]:
    """Return knots, scores and slopes of one feature, float64 (KNOTS,) each.

    Knots lie evenly in normal score, not in rank, for the tails are where fraud is. A value that many rows
    share has the score of its middle rank.
    """
    ordered = np.sort(column[np.isfinite(column)])
    knots, scores, slopes = np.full(KNOTS, np.inf), np.zeros(KNOTS), np.zeros(KNOTS)
    if ordered.size == 0 or ordered[0] == ordered[-1]:
        knots[0] = ordered[0] if ordered.size else 0.0  # it says nothing: score 0 everywhere
        return knots, scores, slopes
    edge = 0.5 / ordered.size
    reach = float(_probit(np.array([1 - edge]))[0])
    levels = torch.special.ndtr(torch.linspace(-reach, reach, KNOTS, dtype=torch.float64)).numpy()
    found = np.unique(ordered[np.rint(levels * (ordered.size - 1)).astype(np.int64)])
    rank = (np.searchsorted(ordered, found, "left") + np.searchsorted(ordered, found, "right")) / (2 * ordered.size)
    knots[: found.size] = found
    scores[: found.size] = _probit(np.clip(rank, edge, 1 - edge))
    slope = np.diff(scores[: found.size]) / np.diff(found)
    slopes[: found.size - 1] = np.where(np.isfinite(slope), slope, 0.0)  # neighbours too close to divide by
    return knots, scores, slopes


def _probit(share: NDArray[np.float64]) -> NDArray[np.float64]:
    quantile: NDArray[np.float64] = torch.special.ndtri(torch.from_numpy(share)).numpy()
    return quantile


def _vocabulary(column: NDArray[np.float64]) -> NDArray[np.float64]:
    codes, rows = np.unique(column[~np.isnan(column)], return_counts=True)
    codes, rows = codes[rows >= MIN_CATEGORY_ROWS], rows[rows >= MIN_CATEGORY_ROWS]
    return np.sort(codes[np.argsort(-rows, kind="stable")[:MAX_CATEGORIES]])
