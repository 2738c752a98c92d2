"""From labelled features to a fitted, calibrated network.

The older part of the training rows is fitted, the newest, the validation part, says which epoch was best and
calibrates. Then the network is fitted again with those rows, for what is newest in fraud matters most.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray

from tollgate.config import TrainConfig
from tollgate.dataset import Dataset
from tollgate.errors import ModelError
from tollgate.model.calibration import Calibration, fit_calibration
from tollgate.model.network import Network
from tollgate.model.prediction import confidence, pool
from tollgate.model.preprocess import Preprocess, fit_tables
from tollgate.spool import Spool
from tollgate.train.checkpoint import Checkpoint
from tollgate.train.descent import Course, Epoch, Rows, best_epoch, descend
from tollgate.train.workers import ALONE, Workers

INCREMENTAL_RATE = 0.25  # of the learning rate, where a fitted network is trained on
INCREMENTAL_EPOCHS = 4  # at the most, then

_CHUNK_ROWS = 16_384  # preprocessed or scored at once: bounds the memory
_GIGABYTE = 2**30


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
        members = self.members(features)
        return confidence(members, self.calibration.apply(pool(members)), self.calibration)


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What a training is done with and told to, apart from what it computes.

    Attributes:
        on_epoch: Told of each epoch as it ends; those of the second fit have no validation AP.
        start: A fitted network to train on, in small steps and with the tables that it has.
        checkpoint: A file to keep the state in, so that a killed training goes on where it was.
        workers: The processes that train together.
        folder: For rows that do not fit the memory.
    """

    on_epoch: Callable[[Epoch], None] | None = None
    start: Network | None = None
    checkpoint: Path | None = None
    workers: Workers = ALONE
    folder: Path | None = None


@dataclass(slots=True)
class _Fit:
    """One call of `fit`."""

    parts: tuple[Dataset, Dataset]
    config: TrainConfig
    given: Circumstances
    device: torch.device
    key: str = field(default="")

    def network(self) -> Network:
        """Return the network to begin with, the same each time."""
        if self.given.start is not None:
            return copy.deepcopy(self.given.start)
        torch.manual_seed(self.config.seed)
        train = self.parts[0]
        preprocess = Preprocess(fit_tables(train.features, train.categorical)).eval()
        return Network(preprocess, self.config, train.back)

    def descend(
        self, network: Network, parts: tuple[Dataset, ...], validation: Dataset | None, epochs: int, stage: str
    ) -> list[Epoch]:
        """Fit a network on some parts."""
        given = self.given
        saved = None if given.checkpoint is None else given.checkpoint.with_suffix(f".{stage}.pt")
        course = Course(
            epochs=epochs,
            on_epoch=given.on_epoch,
            checkpoint=None if saved is None else Checkpoint(saved, f"{self.key} {stage}"),
            workers=given.workers,
            device=self.device,
        )
        fitted = self._rows(network.preprocess, parts)
        checked = None if validation is None else self._rows(network.preprocess, (validation,))
        run, prior = descend(network.body.to(self.device), fitted, checked, self.config, course)
        network.to("cpu").eval()
        network.prior.fill_(prior)
        return run

    def _rows(self, preprocess: Preprocess, parts: tuple[Dataset, ...]) -> Rows:
        """Preprocess all rows once: the tables do not learn, so every epoch would compute the same."""
        limit = int(self.config.memory_gb * _GIGABYTE)
        spools: list[Spool] = []
        for part in parts:
            for chunk in _chunks(part.features):
                with torch.inference_mode():
                    made = preprocess(chunk)
                if not spools:
                    kinds: tuple[type[np.generic], ...] = (np.float32, np.int64)
                    spools = [
                        Spool(one.shape[1], kind, limit, self.given.folder)
                        for one, kind in zip(made, kinds, strict=True)
                    ]
                for spool, one in zip(spools, made, strict=True):
                    spool.append(one.numpy())
        numbers, places = (_tensor(spool.rows(), self.device) for spool in spools)
        labels = torch.from_numpy(np.concatenate([part.is_fraud for part in parts])).float()
        return Rows(numbers, places, labels.to(numbers.device))


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
        work = _Fit((train, validation), config, given, device)
        work.key = _key(work) if given.checkpoint else ""
        network = work.network()
        run = work.descend(network, (train,), validation, epochs, "fit")
        pooled = pool(score(network, validation.features))
        calibration = fit_calibration(pooled, validation.is_fraud)
        best = best_epoch(run)
        if config.refit:
            network = work.network()
            work.descend(network, (train, validation), None, best, "refit")
    if given.checkpoint:
        given.workers.agree(0.0)  # all have read what they go on from
    if given.checkpoint and given.workers.leads:
        for stage in ("fit", "refit"):
            given.checkpoint.with_suffix(f".{stage}.pt").unlink(missing_ok=True)
    checked = calibration.apply(pooled)
    return Trained(network, calibration, tuple(run), best, checked, (*warnings, *calibration.warnings))


def score(network: Network, features: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the logits of the members, float64 (N, K), of raw features, float64 (N, F)."""
    with torch.inference_mode():
        return np.concatenate([network(chunk).double().numpy() for chunk in _chunks(features)])


def inspect(train: Dataset, validation: Dataset) -> list[str]:
    """Return warnings about the training rows, as sentences.

    Raises:
        ModelError: Nothing can be learned from them.
    """
    for name, part in (("training", train), ("validation", validation)):
        if part.frauds in (0, len(part)):
            raise ModelError(
                "one_class",
                f"expected fraud and good payments in the {name} rows, but {part.frauds} of {len(part)} are fraud",
            )
    columns = zip(train.names, train.features.T, strict=True)
    useless = [(name, what) for name, column in columns if (what := _flat(column))]
    if len(useless) == len(train.names):
        raise ModelError(
            "nothing_to_learn",
            f"expected features that vary, but all {len(train.names)} are missing or constant on the training rows",
        )
    return [f"feature '{name}' {what} on all training rows; the model ignores it" for name, what in useless]


def _flat(column: NDArray[np.float64]) -> str | None:
    """Return what is wrong with a feature that never varies."""
    missing = np.isnan(column)
    if missing.all():
        return "is missing"
    return "is the same" if not missing.any() and (column == column[0]).all() else None


def _key(work: _Fit) -> str:
    """Return what names this training: its data, its configuration and what it starts from."""
    digest = hashlib.sha256(msgspec.json.encode(work.config))
    for part in work.parts:
        digest.update(part.fingerprint().encode())
    if work.given.start is not None:
        for tensor in work.given.start.state_dict().values():
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
