"""Epochs of gradient descent on preprocessed rows: AdamW along a cosine, half precision on a GPU, resumable."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tollgate import metrics
from tollgate.config import TrainConfig
from tollgate.errors import ModelError
from tollgate.model.prediction import pool
from tollgate.train.checkpoint import Checkpoint
from tollgate.train.imbalance import Balance, balance
from tollgate.train.workers import ALONE, Workers

_CHECKED_ROWS = 8192  # validated at once: bounds the memory
_WARM_UP_SHARE = 0.05  # of the steps, in which the learning rate rises


@dataclass(frozen=True, slots=True)
class Epoch:
    """One pass over the training rows.

    Attributes:
        number: From 1.
        train_loss: Mean loss over the rows that the epoch showed, with dropout, in nats.
        validation_loss: Cross-entropy over the validation rows, without dropout, in nats; NaN without such rows.
        validation_ap: Average precision over the validation rows; NaN without such rows.
        is_best: Whether no epoch before reached this average precision.
    """

    number: int
    train_loss: float
    validation_loss: float
    validation_ap: float
    is_best: bool


@dataclass(frozen=True, slots=True)
class Rows:
    """Preprocessed rows, on the device or, if they are too many, in memory or in a file.

    Attributes:
        numbers: float32 (N, D + M).
        places: int64 (N, C).
        labels: float32 (N,), 1 being fraud.
    """

    numbers: Tensor
    places: Tensor
    labels: Tensor

    def part(self, first: int, end: int) -> Rows:
        """Return neighbouring rows, without copying them."""
        return Rows(self.numbers[first:end], self.places[first:end], self.labels[first:end])

    def take(self, rows: Tensor, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
        """Return numbers, places and labels of some rows, on a device."""
        rows = rows.to(self.numbers.device)
        return self.numbers[rows].to(device), self.places[rows].to(device), self.labels[rows].to(device)


@dataclass(frozen=True, slots=True)
class Course:
    """How far and with whom to descend.

    Attributes:
        epochs: Over which the learning rate falls to 0.
        on_epoch: Told of each epoch as it ends.
        checkpoint: Where the state is kept after each epoch, if it is to be kept.
        workers: The processes that train together.
        device: To compute on.
    """

    epochs: int
    device: torch.device
    on_epoch: Callable[[Epoch], None] | None = None
    checkpoint: Checkpoint | None = None
    workers: Workers = ALONE


class _Descent:
    """The state between two epochs."""

    def __init__(self, body: nn.Module, train: Rows, config: TrainConfig, course: Course) -> None:
        self.body = body
        self.wrapped = course.workers.wrap(body)
        self.train = train
        self.config = config
        self.course = course
        self.balance: Balance = balance(train.labels, config)
        self.optimizer = torch.optim.AdamW(body.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
        self.half = course.device.type == "cuda"
        self.scaler = torch.amp.GradScaler(course.device.type, enabled=self.half)
        self.batches = math.ceil(self.balance.epoch_rows / config.batch_size)
        self.epochs: list[Epoch] = []
        self.best: dict[str, Tensor] = copy.deepcopy(body.state_dict())

    def state(self) -> dict[str, Any]:
        return {
            "body": self.body.state_dict(),
            "best": self.best,
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "epochs": [asdict(epoch) for epoch in self.epochs],
        }

    def resume(self, state: dict[str, Any]) -> None:
        self.body.load_state_dict(state["body"])
        self.best = state["best"]
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        self.epochs = [Epoch(**epoch) for epoch in state["epochs"]]

    def run_epoch(self, number: int) -> float:
        """Take one epoch's steps and return the mean loss; what is random in it follows from seed and number."""
        self.wrapped.train()
        torch.manual_seed(self.config.seed * 1_000_003 + number * 1009 + self.course.workers.rank)
        rows = self.balance.rows(number, self.config.seed)
        total = torch.zeros((), device=self.course.device)
        for place, batch in enumerate(_batches(rows, self.config.batch_size)):
            rate = _rate((number - 1) * self.batches + place, self.course.epochs * self.batches)
            for group in self.optimizer.param_groups:
                group["lr"] = rate * self.config.learning_rate
            loss = self._step(self.course.workers.share(batch))
            total += loss * batch.numel()  # read once at the end: a read waits for the device
        return float(total) / rows.numel()

    def _step(self, rows: Tensor) -> Tensor:
        numbers, places, labels = self.train.take(rows, self.course.device)
        self.optimizer.zero_grad()
        with torch.autocast(self.course.device.type, dtype=torch.float16, enabled=self.half):
            logits = self.wrapped(numbers, places)  # (B, K)
        # The loss overflows in half precision.
        loss = self.balance.loss(logits.float() + self.balance.prior_shown, labels)
        self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        self.scaler.step(self.optimizer)
        self.scaler.update()
        return loss.detach()

    def check(self, rows: Rows) -> tuple[float, float, bool]:
        """Return loss and AP on the validation rows, and whether all logits are finite."""
        self.body.eval()
        logits = []
        with torch.inference_mode():
            for batch in _batches(torch.arange(rows.labels.numel()), _CHECKED_ROWS):
                numbers, places, _ = rows.take(batch, self.course.device)
                logits.append(self.body(numbers, places).double().cpu().numpy() + self.balance.prior)
        pooled = pool(np.concatenate(logits))
        is_fraud = rows.labels.cpu().numpy() > 0
        if not np.isfinite(pooled).all():
            return math.nan, math.nan, False
        loss = float(np.logaddexp(0.0, np.where(is_fraud, -pooled, pooled)).mean())
        return loss, metrics.average_precision(is_fraud, pooled), True


def descend(
    body: nn.Module, train: Rows, validation: Rows | None, config: TrainConfig, course: Course
) -> tuple[list[Epoch], float]:
    """Run epochs, and leave `body` with the weights of the best on the validation rows, or of the last without them.

    Args:
        body: From preprocessed rows to logits (B, K), on the device.
        train: The rows to fit.
        validation: Rows to choose the epoch by.
        config: Rates and sizes.
        course: How far and with whom.

    Returns:
        The epochs, and the log odds of fraud to add to the logits of `body`.

    Raises:
        ModelError: The training diverged.
    """
    descent = _Descent(body, train, config, course)
    saved = course.checkpoint.read() if course.checkpoint else None
    if saved is not None:
        descent.resume(saved)
        for epoch in descent.epochs:
            _tell(course, epoch)
    while len(descent.epochs) < course.epochs and not _is_settled(descent.epochs, config.patience):
        epoch = _advance(descent, validation)
        descent.epochs.append(epoch)
        if course.checkpoint and course.workers.leads:
            course.checkpoint.write(descent.state())
        _tell(course, epoch)
    body.load_state_dict(descent.best)
    return descent.epochs, descent.balance.prior


def best_epoch(epochs: list[Epoch]) -> int:
    """Return the number of the epoch whose weights are kept."""
    return max((epoch.number for epoch in epochs if epoch.is_best), default=0)


def _advance(descent: _Descent, validation: Rows | None) -> Epoch:
    number = len(descent.epochs) + 1
    train_loss = descent.run_epoch(number)
    validation_loss, ap, finite = (math.nan, math.nan, True) if validation is None else descent.check(validation)
    if not math.isfinite(train_loss) or not finite:
        raise ModelError("diverged", f"the loss became {train_loss} in epoch {number}; lower [train] learning_rate")
    ap = descent.course.workers.agree(ap)
    is_best = validation is None or ap > max((epoch.validation_ap for epoch in descent.epochs), default=-math.inf)
    if is_best:
        descent.best = copy.deepcopy(descent.body.state_dict())
    return Epoch(number, train_loss, validation_loss, ap, is_best)


def _is_settled(epochs: list[Epoch], patience: int) -> bool:
    return len(epochs) - best_epoch(epochs) >= patience


def _tell(course: Course, epoch: Epoch) -> None:
    if course.on_epoch is not None:
        course.on_epoch(epoch)


def _rate(step: int, steps: int) -> float:
    """Return the share of the learning rate at a step: a short rise, then half a cosine down to 0."""
    rise = max(1, round(_WARM_UP_SHARE * steps))
    return min((step + 1) / rise, 0.5 * (1 + math.cos(math.pi * step / steps)))


def _batches(order: Tensor, size: int) -> Iterator[Tensor]:
    for start in range(0, order.numel(), size):
        yield order[start : start + size]
