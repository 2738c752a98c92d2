"""Runs an exported model. No PyTorch here: a serving image has none."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from tollgate.errors import ModelError

INPUT, OUTPUT = "features", "logits"
CPU = ("CPUExecutionProvider",)

_WARM_UP_RUNS = 3
_ERRORS_ONLY = 3  # severity of what ONNX Runtime may log


class Runtime(Protocol):
    """Whatever turns features into logits."""

    def logits(self, features: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the logit of fraud, float64 (N,), of raw features, float64 (N, F)."""
        ...


class OnnxRuntime:
    """A model in ONNX Runtime."""

    def __init__(self, path: Path, providers: Sequence[str] = CPU, threads: int = 1) -> None:
        """Load the model.

        Args:
            path: The `.onnx` file.
            providers: Execution providers, the first that works is used.
            threads: Threads of one call; one is fastest for the small batches of serving.

        Raises:
            ModelError: It cannot be loaded, or is not a model of features.
        """
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = _ERRORS_ONLY
        try:
            self._session = onnxruntime.InferenceSession(str(path), options, providers=list(providers))
        except Exception as error:  # ONNX Runtime raises classes of its own, which share no base of ours
            raise ModelError("bad_model", f"could not load {path}: {error}") from error
        inputs = self._session.get_inputs()
        if [one.name for one in inputs] != [INPUT]:
            raise ModelError("bad_model", f"expected a model with one input '{INPUT}' in {path}")
        self._width = int(inputs[0].shape[1])

    def logits(self, features: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the logit of fraud, float64 (N,), of raw features, float64 (N, F).

        Raises:
            ModelError: The model failed.
        """
        try:
            (logits,) = self._session.run((OUTPUT,), {INPUT: features})
        except Exception as error:
            raise ModelError("model_failed", f"the model failed on {features.shape}: {error}") from error
        result: NDArray[np.float64] = logits.astype(np.float64)
        if not np.isfinite(result).all():
            raise ModelError("model_failed", "the model gave a logit that is not finite")
        return result

    def warm_up(self) -> None:
        """Run the model a few times, so that the first transaction is as fast as the next."""
        for _ in range(_WARM_UP_RUNS):
            self.logits(np.full((1, self._width), np.nan))
