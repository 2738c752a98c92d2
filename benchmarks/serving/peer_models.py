"""The models of the peers: as large as Tollgate's `mlp`, and the LightGBM that people run; weights do not matter."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import lightgbm
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

FEATURES = 40
LAYERS = (FEATURES, 128, 64, 1)
TREES, LEAVES = 500, 31
NETWORK, FOREST = "mlp.onnx", "trees.txt"
_ROWS = 20_000
_OPSET, _IR = 17, 9  # that every peer's runtime reads
_SEED = 7


def write_models(folder: Path) -> None:
    """Write `mlp.onnx` (40-128-64-1, input float32 (N, 40), output float32 (N, 1)) and `trees.txt` (500 x 31)."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(_SEED)
    onnx.save(_network(rng), folder / NETWORK)
    features = rng.normal(size=(_ROWS, FEATURES))
    odds = features @ rng.normal(size=FEATURES) + np.sin(3 * features[:, 0]) * features[:, 1]
    fraud = rng.random(_ROWS) < 1 / (1 + np.exp(-odds))
    settings = {"objective": "binary", "num_leaves": LEAVES, "num_threads": 1, "seed": _SEED, "verbose": -1}
    lightgbm.train(settings, lightgbm.Dataset(features, fraud), TREES).save_model(folder / FOREST)


def _network(rng: np.random.Generator) -> onnx.ModelProto:
    nodes, weights = [], []
    value = "features"
    for place, (wide, narrow) in enumerate(pairwise(LAYERS)):
        weight = (rng.normal(size=(wide, narrow)) / np.sqrt(wide)).astype(np.float32)
        weights += [
            numpy_helper.from_array(weight, f"w{place}"),
            numpy_helper.from_array(np.zeros(narrow, dtype=np.float32), f"b{place}"),
        ]
        nodes.append(helper.make_node("Gemm", [value, f"w{place}", f"b{place}"], [f"g{place}"]))
        value = "score" if narrow == 1 else f"a{place}"
        nodes.append(helper.make_node("Sigmoid" if narrow == 1 else "Relu", [f"g{place}"], [value]))
    graph = helper.make_graph(
        nodes,
        "mlp",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["N", FEATURES])],
        [helper.make_tensor_value_info("score", TensorProto.FLOAT, ["N", 1])],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=_IR)
    onnx.checker.check_model(model)
    return model
