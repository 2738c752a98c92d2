"""From labelled features to a fitted, calibrated network.

Plain cross-entropy at the true prevalence, early stopping on the validation part's average precision, then a
calibration on the same part.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from tollgate import metrics
from tollgate.config import TrainConfig
from tollgate.dataset import Dataset
from tollgate.errors import ModelError
from tollgate.model.calibration import Calibration, fit_calibration
from tollgate.model.network import MLP, Network
from tollgate.model.preprocess import Preprocess, fit_tables

_CHUNK_ROWS = 16_384  # preprocessed or scored at once: bounds the memory


@dataclass(frozen=True, slots=True)
class Epoch:
    """One pass over the training rows.

    Attributes:
        number: From 1.
        train_loss: Mean cross-entropy over the training rows, with dropout, in nats.
        validation_loss: The same over the validation rows, without dropout.
        validation_ap: Average precision over the validation rows.
        is_best: Whether no epoch before reached this average precision.
    """

    number: int
    train_loss: float
    validation_loss: float
    validation_ap: float
    is_best: bool


@dataclass(frozen=True, slots=True)
class Trained:
    """A fitted network (on the CPU, ready to score), its calibration and how it came about.

    Attributes:
        network: From raw features to logits.
        calibration: From logits to probabilities.
        epochs: Every epoch that was run, in order.
        best: Number of the epoch whose weights were kept.
        warnings: What a reader of the report should know, as sentences.
    """

    network: Network
    calibration: Calibration
    epochs: tuple[Epoch, ...]
    best: int
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Tensors:
    """Preprocessed rows: numbers float32 (N, W), places of categories int64 (N, C), labels float32 (N,)."""

    numbers: Tensor
    places: Tensor
    labels: Tensor


def fit(
    train: Dataset,
    validation: Dataset,
    config: TrainConfig,
    on_epoch: Callable[[Epoch], None] | None = None,
) -> Trained:
    """Return a network fitted on `train`, stopped and calibrated on `validation`.

    The same data, configuration and machine give the same weights on the CPU; the caller's random state is left
    as it was.

    Args:
        train: The rows to fit.
        validation: Newer rows, to choose the epoch and to calibrate.
        config: Sizes and rates.
        on_epoch: Told of each epoch as it ends.

    Raises:
        ModelError: The data cannot be learned from, the training diverged, or the device is not there.
    """
    warnings = _inspect(train, validation)
    device = _device(config.device)
    with _alone(config.seed, config.threads, device):
        preprocess = Preprocess(fit_tables(train.features, train.categorical)).eval()
        network = Network(preprocess, config.hidden, config.dropout)
        with torch.no_grad():
            prevalence = train.frauds / len(train)
            network.mlp.head.bias.fill_(float(np.log(prevalence / (1 - prevalence))))
        fitted, checked = (_prepare(preprocess, part, device) for part in (train, validation))
        epochs, best = _descend(network.mlp.to(device), fitted, checked, validation.is_fraud, config, on_epoch)
    network.to("cpu").eval()
    calibration = fit_calibration(score(network, validation.features), validation.is_fraud)
    return Trained(network, calibration, tuple(epochs), best, (*warnings, *calibration.warnings))


def score(network: Network, features: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the logits, float64 (N,), of raw features, float64 (N, F)."""
    with torch.inference_mode():
        parts = [network(chunk).double().numpy() for chunk in _chunks(features)]
    return np.concatenate(parts) if parts else np.empty(0)


def _inspect(train: Dataset, validation: Dataset) -> list[str]:
    """Return warnings about the training rows; refuse what cannot be learned from."""
    for name, part in (("training", train), ("validation", validation)):
        if part.frauds in (0, len(part)):
            raise ModelError(
                "one_class",
                f"expected fraud and good payments in the {name} rows, but {part.frauds} of {len(part)} are fraud",
            )
    missing = np.isnan(train.features)
    empty = missing.all(axis=0)
    filled = np.where(missing, np.nanmin(np.where(empty, 0.0, train.features), axis=0), train.features)
    constant = (filled == filled[0]).all(axis=0) & ~missing.any(axis=0)
    if (empty | constant).all():
        raise ModelError(
            "nothing_to_learn",
            f"expected features that vary, but all {len(train.names)} are missing or constant on the training rows",
        )
    return [
        f"feature '{name}' {what} on all training rows; the model ignores it"
        for column, what in ((empty, "is missing"), (constant, "is the same"))
        for name in np.array(train.names, dtype=object)[column]
    ]


@contextmanager
def _alone(seed: int, threads: int, device: torch.device) -> Iterator[None]:
    """Seed PyTorch and set its threads, both of which belong to the process, and put them back afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed(seed)
            yield
    finally:
        torch.set_num_threads(before)


def _device(name: str) -> torch.device:
    available = torch.cuda.is_available()
    if name == "cuda" and not available:
        raise ModelError("no_device", "expected a CUDA device, but PyTorch finds none; set [train] device = 'auto'")
    return torch.device("cuda" if available and name != "cpu" else "cpu")


def _prepare(preprocess: Preprocess, part: Dataset, device: torch.device) -> _Tensors:
    """Preprocess all rows once: their tables do not learn, so every epoch would compute the same."""
    with torch.inference_mode():
        chunks = [preprocess(chunk) for chunk in _chunks(part.features)]
    numbers, places = (torch.cat(column).to(device) for column in zip(*chunks, strict=True))
    return _Tensors(numbers, places, torch.from_numpy(part.is_fraud).float().to(device))


def _descend(
    mlp: MLP,
    train: _Tensors,
    validation: _Tensors,
    is_fraud: NDArray[np.bool_],
    config: TrainConfig,
    on_epoch: Callable[[Epoch], None] | None,
) -> tuple[list[Epoch], int]:
    """Run epochs until the validation AP stops rising, and leave `mlp` with the weights of the best."""
    optimizer = torch.optim.AdamW(mlp.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
    scaler = torch.amp.GradScaler(train.labels.device.type, enabled=train.labels.is_cuda)
    epochs: list[Epoch] = []
    best, best_ap, weights = 0, -np.inf, copy.deepcopy(mlp.state_dict())
    for number in range(1, config.max_epochs + 1):
        train_loss = _pass(mlp, train, optimizer, scaler, config.batch_size)
        validation_loss, logits = _validate(mlp, validation)
        if not np.isfinite(train_loss) or not np.isfinite(logits).all():
            raise ModelError("diverged", f"the loss became {train_loss} in epoch {number}; lower [train] learning_rate")
        ap = metrics.average_precision(is_fraud, logits)
        if ap > best_ap:
            best, best_ap, weights = number, ap, copy.deepcopy(mlp.state_dict())
        epochs.append(Epoch(number, train_loss, validation_loss, ap, best == number))
        if on_epoch is not None:
            on_epoch(epochs[-1])
        if number - best >= config.patience:
            break
    mlp.load_state_dict(weights)
    return epochs, best


def _pass(
    mlp: MLP, data: _Tensors, optimizer: torch.optim.Optimizer, scaler: torch.amp.GradScaler, batch_size: int
) -> float:
    mlp.train()
    total = torch.zeros((), device=data.labels.device)
    # Drawn on the CPU, so that the order does not depend on the device.
    order = torch.randperm(data.labels.numel()).to(data.labels.device)
    for rows in _batches(order, batch_size):
        optimizer.zero_grad()
        loss = _loss(mlp, data, rows)[0]
        scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        scaler.step(optimizer)
        scaler.update()
        total += loss.detach() * rows.numel()  # read once at the end: a read waits for the device
    return float(total) / data.labels.numel()


def _validate(mlp: MLP, data: _Tensors) -> tuple[float, NDArray[np.float64]]:
    mlp.eval()
    total, logits = 0.0, []
    with torch.inference_mode():
        for rows in _batches(torch.arange(data.labels.numel(), device=data.labels.device), _CHUNK_ROWS):
            loss, found = _loss(mlp, data, rows)
            total += float(loss) * rows.numel()
            logits.append(found.double().cpu().numpy())
    return total / data.labels.numel(), np.concatenate(logits)


def _loss(mlp: MLP, data: _Tensors, rows: Tensor) -> tuple[Tensor, Tensor]:
    with torch.autocast(data.labels.device.type, dtype=torch.float16, enabled=data.labels.is_cuda):
        logits = mlp(data.numbers[rows], data.places[rows])
    logits = logits.float()  # the loss overflows in half precision
    return binary_cross_entropy_with_logits(logits, data.labels[rows]), logits


def _batches(order: Tensor, size: int) -> Iterator[Tensor]:
    for start in range(0, order.numel(), size):
        yield order[start : start + size]


def _chunks(features: NDArray[np.float64]) -> Iterator[Tensor]:
    for start in range(0, len(features), _CHUNK_ROWS):
        yield torch.from_numpy(features[start : start + _CHUNK_ROWS])
