"""What tells one bundle from another: measures, features, settings, and what both were trained on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from tollgate.bundle import Manifest


class Difference(msgspec.Struct, frozen=True):
    """What is not the same in two bundles; of each pair the first is of the first.

    Attributes:
        metrics: Every measure that either has on its test period; null is one that is not there or was not defined.
        only_first: Features that only the first computes, by name.
        only_second: Likewise.
        changed: Features of one name that are computed in another way.
        settings: What differs in model, policy, calibration, money and training rows, by its dotted name.
    """

    metrics: dict[str, tuple[float | None, float | None]]
    only_first: tuple[str, ...]
    only_second: tuple[str, ...]
    changed: tuple[str, ...]
    settings: dict[str, tuple[Any, Any]]


def difference(first: Manifest, second: Manifest) -> Difference:
    """Return what differs between two bundles.

    Measures stand side by side even where they are equal: that they are is what one looks for. They were taken on the
    test period of each, which need not be the same; the settings then say so.
    """
    features = _features(first), _features(second)
    measured = dict.fromkeys((*first.metrics, *second.metrics))
    return Difference(
        metrics={name: (first.metrics.get(name), second.metrics.get(name)) for name in measured},
        only_first=tuple(name for name in features[0] if name not in features[1]),
        only_second=tuple(name for name in features[1] if name not in features[0]),
        changed=tuple(name for name, how in features[0].items() if features[1].get(name, how) != how),
        settings=_unequal(_settings(first), _settings(second)),
    )


def _features(manifest: Manifest) -> dict[str, Any]:
    """Return how each feature is computed, by its name."""
    return dict(zip(manifest.names, manifest.plan["features"], strict=True))


def _settings(manifest: Manifest) -> dict[str, Any]:
    """Return all that was chosen, flat, by dotted names."""
    chosen = {
        "schema": manifest.schema_, "money": manifest.money, "train": manifest.train, "policy": manifest.policy,
        "calibration": manifest.calibration, "training": manifest.training, "tollgate": manifest.tollgate,
    }  # fmt: skip
    flat: dict[str, Any] = {}
    _flatten("", msgspec.to_builtins(chosen), flat)
    return flat


def _flatten(prefix: str, value: Any, into: dict[str, Any]) -> None:
    if isinstance(value, Mapping) and value:
        for name, inner in value.items():
            _flatten(f"{prefix}.{name}" if prefix else str(name), inner, into)
    else:
        into[prefix] = value


def _unequal(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    names = dict.fromkeys((*first, *second))
    pairs = {name: (first.get(name), second.get(name)) for name in names}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}
