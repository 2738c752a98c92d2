"""The networks: raw features in, the logit of fraud out."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from tollgate.model.preprocess import Preprocess

_MAX_EMBEDDING = 16  # numbers that a category becomes, at most
_EMBEDDING_SCALE = 0.1  # small: a category starts as nearly unknown


class MLP(nn.Module):
    """A plain multilayer perceptron over preprocessed features.

    Args:
        width: How many numbers a row has.
        categories: How many known values each of the C categorical features has.
        hidden: Sizes of the hidden layers.
        dropout: Share of hidden units left out of each training step.
    """

    def __init__(self, width: int, categories: tuple[int, ...], hidden: tuple[int, ...], dropout: float) -> None:
        super().__init__()
        self.embeddings = nn.ModuleList(
            nn.Embedding(known + 1, min(_MAX_EMBEDDING, 1 + (known + 1) // 2)) for known in categories
        )
        sizes = [width + sum(table.weight.shape[1] for table in self.tables), *hidden]
        self.layers = nn.ModuleList(nn.Linear(before, after) for before, after in pairwise(sizes))
        self.head = nn.Linear(sizes[-1], 1)
        self.dropout = nn.Dropout(dropout)
        with torch.no_grad():
            for table in self.tables:
                table.weight.mul_(_EMBEDDING_SCALE)
                table.weight[0] = 0.0  # unknown: no opinion until trained

    @property
    def tables(self) -> list[nn.Embedding]:
        """The embedding table of each categorical feature."""
        return [table for table in self.embeddings if isinstance(table, nn.Embedding)]

    def forward(self, numbers: Tensor, places: Tensor) -> Tensor:
        """Return logits, float32 (B,).

        Args:
            numbers: float32 (B, width).
            places: int64 (B, C), 0 being unknown or missing.
        """
        embedded = [table(places[:, column]) for column, table in enumerate(self.embeddings)]
        hidden = torch.cat((numbers, *embedded), dim=1)
        for layer in self.layers:
            hidden = self.dropout(torch.relu(layer(hidden)))  # (B, H)
        logits: Tensor = self.head(hidden).squeeze(1)
        return logits


class Network(nn.Module):
    """Preprocessing and perceptron, as one graph."""

    def __init__(self, preprocess: Preprocess, hidden: tuple[int, ...], dropout: float) -> None:
        super().__init__()
        self.preprocess = preprocess
        self.mlp = MLP(preprocess.width, tuple(preprocess.sizes.tolist()), hidden, dropout)

    def forward(self, features: Tensor) -> Tensor:
        """Return logits, float32 (B,), of raw features, float64 (B, F)."""
        logits: Tensor = self.mlp(*self.preprocess(features))
        return logits
