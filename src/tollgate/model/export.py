"""A trained network as an ONNX graph, refused if it does not agree with what was trained."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import nn

from tollgate.errors import ModelError
from tollgate.model.runtime import INPUT, OUTPUT, OnnxRuntime

MAX_DIFFERENCE = 1e-3  # of a logit, between PyTorch and ONNX Runtime: both compute in float32
OPSET = 17


def export_onnx(network: nn.Module, path: Path, sample: NDArray[np.float64]) -> float:
    """Write the network as ONNX FP32 and return the largest difference of a logit on `sample`.

    Args:
        network: From raw features, float64 (B, F), to logits (B,); on the CPU, in evaluation mode.
        path: Where to write.
        sample: Raw features, float64 (N, F), to compare on.

    Raises:
        ModelError: The exported model does not give the same logits.
    """
    rows = torch.from_numpy(sample)
    with warnings.catch_warnings():
        # The tracing exporter is what the plain operators of these networks need; the newer one brings
        # another dependency and the same graph.
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        warnings.filterwarnings("ignore", category=torch.jit.TracerWarning)
        torch.onnx.export(
            network,
            (rows[:2],),
            str(path),
            input_names=[INPUT],
            output_names=[OUTPUT],
            dynamic_axes={INPUT: {0: "rows"}, OUTPUT: {0: "rows"}},
            opset_version=OPSET,
            dynamo=False,
        )
    onnx.checker.check_model(str(path), full_check=True)
    with torch.inference_mode():
        want = network(rows).double().numpy()
    difference = float(np.abs(OnnxRuntime(path).logits(sample) - want).max(initial=0.0))
    if difference > MAX_DIFFERENCE:
        raise ModelError(
            "export_disagrees",
            f"expected the exported model to agree within {MAX_DIFFERENCE} of a logit; it is {difference:.3g} off",
        )
    return difference
