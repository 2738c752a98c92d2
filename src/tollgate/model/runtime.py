"""Running a model when serving: ONNX Runtime, without PyTorch."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from tollgate.errors import ModelError

CPU = ("CPUExecutionProvider",)
MAX_RUN_ROWS = 512  # in one call of the model; more are cut, so that what is between its layers stays in the caches

_ERROR_LEVEL = 3  # of ONNX Runtime's own log: what matters comes as an exception
_WARM_UP_ROWS = (1, 8, 64)  # batches of the sizes that live traffic makes


class Runtime(Protocol):
    """Something that scores features."""

    def logits(self, features: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the logits of fraud of K members, float64 (N, K), of raw features, float64 (N, F).

        Raises:
            ModelError: There is no score; never a value that only looks like one.
        """
        ...


class OnnxRuntime:
    """A model in ONNX, as `export` writes it: input float64 (B, F), output float32 (B, K)."""

    def __init__(self, model: Path | bytes, providers: tuple[str, ...] = CPU, threads: int = 1) -> None:
        """Load a model.

        Args:
            model: The file, or what is in it.
            providers: ONNX Runtime's execution providers, the preferred one first.
            threads: That one call may use. A small batch is fastest on one.

        Raises:
            ModelError: A provider is not there, or this is not such a model.
        """
        absent = [name for name in providers if name not in onnxruntime.get_available_providers()]
        if absent:
            raise ModelError(
                "no_provider",
                f"expected ONNX Runtime providers out of {onnxruntime.get_available_providers()}, but got {absent}; "
                "install the build of onnxruntime that has them",
            )
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = _ERROR_LEVEL
        source = model if isinstance(model, bytes) else str(model)
        try:
            self._session = onnxruntime.InferenceSession(source, options, providers=list(providers))
        except Exception as error:  # its errors have no common class but this one
            raise ModelError("bad_model", f"expected a model in ONNX, but could not load it: {error}") from error
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        if (
            len(inputs) != 1
            or len(outputs) != 1
            or inputs[0].type != "tensor(double)"
            or len(inputs[0].shape) != 2
            or not isinstance(inputs[0].shape[1], int)
            or len(outputs[0].shape) != 2
            or not isinstance(outputs[0].shape[1], int)
        ):
            found = [(one.name, one.type, one.shape) for one in (*inputs, *outputs)]
            raise ModelError("bad_model", f"expected one input double (B, F) and one output (B, K), but got {found}")
        self._input: str = inputs[0].name
        self.width: int = inputs[0].shape[1]
        self.members: int = outputs[0].shape[1]

    def logits(self, features: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the logits of fraud of K members, float64 (N, K), of raw features, float64 (N, F).

        Raises:
            ModelError: The features are not as many as the model wants, it failed, or a logit is not finite.
        """
        if features.ndim != 2 or features.shape[1] != self.width:
            raise ModelError("bad_features", f"expected features (N, {self.width}), but got {features.shape}")
        parts = [self._run(features[at : at + MAX_RUN_ROWS]) for at in range(0, len(features), MAX_RUN_ROWS)]
        logits = np.concatenate(parts).astype(np.float64) if parts else np.empty((0, self.members))
        if not np.isfinite(logits).all():
            bad = int(np.count_nonzero(~np.isfinite(logits).all(axis=1)))
            raise ModelError("bad_score", f"the model gave no finite score for {bad} of {len(logits)} transactions")
        return logits

    def warm_up(self) -> None:
        """Run batches without meaning, so that the first transaction does not wait for memory to be reserved.

        Raises:
            ModelError: The model does not run.
        """
        for rows in _WARM_UP_ROWS:
            self.logits(np.zeros((rows, self.width)))

    def _run(self, features: NDArray[np.float64]) -> NDArray[np.float32]:
        try:
            (logits,) = self._session.run(None, {self._input: np.ascontiguousarray(features)})
        except Exception as error:  # its errors have no common class but this one
            raise ModelError(
                "model_failed", f"the model could not score {len(features)} transactions: {error}"
            ) from error
        found: NDArray[np.float32] = logits
        return found
