"""The networks: raw features in, the logit of fraud out."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from tollgate.model.preprocess import Preprocess

# Edges of the pieces that a normal score is cut into. They are finer above, for fraud is in the upper tail of
# amounts, counts and ratios, where a threshold has to be sharp and a smooth network on the score alone is not.
PIECE_EDGES = (-4.0, -3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 2.5, 3.0, 3.5, 4.0)

_MAX_EMBEDDING = 16  # numbers that a category becomes, at most
_EMBEDDING_SCALE = 0.1  # small: a category starts as nearly unknown


class Pieces(nn.Module):
    """A piecewise-linear encoding of normal scores (Gorishniy et al. 2022, arXiv 2203.05556).

    Each score becomes P numbers: how far it has come through each piece, from -0.5 (not in) to 0.5 (through).
    """

    lower: Tensor
    width: Tensor

    def __init__(self) -> None:
        super().__init__()
        edges = torch.tensor(PIECE_EDGES)
        self.register_buffer("lower", edges[:-1], persistent=False)
        self.register_buffer("width", edges.diff(), persistent=False)

    def forward(self, scores: Tensor) -> Tensor:
        """Return the encoding, float32 (B, D * P), of scores, float32 (B, D)."""
        through = (scores.unsqueeze(2) - self.lower) / self.width  # (B, D, P)
        return through.clamp(0.0, 1.0).flatten(1) - 0.5


class MLP(nn.Module):
    """A plain multilayer perceptron over preprocessed features.

    Args:
        scores: How many of the numbers of a row are normal scores, D.
        masks: How many are masks, M.
        categories: How many known values each of the C categorical features has.
        hidden: Sizes of the hidden layers.
        dropout: Share of hidden units left out of each training step.
    """

    def __init__(
        self, scores: int, masks: int, categories: tuple[int, ...], hidden: tuple[int, ...], dropout: float
    ) -> None:
        super().__init__()
        self.scores = scores
        self.pieces = Pieces()
        self.embeddings = nn.ModuleList(
            nn.Embedding(known + 1, min(_MAX_EMBEDDING, 1 + (known + 1) // 2)) for known in categories
        )
        width = scores * len(PIECE_EDGES) + masks + sum(table.weight.shape[1] for table in self.tables)
        sizes = [width, *hidden]
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
            numbers: float32 (B, D + M): normal scores, then masks.
            places: int64 (B, C), 0 being unknown or missing.
        """
        embedded = [table(places[:, column]) for column, table in enumerate(self.embeddings)]
        hidden = torch.cat((numbers, self.pieces(numbers[:, : self.scores]), *embedded), dim=1)
        for layer in self.layers:
            hidden = self.dropout(torch.relu(layer(hidden)))  # (B, H)
        logits: Tensor = self.head(hidden).squeeze(1)
        return logits


class Network(nn.Module):
    """Preprocessing and perceptron, as one graph."""

    def __init__(self, preprocess: Preprocess, hidden: tuple[int, ...], dropout: float) -> None:
        super().__init__()
        self.preprocess = preprocess
        self.mlp = MLP(
            preprocess.numeric.numel(),
            preprocess.masked.numel(),
            tuple(preprocess.sizes.tolist()),
            hidden,
            dropout,
        )

    def forward(self, features: Tensor) -> Tensor:
        """Return logits, float32 (B,), of raw features, float64 (B, F)."""
        logits: Tensor = self.mlp(*self.preprocess(features))
        return logits
