"""The plain baseline: a multilayer perceptron."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from tollgate.config import TrainConfig
from tollgate.model.encoding import Encoding, Inputs


class MLP(nn.Module):
    """A multilayer perceptron over the encoded row; a single member, K = 1."""

    def __init__(self, inputs: Inputs, config: TrainConfig) -> None:
        super().__init__()
        self.encoding = Encoding(inputs)
        sizes = [self.encoding.width, *config.hidden]
        self.layers = nn.ModuleList(nn.Linear(before, after) for before, after in pairwise(sizes))
        self.head = nn.Linear(sizes[-1], 1)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, numbers: Tensor, places: Tensor) -> Tensor:
        """Return logits, float32 (B, 1), of preprocessed rows; see `Encoding.forward`."""
        hidden = self.encoding(numbers, places)
        for layer in self.layers:
            hidden = self.dropout(torch.relu(layer(hidden)))  # (B, H)
        logits: Tensor = self.head(hidden)
        return logits
