"""Boosted trees over raw features, and the same trees as ONNX, to serve them without LightGBM."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import lightgbm
import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from tollgate.errors import ModelError
from tollgate.model.export import OPSET, TOLERANCE
from tollgate.model.runtime import OnnxRuntime

Vocabularies = tuple[NDArray[np.float64] | None, ...]

_TREES_DOMAIN = "ai.onnx.ml"
_TREES_OPSET = 3  # the first whose thresholds may be double: a category's code and a large sum do not fit float32
_INFINITE = 1e300  # LightGBM splits by infinity to part what is missing from what is not, but describes it as this
_CHAIN = 4  # codes compared with one after the other; a set of more is halved first
_ZERO = float(np.float32(1e-35))  # LightGBM reads a value as 0 that is not farther from it
_IR_VERSION = 8  # of the file, the one that came with OPSET: a newer one is refused by older runtimes


@dataclass(frozen=True, slots=True)
class Trees:
    """Fitted LightGBM and what is needed to ask it.

    Attributes:
        booster: The trees, over numbers as they are and over places of categories.
        vocabularies: For each of the F features the codes that it knows, rising, or None where it is a number.
        threads: That scoring may use.
    """

    booster: lightgbm.Booster
    vocabularies: Vocabularies
    threads: int

    def logits(self, features: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the logits of fraud, float64 (N,), of raw features, float64 (N, F)."""
        encoded = encode(features, self.vocabularies)
        return np.asarray(self.booster.predict(encoded, raw_score=True, num_threads=self.threads), dtype=np.float64)


def fit_vocabularies(features: NDArray[np.float64], categorical: tuple[bool, ...]) -> Vocabularies:
    """Return the known codes of those of the F features that are `categorical`, of raw features, float64 (N, F)."""
    return tuple(
        np.unique(column[~np.isnan(column)]) if is_category else None
        for column, is_category in zip(features.T, categorical, strict=True)
    )


def encode(features: NDArray[np.float64], vocabularies: Vocabularies) -> NDArray[np.float64]:
    """Return raw features with 52-bit codes as small whole numbers, as LightGBM wants them; unknown is missing.

    Without categories these are the features themselves, not a copy.
    """
    if all(codes is None for codes in vocabularies):
        return features
    encoded = features.copy()
    for place, codes in enumerate(vocabularies):
        if codes is None:
            continue
        column = features[:, place]
        at = np.minimum(np.searchsorted(codes, column), max(codes.size - 1, 0))
        known = codes[at] == column if codes.size else np.zeros(column.shape, dtype=np.bool_)
        encoded[:, place] = np.where(known, at, np.nan)
    return encoded


def export_trees(trees: Trees, sample: NDArray[np.float64]) -> bytes:
    """Return `trees` as an ONNX model: input `features` double (B, F), output `logits` float (B, 1), any B.

    The graph is one node, and reads raw features: a split on a number compares in double, and a split on a set of
    categories becomes a chain of comparisons with their codes, so that an unknown one goes where a missing one goes.

    Args:
        trees: As `tollgate.baseline` fits them.
        sample: Raw features, float64 (N, F), N > 0, to compare logits on. Rows in which all is missing, zero,
            infinite or an unknown category are compared too.

    Raises:
        ModelError: The trees do not say all, the graph is not valid, or ONNX Runtime gives other logits than LightGBM.
    """
    model = _model(trees)
    try:
        onnx.checker.check_model(model, full_check=True)
    except onnx.checker.ValidationError as error:
        raise ModelError("bad_export", f"the exported trees are not valid ONNX: {error}") from error
    exported: bytes = model.SerializeToString(deterministic=True)
    _compare(trees, exported, sample)
    return exported


class _Node(NamedTuple):
    """One node of ONNX's trees. `yes` and `no` are places in its tree, `value` is a leaf's."""

    mode: str
    feature: int = 0
    threshold: float = 0.0
    yes: int = 0
    no: int = 0
    missing_is_yes: bool = False
    value: float = 0.0


def _grow(tree: list[_Node], branch: dict[str, Any], vocabularies: Vocabularies) -> int:
    """Add what hangs under `branch` of LightGBM's own description, children first; return where it begins."""
    if "split_feature" not in branch:
        return _add(tree, _Node("LEAF", value=float(branch["leaf_value"])))
    left, right = (_grow(tree, branch[side], vocabularies) for side in ("left_child", "right_child"))
    feature: int = branch["split_feature"]
    codes = vocabularies[feature]
    if codes is None:
        threshold, missing_left = _number(branch)
        return _add(tree, _Node("BRANCH_LEQ", feature, threshold, left, right, missing_left))
    assert branch["decision_type"] == "=="
    named = np.sort(codes[[int(place) for place in str(branch["threshold"]).split("||")]])
    return _member(tree, feature, named, left, right)


def _member(tree: list[_Node], feature: int, named: NDArray[np.float64], left: int, right: int) -> int:
    """Add the question whether a code is one of the `named`; return where it begins.

    LightGBM's rule for a category, whatever the split says of missing values: what is not named goes right.
    """
    if named.size > _CHAIN:
        half = named.size // 2
        lower, upper = (_member(tree, feature, part, left, right) for part in (named[:half], named[half:]))
        return _add(tree, _Node("BRANCH_LEQ", feature, float(named[half - 1]), lower, upper))
    # All parts share the two branches, for copies would multiply with every split below. But ONNX Runtime lets
    # nodes share only what follows a yes, so here a no becomes one; the leaf after its own no is never reached.
    never = _add(tree, _Node("LEAF"))
    at = _add(tree, _Node("BRANCH_LEQ", feature, np.inf, right, never, missing_is_yes=True))
    for code in named[::-1]:
        at = _add(tree, _Node("BRANCH_EQ", feature, float(code), left, at))
    return at


def _add(tree: list[_Node], node: _Node) -> int:
    tree.append(node)
    return len(tree) - 1


def _number(branch: dict[str, Any]) -> tuple[float, bool]:
    """Return what a number is compared with (the left has what is not above it), and whether missing goes left."""
    assert branch["decision_type"] == "<="
    threshold = _exact(float(branch["threshold"]))
    match branch["missing_type"]:
        case "NaN":
            return threshold, bool(branch["default_left"])
        case "None":  # no training row missed it, and LightGBM then reads a missing value as 0
            return threshold, threshold >= 0.0
        case other:
            raise ModelError(
                "unsupported_trees",
                f"expected splits whose missing values are NaN or none, but got '{other}'; fit without zero_as_missing",
            )


def _exact(threshold: float) -> float:
    """Return what to compare raw values with, so that they go where LightGBM sends them."""
    if threshold >= _INFINITE:
        return np.inf
    if abs(threshold) <= _ZERO:
        return _ZERO if threshold >= 0.0 else float(np.nextafter(-_ZERO, -np.inf))
    return threshold


def _tables(trees: Trees) -> dict[str, Any]:
    """Return the operator's attributes: a column each of all nodes, and of the leaves among them."""
    nodes: list[tuple[int, int, _Node]] = []  # of which tree, where in it
    for number, described in enumerate(trees.booster.dump_model()["tree_info"]):
        tree: list[_Node] = []
        last = _grow(tree, described["tree_structure"], trees.vocabularies)
        # ONNX wants the root first.
        nodes += [
            (number, at, node._replace(yes=last - node.yes, no=last - node.no)) for at, node in enumerate(tree[::-1])
        ]
    leaves = [one for one in nodes if one[2].mode == "LEAF"]
    return {
        "nodes_treeids": [number for number, _, _ in nodes],
        "nodes_nodeids": [at for _, at, _ in nodes],
        "nodes_featureids": [node.feature for _, _, node in nodes],
        "nodes_modes": [node.mode for _, _, node in nodes],
        "nodes_values_as_tensor": _doubles([node.threshold for _, _, node in nodes]),
        "nodes_truenodeids": [node.yes for _, _, node in nodes],
        "nodes_falsenodeids": [node.no for _, _, node in nodes],
        "nodes_missing_value_tracks_true": [int(node.missing_is_yes) for _, _, node in nodes],
        "target_treeids": [number for number, _, _ in leaves],
        "target_nodeids": [at for _, at, _ in leaves],
        "target_ids": [0] * len(leaves),
        "target_weights_as_tensor": _doubles([node.value for _, _, node in leaves]),
    }


def _model(trees: Trees) -> onnx.ModelProto:
    node = helper.make_node(
        "TreeEnsembleRegressor", ["features"], ["logits"], domain=_TREES_DOMAIN, n_targets=1, **_tables(trees)
    )
    width = len(trees.vocabularies)
    graph = helper.make_graph(
        [node],
        "trees",
        [helper.make_tensor_value_info("features", TensorProto.DOUBLE, ["batch", width])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 1])],
    )
    versions = [helper.make_opsetid("", OPSET), helper.make_opsetid(_TREES_DOMAIN, _TREES_OPSET)]
    return helper.make_model(graph, opset_imports=versions, ir_version=_IR_VERSION, producer_name="tollgate")


def _doubles(values: list[float]) -> TensorProto:
    return helper.make_tensor("values", TensorProto.DOUBLE, [len(values)], values)


def _compare(trees: Trees, model: bytes, sample: NDArray[np.float64]) -> None:
    width = len(trees.vocabularies)
    unknown = np.array([[0.0 if codes is None else codes.max(initial=0.0) + 1.0 for codes in trees.vocabularies]])
    edges = np.repeat([[np.nan], [0.0], [np.inf], [-np.inf]], width, axis=1)
    rows = np.concatenate((sample, edges, unknown))
    expected = trees.logits(rows)
    found = OnnxRuntime(model).logits(rows).reshape(expected.shape)
    worst = float((np.abs(found - expected) / np.maximum(1.0, np.abs(expected))).max())
    if not worst <= TOLERANCE:
        raise ModelError(
            "export_disagrees",
            f"expected the exported trees' logits within {TOLERANCE} of LightGBM's, but they differ by {worst:.2e}",
        )
