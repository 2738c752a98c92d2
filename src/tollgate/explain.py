"""Why a score is high: the features without which it would be lower.

Each feature in turn is set to its typical value and the row is scored again (occlusion, Zeiler & Fergus 2014); by
how much the score falls is the feature's effect. One model call for all features of all rows at hand.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from tollgate.decision import Reason

MIN_EFFECT = 0.01  # in probability; less is no reason

Floats = NDArray[np.float64]


class Explainer:
    """Finds reasons with a model's own scores."""

    def __init__(
        self,
        score: Callable[[Floats], Floats],
        names: Sequence[str],
        typical: Floats,
        categories: Mapping[float, str],
        most: int,
    ) -> None:
        """Make the explainer.

        Args:
            score: Calibrated scores, float64 (N,), of features, float64 (N, F).
            names: The F feature names.
            typical: The value of each feature that stands for nothing unusual, float64 (F,).
            categories: Texts of category codes.
            most: How many reasons a decision gets at the most.
        """
        self._score = score
        self._names = tuple(names)
        self._typical = typical
        self._categories = categories
        self._most = most

    def explain(self, features: Floats, scores: Floats) -> list[tuple[Reason, ...]]:
        """Return the reasons of each of N rows, the strongest first.

        Args:
            features: float64 (N, F).
            scores: Their calibrated scores, float64 (N,).
        """
        n, width = features.shape
        variants = np.repeat(features[:, None, :], width, axis=1)  # (N, F, F)
        diagonal = np.arange(width)
        variants[:, diagonal, diagonal] = self._typical
        effects = scores[:, None] - self._score(variants.reshape(n * width, width)).reshape(n, width)
        return [self._reasons(row, effect) for row, effect in zip(features, effects, strict=True)]

    def _reasons(self, row: Floats, effects: Floats) -> tuple[Reason, ...]:
        strongest = np.argsort(-effects, kind="stable")[: self._most]
        return tuple(
            Reason(
                self._names[f],
                f"{self._names[f]} is {self._text(row[f])}; usually {self._text(self._typical[f])}",
                round(float(effects[f]), 4),
            )
            for f in strongest
            if effects[f] >= MIN_EFFECT
        )

    def _text(self, value: float) -> str:
        if np.isnan(value):
            return "missing"
        if value in self._categories:
            return repr(self._categories[value])
        return f"{value:.0f}" if value == round(value) else f"{value:.4g}"
