"""A network as ONNX, to serve it without PyTorch; refused where it does not give the network's own scores."""

from __future__ import annotations

import tempfile
import warnings
from pathlib import Path

import numpy as np
import onnx
import torch
from numpy.typing import NDArray

from tollgate.errors import ModelError
from tollgate.model.network import Network
from tollgate.model.runtime import OnnxRuntime
from tollgate.model.search import PLACEHOLDER, as_trees

OPSET = 17  # every ONNX Runtime since 1.13 reads it
TOLERANCE = 1e-4  # of a logit, and relative to it above 1: far below what moves a decision

# What the exporter says of itself, and of itself calling itself. The one that replaces it needs the package
# onnxscript, and gives the same graph for networks such as these.
_LEGACY_EXPORTER = (
    "You are using the legacy TorchScript-based ONNX export",
    "The feature will be removed. Please remove usage of this function",
)


def export_onnx(network: Network, sample: NDArray[np.float64], *, trees: bool = True) -> bytes:
    """Return `network` as an ONNX model: input `features` double (B, F), output `logits` float (B, K), any B.

    Args:
        network: On the CPU, not training.
        sample: Raw features, float64 (N, F), N > 0, to compare scores on. Rows in which all is missing, zero or
            infinite are compared too.
        trees: For a CPU, where values are looked up as trees several times faster; a GPU has no such operator.

    Raises:
        ModelError: The graph is not valid, or ONNX Runtime gives other logits than PyTorch.
    """
    assert not network.training
    network.preprocess.trees = trees
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        file = Path(folder) / "model.onnx"
        for message in _LEGACY_EXPORTER:
            warnings.filterwarnings("ignore", message, DeprecationWarning)
        torch.onnx.export(
            network,
            (torch.from_numpy(sample[:1]),),
            file,
            input_names=["features"],
            output_names=["logits"],
            dynamic_axes={"features": {0: "batch"}, "logits": {0: "batch"}},
            opset_version=OPSET,
            dynamo=False,
            custom_opsets={PLACEHOLDER: 1} if trees else None,
        )
        graph = onnx.load_model(file)
    as_trees(graph)
    try:
        onnx.checker.check_model(graph, full_check=True)
    except onnx.checker.ValidationError as error:
        raise ModelError("bad_export", f"the exported graph is not valid ONNX: {error}") from error
    model: bytes = graph.SerializeToString(deterministic=True)
    _compare(network, model, sample)
    return model


def _compare(network: Network, model: bytes, sample: NDArray[np.float64]) -> None:
    width = sample.shape[1]
    edges = np.repeat([[np.nan], [0.0], [np.inf], [-np.inf]], width, axis=1)
    rows = np.concatenate((sample, edges))
    with torch.inference_mode():
        expected = network(torch.from_numpy(rows)).double().numpy()
    difference = np.abs(OnnxRuntime(model).logits(rows) - expected) / np.maximum(1.0, np.abs(expected))
    worst = float(difference.max())
    if not worst <= TOLERANCE:
        raise ModelError(
            "export_disagrees",
            f"expected the exported model's logits within {TOLERANCE} of PyTorch's, but they differ by {worst:.2e}",
        )
