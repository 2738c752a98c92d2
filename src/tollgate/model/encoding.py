"""A preprocessed row as one vector that a network reads: piecewise-linear numbers, masks and embedded categories."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

# Edges of the pieces that a normal score is cut into. They are finer above, for fraud is in the upper tail of
# amounts, counts and ratios, where a threshold has to be sharp and a smooth network on the score alone is not.
PIECE_EDGES = (
    -4.0, -3.0, -2.5, -2.0, -1.5, -1.0, -0.5, 0.0, 0.5, 1.0, 1.5, 2.0, 2.25, 2.5, 2.75, 3.0, 3.25, 3.5, 4.0,
)  # fmt: skip

_MAX_EMBEDDING = 16  # numbers that a category becomes, at most
_EMBEDDING_SCALE = 0.1  # small: a category starts as nearly unknown


@dataclass(frozen=True, slots=True)
class Inputs:
    """What a preprocessed row is made of: all that a network is told of its data.

    Attributes:
        back: For each of the D numeric features how many transactions back it looks, 0 being this one.
        masked: Places among the D of those that have a mask, in the order of the M masks.
        categories: How many known values each of the C categorical features has.
    """

    back: tuple[int, ...]
    masked: tuple[int, ...]
    categories: tuple[int, ...]

    @property
    def scores(self) -> int:
        """How many of the numbers of a row are normal scores, D."""
        return len(self.back)


class Pieces(nn.Module):
    """A piecewise-linear encoding of normal scores (Gorishniy et al. 2022, arXiv 2203.05556).

    Each score becomes P numbers: how far it has come through each piece, from -0.5 (not in) to 0.5 (through).
    """

    slope: Tensor
    offset: Tensor

    def __init__(self) -> None:
        super().__init__()
        edges = torch.tensor(PIECE_EDGES)
        lower, width = edges[:-1], edges.diff()
        self.register_buffer("slope", (1 / width).unsqueeze(1), persistent=False)  # (P, 1)
        self.register_buffer("offset", -lower / width - 0.5, persistent=False)  # (P,)

    def forward(self, scores: Tensor) -> Tensor:
        """Return the encoding, float32 (B, D * P), of scores, float32 (B, D), D > 0."""
        # One product of matrices: broadcasting over short rows is several times slower in ONNX Runtime.
        through = functional.linear(scores.reshape(-1, 1), self.slope, self.offset)  # (B * D, P)
        return through.clamp(-0.5, 0.5).reshape(*scores.shape, -1).flatten(1)


class Encoding(nn.Module):
    """Numbers, their pieces, masks and embedded categories of the transaction itself, side by side.

    Attributes:
        width: How many numbers a row becomes, W.
    """

    own: Tensor

    def __init__(self, inputs: Inputs) -> None:
        super().__init__()
        masks = [len(inputs.back) + place for place, column in enumerate(inputs.masked) if inputs.back[column] == 0]
        scores = [column for column, back in enumerate(inputs.back) if back == 0]
        self._scores = len(scores)
        self.register_buffer("own", torch.tensor(scores + masks, dtype=torch.int64), persistent=False)
        self._all = self.own.numel() == len(inputs.back) + len(inputs.masked)
        self.pieces = Pieces()
        tables = [nn.Embedding(known + 1, min(_MAX_EMBEDDING, 1 + (known + 1) // 2)) for known in inputs.categories]
        with torch.no_grad():
            for table in tables:
                table.weight.mul_(_EMBEDDING_SCALE)
                table.weight[0] = 0.0  # unknown: no opinion until trained
        self.embeddings = nn.ModuleList(tables)
        self.width = self._scores * len(PIECE_EDGES) + len(masks) + sum(table.weight.shape[1] for table in tables)

    def forward(self, numbers: Tensor, places: Tensor) -> Tensor:
        """Return float32 (B, W).

        Args:
            numbers: float32 (B, D + M): normal scores, then masks.
            places: int64 (B, C), 0 being unknown or missing.
        """
        own = numbers if self._all else numbers[:, self.own]
        embedded = [table(places[:, column]) for column, table in enumerate(self.embeddings)]
        pieces = [self.pieces(own[:, : self._scores])] if self._scores else []
        return torch.cat((own, *pieces, *embedded), dim=1)
