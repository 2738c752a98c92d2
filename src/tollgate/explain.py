"""Why a score is high: the features without which it would be lower.

Features that say the same thing are set to their typical values together and the row is scored again (occlusion,
Zeiler & Fergus 2014); by how much the score falls is their effect. Taken one by one, each of a card's counts over
an hour, six and a day would show little, for the model still reads it off the others.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from tollgate.decision import Reason
from tollgate.features.declaration import nodes
from tollgate.features.plan import FeaturePlan
from tollgate.features.reason import families, named_text, reason_text
from tollgate.model.profile import FeatureProfile

MIN_EFFECT = 0.01  # in probability: less is no reason
MIN_LOG_ODDS = 0.2  # or less than this in log odds: near 1 a probability hardly moves
MAX_FAMILIES = 20  # that are tried for one decision, those furthest from what is usual
MAX_TOGETHER = 4  # tried in addition where none alone matters: the strongest, one after the other
MAX_VARIANTS = MAX_FAMILIES + MAX_TOGETHER  # rows of the model that the reasons of one decision cost at the most
MAX_ROWS = 2560  # variants in one call of the model: bounds the memory of many decisions at once

_MOSTLY = 0.5  # a feature missing on more than this share of the rows is usually missing
_FAR = 2.0  # how unusual a value is that hardly ever occurs
_SAME_BIN = 1e-6  # how unusual a value is that is not the typical one, but near it
_SMALLEST, _LARGEST = 1e-300, 1 - 1e-16  # probabilities with finite log odds

Floats = NDArray[np.float64]
Places = NDArray[np.intp]


class Explainer:
    """Finds reasons with a model's own scores."""

    def __init__(
        self,
        score: Callable[[Floats], Floats],
        names: Sequence[str],
        typical: Floats,
        categories: Mapping[float, str],
        most: int,
        plan: FeaturePlan | None = None,
        profiles: Sequence[FeatureProfile] | None = None,
        currency: str = "",
    ) -> None:
        """Make the explainer.

        Args:
            score: Calibrated scores, float64 (N,), of features, float64 (N, F).
            names: The F feature names.
            typical: The value of each feature that stands for nothing unusual, float64 (F,).
            categories: Texts of category codes.
            most: How many reasons a decision gets at the most.
            plan: The F features: which belong together, and how each is said. Without it each stands alone and
                is said by its name.
            profiles: What the F features were like in training. Without them every value that is not typical is
                equally unusual.
            currency: The base currency, such as `EUR`.
        """
        self._score = score
        self._names = tuple(names)
        self._usual = typical if profiles is None else usual_values(profiles, plan)
        self._often_missing = np.isnan(self._usual)  # (F,)
        if profiles is not None:
            self._often_missing |= np.array([one.missing > _MOSTLY for one in profiles])
        self._categories = categories
        self._most = most
        self._plan = plan
        self._profiles = None if profiles is None else _Profiles(profiles, self._usual)
        self._currency = currency
        family = np.arange(len(self._names)) if plan is None else np.array(families(plan.features))
        self._members = family == np.arange(family.max() + 1)[:, None]  # (G, F)
        self._order = np.argsort(family, kind="stable")
        self._starts = np.searchsorted(family[self._order], np.arange(family.max() + 1))
        self._length = [1] * len(self._names) if plan is None else [len(list(nodes(one))) for one in plan.features]

    def explain(self, features: Floats, scores: Floats) -> list[tuple[Reason, ...]]:
        """Return the reasons of each of N rows, the strongest first.

        Where no family lowers the score by itself, the strongest are taken away one after the other, and the effect of
        each is by how much the score falls further.

        Args:
            features: float64 (N, F).
            scores: Their calibrated scores, float64 (N,).
        """
        step = MAX_ROWS // MAX_FAMILIES
        parts = (slice(at, at + step) for at in range(0, len(features), step))
        return [reasons for part in parts for reasons in self._explain(features[part], scores[part])]

    def _explain(self, rows: Floats, scores: Floats) -> list[tuple[Reason, ...]]:
        unusual = self._unusual(rows)  # (N, F)
        effects, falls = self._alone(rows, scores, unusual)  # (N, G) each
        strongest = np.argsort(-falls, axis=1, kind="stable")[:, : self._most]  # (N, most)
        shown = np.take_along_axis(effects, strongest, axis=1)
        named = (shown >= MIN_EFFECT) | (np.take_along_axis(falls, strongest, axis=1) >= MIN_LOG_ODDS)
        certain = np.flatnonzero((effects.max(axis=1) < MIN_EFFECT) & (falls.max(axis=1) > 0))
        if certain.size:
            first = strongest[certain, :MAX_TOGETHER]
            further = self._together(rows[certain], scores[certain], first)  # (S, first)
            lowered = further.sum(axis=1) >= MIN_EFFECT
            named[certain] = False
            named[certain, : first.shape[1]] = lowered[:, None] & (
                np.take_along_axis(falls[certain], first, axis=1) > 0
            )
            named[certain, 0] = True
            shown[certain, : first.shape[1]] = np.where(lowered[:, None], further, shown[certain, : first.shape[1]])
        return [
            tuple(
                self._reason(rows[n], unusual[n], family, effect)
                for family, effect, is_named in zip(strongest[n], shown[n], named[n], strict=True)
                if is_named
            )
            for n in range(len(rows))
        ]

    def _unusual(self, rows: Floats) -> Floats:
        """Return how far each value is from the usual, (N, F): 0 where it is the usual one."""
        same = (rows == self._usual) | (np.isnan(rows) & self._often_missing)
        far = np.ones(rows.shape) if self._profiles is None else self._profiles.distance(rows)
        return np.where(same, 0.0, np.maximum(far, _SAME_BIN))

    def _alone(self, rows: Floats, scores: Floats, unusual: Floats) -> tuple[Floats, Floats]:
        """Return by how much the score falls without each family, in probability and log odds, (N, G) each."""
        by_family = np.maximum.reduceat(unusual[:, self._order], self._starts, axis=1)  # (N, G)
        effects, falls = np.zeros(by_family.shape), np.zeros(by_family.shape)
        tried = np.argsort(-by_family, axis=1, kind="stable")[:, :MAX_FAMILIES]
        row, place = np.nonzero(np.take_along_axis(by_family, tried, axis=1))
        family = tried[row, place]
        if family.size:
            without = self._score(np.where(self._members[family], self._usual, rows[row]))
            effects[row, family] = scores[row] - without
            falls[row, family] = _log_odds(scores)[row] - _log_odds(without)
        return effects, falls

    def _together(self, rows: Floats, scores: Floats, order: Places) -> Floats:
        """Return by how much each of K families lowers the score once those before it are gone, (N, K)."""
        n, k = order.shape
        variants = np.repeat(rows[:, None, :], k, axis=1)  # (N, K, F)
        for place in range(k):
            gone = self._members[order[:, place]]  # (N, F)
            variants[:, place:] = np.where(gone[:, None, :], self._usual, variants[:, place:])
        without = self._score(variants.reshape(n * k, rows.shape[1])).reshape(n, k)
        return -np.diff(without, axis=1, prepend=scores[:, None])

    def _reason(self, row: Floats, unusual: Floats, family: np.intp, effect: float) -> Reason:
        members = np.flatnonzero(self._members[family])
        # An hour is easier to read than its sine, so the shortest expression speaks for those of the same quantity.
        member = max(members, key=lambda one: (unusual[one] > 0, -self._length[one], unusual[one]))
        return Reason(self._names[member], self._text(member, row[member]), round(float(effect), 4))

    def _text(self, member: np.intp, value: float) -> str:
        usual = float(self._usual[member])
        if self._plan is None:
            return named_text(self._names[member], float(value), usual, self._categories)
        feature = self._plan.features[member]
        return reason_text(feature, float(value), usual, self._categories, self._plan.schema, self._currency)


def usual_values(profiles: Sequence[FeatureProfile], plan: FeaturePlan | None = None) -> Floats:
    """Return the value of each feature that stands for nothing unusual, float64 (F,); NaN where it is mostly missing.

    Of a feature such as the time since a known fraud, the median of the few rows that have one is far from usual.
    Where a feature is missing only since few payments have a device at all, its median is: whether there is a device
    is another question than how often it was used. A plan tells the two apart.
    """
    typical = np.array([np.nan if one.typical is None else one.typical for one in profiles], dtype=np.float64)
    missing = np.array([one.missing for one in profiles])
    absent = np.zeros(len(profiles))  # share of the rows without the entities that a feature reads
    if plan is not None:
        readers: dict[frozenset[tuple[str, ...]], list[int]] = {}
        for place, feature in enumerate(plan.features):
            entities = frozenset(one.param["entity"] for one in nodes(feature) if "entity" in one.param)
            if entities:
                readers.setdefault(entities, []).append(place)
        for places in readers.values():
            absent[places] = missing[places].min()
    return np.where(missing - absent > _MOSTLY * (1 - absent), np.nan, typical)


class _Profiles:
    """The training profiles of F features as arrays, to look many rows up at once."""

    def __init__(self, profiles: Sequence[FeatureProfile], usual: Floats) -> None:
        numeric = [() if one.categorical else one.edges for one in profiles]
        width = max(map(len, numeric))
        self._edges = np.full((len(profiles), width), np.inf)  # (F, E)
        self._ranks = np.zeros((len(profiles), width + 1))  # (F, E + 1): share of the rows up to a bin's middle
        self._first, self._last = np.full(len(profiles), -np.inf), np.full(len(profiles), np.inf)
        self._span = np.ones(len(profiles))
        for f, edges in enumerate(numeric):
            if edges:
                shares = np.array(profiles[f].shares)
                self._edges[f, : len(edges)] = edges
                self._ranks[f, : len(edges) + 1] = np.cumsum(shares) - shares / 2
                self._first[f], self._last[f] = edges[0], edges[-1]
                self._span[f] = edges[-1] - edges[0] or abs(edges[0]) or 1.0
        self._categories = [
            (f, np.array(one.edges), np.array(one.shares))
            for f, one in enumerate(profiles)
            if one.categorical and one.edges
        ]
        self._missing = np.array([one.missing for one in profiles])
        self._usual = usual
        self._usual_rank = self._rank(usual[None])[0]

    def distance(self, rows: Floats) -> Floats:
        """Return how far values are from the typical ones, (N, F), from 0 to `_FAR`.

        The share of the training rows that lies between them; beyond the outer edges, which leave out a tenth on
        either side, 1 and more by how far beyond.
        """
        with np.errstate(over="ignore", invalid="ignore"):
            beyond = np.maximum(np.maximum(rows - self._last, self._first - rows), 0.0) / self._span
            beyond = np.minimum(beyond, 1 / _SAME_BIN)
            far = np.where(beyond > 0, 1 + beyond / (1 + beyond), np.abs(self._rank(rows) - self._usual_rank))
        for f, codes, shares in self._categories:
            place = np.minimum(np.searchsorted(codes, rows[:, f]), codes.size - 1)
            share = np.where(codes[place] == rows[:, f], shares[place], shares[-1])
            far[:, f] = _FAR * np.maximum(1 - share / shares.max(), 0.0)
        far = np.where(np.isnan(self._usual), _FAR * self._missing, far)
        return np.where(np.isnan(rows), _FAR * (1 - self._missing), far)

    def _rank(self, rows: Floats) -> Floats:
        bins = (self._edges <= rows[:, :, None]).sum(axis=2)  # (N, F)
        ranks: Floats = self._ranks[np.arange(rows.shape[1]), bins]
        return ranks


def _log_odds(probabilities: Floats) -> Floats:
    held = np.clip(probabilities, _SMALLEST, _LARGEST)
    log_odds: Floats = np.log(held) - np.log1p(-held)
    return log_odds
