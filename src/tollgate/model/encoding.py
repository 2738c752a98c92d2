"""A preprocessed row as one vector that a network reads: piecewise-linear numbers, masks and embedded categories."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

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
        return torch.cat((own, self.pieces(own[:, : self._scores]), *embedded), dim=1)
