"""Where in a sorted row a value lies: a binary search that PyTorch unrolls, and that serving does as trees.

Unrolled, each halving gathers one value for each feature, and gathering is what ONNX Runtime does slowest: for forty
features it cost more than the network behind it. As one tree a feature it costs a sixth of that, on the CPU; a GPU
runs the unrolled search.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from torch import Tensor

PLACEHOLDER = "tollgate"  # the domain of the node that `as_trees` replaces
TREES = "ai.onnx.ml"
TREES_VERSION = 3  # the first with trees over float64

Floats = NDArray[np.float64]


def locate(values: Tensor, table: Tensor, width: int, *, trees: bool = False) -> Tensor:
    """Return, int64 (B, D), where in the flattened `table` the last entry of its row <= value is, or the row's first.

    Args:
        values: float64 (B, D); no NaN.
        table: float64 (D, width), rows rising, padded with infinity.
        width: A power of two.
        trees: In an export to ONNX leave a node for `as_trees`.
    """
    begin = width * torch.arange(table.shape[0], device=table.device)
    if trees and torch.onnx.is_in_onnx_export():
        found: Tensor = _Locate.apply(values, table)  # type: ignore[no-untyped-call]
        return found.long() + begin
    flat = table.flatten()
    at = begin.expand_as(values)  # (B, D)
    step = width // 2
    while step:
        ahead = at + step
        at = torch.where(values >= flat[ahead], ahead, at)
        step //= 2
    return at


class _Locate(torch.autograd.Function):
    """The place within the row, as float32: exact, for rows are short."""

    @staticmethod
    def forward(_ctx: Any, values: Tensor, table: Tensor) -> Tensor:
        place = torch.searchsorted(table, values.T.contiguous(), right=True).T - 1
        return place.clamp(min=0).float()

    @staticmethod
    def symbolic(graph: Any, values: Any, table: Any) -> Any:
        place = graph.op(f"{PLACEHOLDER}::Locate", values, table)
        place.setType(values.type().with_dtype(torch.float32))  # else the shapes after it are not known
        return place


def as_trees(model: onnx.ModelProto) -> None:
    """Replace the nodes that `locate` left in an exported model by ensembles of trees: tree d reads feature d."""
    tables = {one.name: one for one in model.graph.initializer}
    replaced = False
    for place, node in enumerate(model.graph.node):
        if node.domain == PLACEHOLDER:
            values, table = node.input
            trees = _ensemble(numpy_helper.to_array(tables[table]))
            model.graph.node[place].CopyFrom(
                helper.make_node("TreeEnsembleRegressor", [values], node.output, node.name, domain=TREES, **trees)
            )
            replaced = True
    kept = [one for one in model.opset_import if one.domain != PLACEHOLDER]
    del model.opset_import[:]
    model.opset_import.extend([*kept, *([helper.make_opsetid(TREES, TREES_VERSION)] if replaced else [])])


def _ensemble(table: Floats) -> dict[str, Any]:
    """Return the attributes of the trees over the rows of a table, float64 (D, width)."""
    nodes = [(tree, *node) for tree, row in enumerate(table) for node in _nodes(row[np.isfinite(row)])]
    leaves = [(tree, number, place) for tree, number, _, children, place in nodes if children is None]
    return {
        "n_targets": len(table),
        "nodes_treeids": [tree for tree, *_ in nodes],
        "nodes_nodeids": [number for _, number, *_ in nodes],
        "nodes_featureids": [tree for tree, *_ in nodes],
        "nodes_modes": ["LEAF" if children is None else "BRANCH_GTE" for _, _, _, children, _ in nodes],
        "nodes_values_as_tensor": _doubles([limit for _, _, limit, _, _ in nodes]),
        "nodes_falsenodeids": [0 if children is None else children[0] for _, _, _, children, _ in nodes],
        "nodes_truenodeids": [0 if children is None else children[1] for _, _, _, children, _ in nodes],
        "target_treeids": [tree for tree, _, _ in leaves],
        "target_nodeids": [number for _, number, _ in leaves],
        "target_ids": [tree for tree, _, _ in leaves],
        "target_weights_as_tensor": _doubles([float(place) for _, _, place in leaves]),
    }


def _doubles(numbers: list[float]) -> onnx.TensorProto:
    return numpy_helper.from_array(np.array(numbers, dtype=np.float64))


def _nodes(row: Floats) -> Iterator[tuple[int, float, tuple[int, int] | None, int]]:
    """Yield the nodes of a balanced search tree over a row, the root first.

    Yields:
        Number, limit at or above which the second child is next, children (None: a leaf), and a leaf's place.
    """
    waiting = [(0, 0, max(len(row), 1))]
    last = 0
    while waiting:
        number, first, end = waiting.pop()
        if end - first == 1:
            yield number, 0.0, None, first
            continue
        middle = (first + end) // 2
        children = (last + 1, last + 2)
        last += 2
        yield number, float(row[middle]), children, 0
        waiting += [(children[0], first, middle), (children[1], middle, end)]
