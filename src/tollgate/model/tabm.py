"""The default network: many small ones that share nearly all their weights (TabM, Gorishniy et al. 2025).

Each of K members scales what enters and what leaves a shared layer by factors of its own (BatchEnsemble, Wen et al.
2020), so an ensemble costs little more than one network. How far the members disagree tells how sure they are.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from tollgate.config import TrainConfig
from tollgate.model.encoding import Encoding, Inputs


class Members(nn.Module):
    """A layer that K members share, with factors and a bias of each one's own.

    The first layer, the widest by far, reads the same row for all members: it is multiplied once, and only its result
    is scaled. Random signs there make the members differ from the start.
    """

    def __init__(self, before: int, after: int, members: int, *, first: bool) -> None:
        super().__init__()
        bound = before**-0.5
        self.weight = nn.Parameter(torch.empty(before, after).uniform_(-bound, bound))
        signs = torch.randint(0, 2, (members, after)).float() * 2 - 1
        self.entering = None if first else nn.Parameter(torch.ones(members, before))
        self.leaving = nn.Parameter(signs if first else torch.ones(members, after))
        self.bias = nn.Parameter(torch.empty(members, after).uniform_(-bound, bound))

    def forward(self, hidden: Tensor) -> Tensor:
        """Return float32 (B, K, after) of (B, before) in the first layer, of (B, K, before) in the others."""
        each = hidden.unsqueeze(1) if self.entering is None else hidden * self.entering  # (B, 1 or K, before)
        return (each @ self.weight) * self.leaving + self.bias


class Ensemble(nn.Module):
    """K members from one vector a row to K logits."""

    def __init__(self, width: int, config: TrainConfig) -> None:
        super().__init__()
        sizes = [width, *config.hidden]
        self.layers = nn.ModuleList(
            Members(before, after, config.members, first=place == 0)
            for place, (before, after) in enumerate(pairwise(sizes))
        )
        bound = sizes[-1] ** -0.5
        self.weight = nn.Parameter(torch.empty(config.members, sizes[-1]).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.zeros(config.members))
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, encoded: Tensor) -> Tensor:
        """Return logits, float32 (B, K), of encoded rows, float32 (B, W)."""
        hidden = encoded
        for layer in self.layers:
            hidden = self.dropout(torch.relu(layer(hidden)))  # (B, K, H)
        return (hidden * self.weight).sum(2) + self.bias


class TabM(nn.Module):
    """The ensemble over the encoded row."""

    def __init__(self, inputs: Inputs, config: TrainConfig) -> None:
        super().__init__()
        self.encoding = Encoding(inputs)
        self.ensemble = Ensemble(self.encoding.width, config)

    def forward(self, numbers: Tensor, places: Tensor) -> Tensor:
        """Return logits, float32 (B, K), of preprocessed rows; see `Encoding.forward`."""
        logits: Tensor = self.ensemble(self.encoding(numbers, places))
        return logits
