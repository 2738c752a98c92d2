"""Fraud is rare: which rows an epoch shows, and how much each counts.

Whatever is done here changes what a logit means; the prior that is added to the network's output (Network.prior) undoes
it for sampling and weights (King & Zeng 2001), and the calibration after it corrects the rest.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from tollgate.config import TrainConfig


@dataclass(frozen=True, slots=True)
class Balance:
    """How an imbalance is handled on N training rows.

    Attributes:
        fraud: Places of the frauds, int64 (P,).
        good: Places of the good payments, int64 (N - P,).
        shown: How many of the good payments an epoch shows.
        fraud_weight: How much a fraud counts; a good payment counts 1.
        gamma: Of the focal loss (Lin et al. 2017, arXiv 1708.02002); 0 is plain cross-entropy.
    """

    fraud: Tensor
    good: Tensor
    shown: int
    fraud_weight: float
    gamma: float

    @property
    def prior(self) -> float:
        """Log odds of fraud at the true prevalence."""
        return math.log(self.fraud.numel() / self.good.numel())

    @property
    def prior_shown(self) -> float:
        """Log odds of fraud as the loss sees it."""
        return math.log(self.fraud_weight * self.fraud.numel() / self.shown)

    @property
    def epoch_rows(self) -> int:
        """How many rows an epoch shows."""
        return self.fraud.numel() + self.shown

    def rows(self, epoch: int, seed: int) -> Tensor:
        """Return the places that an epoch shows, in a random order, int64 (epoch_rows,).

        All frauds; the good payments go round: none is shown again before all were.

        Args:
            epoch: From 1.
            seed: With the epoch it determines the order, so that a resumed training goes on as it would have.
        """
        start = (epoch - 1) * self.shown
        parts = []
        while start < epoch * self.shown:
            turn, first = divmod(start, self.good.numel())
            last = min(first + epoch * self.shown - start, self.good.numel())
            parts.append(self.good[_shuffled(self.good.numel(), seed + turn)[first:last]])
            start += last - first
        rows = torch.cat((self.fraud, *parts))
        return rows[_shuffled(rows.numel(), (seed + 1) * 1_000_003 + epoch)]

    def loss(self, logits: Tensor, is_fraud: Tensor) -> Tensor:
        """Return the mean loss of the members on some rows.

        Args:
            logits: float32 (B, K), the prior added.
            is_fraud: float32 (B,).
        """
        targets = is_fraud.unsqueeze(1).expand_as(logits)
        entropy = binary_cross_entropy_with_logits(logits, targets, reduction="none")  # (B, K)
        if self.gamma:
            entropy = entropy * (1 - torch.exp(-entropy)) ** self.gamma
        if self.fraud_weight != 1.0:
            entropy = entropy * (1 + (self.fraud_weight - 1) * targets)
        return entropy.mean()


def balance(is_fraud: Tensor, config: TrainConfig) -> Balance:
    """Return how to show rows with labels `is_fraud`, float32 (N,), both classes among them."""
    fraud, good = (torch.nonzero(is_fraud == label).squeeze(1).cpu() for label in (1.0, 0.0))
    shown = good.numel()
    if config.imbalance == "sampling":
        shown = min(shown, config.good_per_fraud * fraud.numel())
    return Balance(
        fraud=fraud,
        good=good,
        shown=shown,
        fraud_weight=good.numel() / fraud.numel() if config.imbalance == "weighted" else 1.0,
        gamma=config.focal_gamma if config.imbalance == "focal" else 0.0,
    )


def _shuffled(count: int, seed: int) -> Tensor:
    """Return a permutation; drawn on the CPU, so that it does not depend on the device."""
    return torch.randperm(count, generator=torch.Generator().manual_seed(seed))
