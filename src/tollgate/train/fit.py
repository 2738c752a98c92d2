"""From labelled features to a fitted, calibrated network.

The older part of the training rows is fitted, the newest, the validation part, says which epoch was best and
calibrates. Then the network is fitted again with those rows, for what is newest in fraud matters most.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray

from tollgate.config import TrainConfig
from tollgate.dataset import Dataset
from tollgate.errors import ModelError
from tollgate.inspection import inspect
from tollgate.model.calibration import Calibration, fit_calibration
from tollgate.model.network import Network
from tollgate.model.prediction import judged, pool
from tollgate.model.preprocess import Preprocess, fit_tables
from tollgate.spool import Spool
from tollgate.train.checkpoint import Checkpoint
from tollgate.train.descent import Course, Epoch, Rows, best_epoch, descend
from tollgate.train.workers import ALONE, Workers

INCREMENTAL_RATE = 0.25  # of the learning rate, where a fitted network is trained on
INCREMENTAL_EPOCHS = 4  # at the most, then

_CHUNK_ROWS = 16_384  # preprocessed or scored at once: bounds the memory
_STAGES = ("fit", "refit")


@dataclass(frozen=True, slots=True)
class Trained:
    """A fitted network (on the CPU, ready to score), its calibration and how it came about.

    Attributes:
        network: From raw features to the logits of its members.
        calibration: From pooled logits to probabilities.
        epochs: Every epoch that was run before the validation rows were fitted too, in order.
        best: Number of the epoch whose weights were best.
        checked: Calibrated probabilities of the validation rows, float64 (V,), by the network that did not see them.
        warnings: What a reader of the report should know, as sentences.
    """

    network: Network
    calibration: Calibration
    epochs: tuple[Epoch, ...]
    best: int
    checked: NDArray[np.float64]
    warnings: tuple[str, ...]

    def members(self, features: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the logits of the K members, float64 (N, K), of raw features, float64 (N, F)."""
        return score(self.network, features)

    def scores(self, features: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return calibrated probabilities of fraud, float64 (N,), of raw features, float64 (N, F)."""
        return self.calibration.apply(pool(self.members(features)))

    def confidence(self, features: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return how sure each score is, float64 (N,), from 0 to 1, of raw features, float64 (N, F)."""
        return judged(self.members(features), self.calibration)[1]


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What a training is done with and told to, apart from what it computes.

    Attributes:
        on_epoch: Told of each epoch as it ends; those of the second fit have no validation AP.
        start: A fitted network to train on, in small steps and with the tables that it has.
        checkpoint: A file to keep the state in, so that a killed training goes on where it was.
        workers: The processes that train together.
    """

    on_epoch: Callable[[Epoch], None] | None = None
    start: Network | None = None
    checkpoint: Path | None = None
    workers: Workers = ALONE


@dataclass(frozen=True, slots=True)
class _Fit:
    """One call of `fit`.

    Attributes:
        initial: The network to begin with.
        rows: The training rows, then the validation rows, preprocessed: the tables do not learn, so every epoch of both
            fits would compute the same.
        key: Names the training, where its state is kept.
    """

    config: TrainConfig
    given: Circumstances
    device: torch.device
    initial: Network
    rows: Rows
    key: str

    def descend(self, rows: Rows, validation: Rows | None, epochs: int, stage: str) -> tuple[Network, list[Epoch]]:
        """Return a network fitted on some rows, and how that went."""
        network = copy.deepcopy(self.initial)
        course = Course(
            epochs=epochs,
            on_epoch=self.given.on_epoch,
            checkpoint=None if self.given.checkpoint is None else Checkpoint(self.saved(stage), f"{self.key} {stage}"),
            workers=self.given.workers,
            device=self.device,
        )
        run, prior = descend(network.body.to(self.device), rows, validation, self.config, course)
        network.to("cpu").eval()
        network.prior.fill_(prior)
        return network, run

    def saved(self, stage: str) -> Path:
        """Return where the state of a stage is kept."""
        assert self.given.checkpoint is not None
        return self.given.checkpoint.with_suffix(f".{stage}.pt")

    def forget(self) -> None:
        """Remove what was kept, once no process needs it."""
        if self.given.checkpoint is not None:
            self.given.workers.agree(0.0)  # all have read what they go on from
            if self.given.workers.leads:
                for stage in _STAGES:
                    self.saved(stage).unlink(missing_ok=True)


def _initial(train: Dataset, config: TrainConfig, start: Network | None) -> Network:
    """Return the network to begin with."""
    if start is not None:
        return start
    torch.manual_seed(config.seed)
    return Network(Preprocess(fit_tables(train.features, train.categorical)).eval(), config, train.back)


def _rows(preprocess: Preprocess, parts: tuple[Dataset, ...], max_bytes: int, device: torch.device) -> Rows:
    """Return the rows of all parts, one after the other, as the network's body reads them."""
    numbers = Spool(preprocess.numeric.numel() + preprocess.masked.numel(), np.float32, max_bytes)
    places = Spool(preprocess.categories.numel(), np.int64, max_bytes)
    for chunk in (chunk for part in parts for chunk in _chunks(part.features)):
        with torch.inference_mode():
            for spool, made in zip((numbers, places), preprocess(chunk), strict=True):
                spool.append(made.numpy())
    labels = torch.from_numpy(np.concatenate([part.is_fraud for part in parts])).float()
    read = _tensor(numbers.rows(), device)
    return Rows(read, _tensor(places.rows(), read.device), labels.to(read.device))


def fit(train: Dataset, validation: Dataset, config: TrainConfig, given: Circumstances | None = None) -> Trained:
    """Return a network fitted on `train`, stopped and calibrated on `validation`.

    The same data, configuration and machine give the same weights on the CPU; the caller's random state is left
    as it was. So does a training that was killed and goes on from its checkpoint.

    Args:
        train: The rows to fit.
        validation: Newer rows, to choose the epoch and to calibrate.
        config: Which network, sizes and rates.
        given: What it is done with.

    Raises:
        ModelError: The data cannot be learned from, the training diverged, or the device is not there.
        ConfigError: There is no such network.
    """
    given = given or Circumstances()
    warnings = inspect(train, validation)
    device = _device(config.device, given.workers)
    epochs = config.max_epochs
    if given.start is not None:
        config = msgspec.structs.replace(config, learning_rate=config.learning_rate * INCREMENTAL_RATE)
        epochs = min(epochs, INCREMENTAL_EPOCHS)
    with _alone(config.seed, config.threads, device):
        initial = _initial(train, config, given.start)
        rows = _rows(initial.preprocess, (train, validation), config.memory_bytes, device)
        key = _key((train, validation), config, given.start) if given.checkpoint else ""
        work = _Fit(config, given, device, initial, rows, key)
        cut = len(train)
        network, run = work.descend(rows.part(0, cut), rows.part(cut, cut + len(validation)), epochs, _STAGES[0])
        pooled = pool(score(network, validation.features))
        calibration = fit_calibration(pooled, validation.is_fraud)
        best = best_epoch(run)
        if config.refit:
            network, _ = work.descend(rows, None, best, _STAGES[1])
        work.forget()
    checked = calibration.apply(pooled)
    return Trained(network, calibration, tuple(run), best, checked, (*warnings, *calibration.warnings))


def score(network: Network, features: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the logits of the members, float64 (N, K), of raw features, float64 (N, F)."""
    with torch.inference_mode():
        return np.concatenate([network(chunk).double().numpy() for chunk in _chunks(features)])


def _key(parts: tuple[Dataset, ...], config: TrainConfig, start: Network | None) -> str:
    """Return what names a training: its data, its configuration and what it starts from."""
    digest = hashlib.sha256(msgspec.json.encode(config))
    for part in parts:
        digest.update(part.fingerprint().encode())
    if start is not None:
        for tensor in start.state_dict().values():
            digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()


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


def _device(name: str, workers: Workers) -> torch.device:
    available = torch.cuda.is_available()
    if name == "cuda" and not available:
        raise ModelError("no_device", "expected a CUDA device, but PyTorch finds none; set [train] device = 'auto'")
    return torch.device(f"cuda:{workers.local_rank}" if available and name != "cpu" else "cpu")


def _tensor(rows: NDArray[np.generic], device: torch.device) -> torch.Tensor:
    """Return rows as a tensor: on the device, or where they are if they are in a file."""
    tensor = torch.from_numpy(rows)
    return tensor if isinstance(rows, np.memmap) else tensor.to(device)


def _chunks(features: NDArray[np.float64]) -> Iterator[torch.Tensor]:
    for start in range(0, max(len(features), 1), _CHUNK_ROWS):
        yield torch.from_numpy(features[start : start + _CHUNK_ROWS])
