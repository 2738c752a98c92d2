"""A causal network over a card's last transactions, joined with the features of the present one.

The last N transactions are lags in the feature list: columns that the engine reads from the ring of each card, so
training and serving see the same bits. The present transaction asks, and attends to those before it (Vaswani et al.
2017, one layer, one head); what it finds stands beside its own features in a TabM ensemble.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tollgate.config import TrainConfig
from tollgate.errors import ModelError
from tollgate.model.encoding import PIECE_EDGES, Encoding, Inputs, Pieces
from tollgate.model.tabm import Ensemble

STEP_WIDTH = 32  # numbers that a step, and what is found, become


class Sequence(nn.Module):
    """Attention over N earlier transactions of V values each, then the ensemble."""

    steps: Tensor
    masks: Tensor
    has_mask: Tensor

    def __init__(self, inputs: Inputs, config: TrainConfig) -> None:
        super().__init__()
        self.encoding = Encoding(inputs)
        steps = _steps(inputs)
        place_of = {column: len(inputs.back) + place for place, column in enumerate(inputs.masked)}
        masks = [[place_of.get(column, 0) for column in step] for step in steps]
        self.register_buffer("steps", torch.tensor(steps), persistent=False)  # (N, V)
        self.register_buffer("masks", torch.tensor(masks), persistent=False)  # (N, V)
        self.register_buffer("has_mask", torch.tensor(masks).ne(0).float(), persistent=False)  # (N, V)
        self._length, self._values = len(steps), len(steps[0])
        self.pieces = Pieces()
        self.step = nn.Linear(self._values * (len(PIECE_EDGES) + 1), STEP_WIDTH)
        self.position = nn.Parameter(torch.zeros(self._length, STEP_WIDTH))
        self.nothing = nn.Parameter(torch.zeros(2, 1, STEP_WIDTH))  # key and value to attend to where nothing fits
        self.ask = nn.Linear(self.encoding.width, STEP_WIDTH)
        self.key = nn.Linear(STEP_WIDTH, STEP_WIDTH)
        self.value = nn.Linear(STEP_WIDTH, STEP_WIDTH)
        self.ensemble = Ensemble(self.encoding.width + STEP_WIDTH, config)

    def forward(self, numbers: Tensor, places: Tensor) -> Tensor:
        """Return logits, float32 (B, K), of preprocessed rows; see `Encoding.forward`."""
        own = self.encoding(numbers, places)  # (B, W)
        found = self._attend(own, numbers)
        logits: Tensor = self.ensemble(torch.cat((own, found), dim=1))
        return logits

    def _attend(self, own: Tensor, numbers: Tensor) -> Tensor:
        """Return what the present transaction finds in those before it, float32 (B, STEP_WIDTH)."""
        scores = numbers[:, self.steps.flatten()]  # (B, N * V)
        missing = numbers[:, self.masks.flatten()].view(-1, self._length, self._values) * self.has_mask  # (B, N, V)
        pieces = self.pieces(scores).view(-1, self._length, self._values * (len(PIECE_EDGES) - 1))
        values = scores.view(-1, self._length, self._values)
        steps = torch.relu(self.step(torch.cat((values, pieces, missing), dim=2)) + self.position)  # (B, N, S)
        empty = self.nothing.unsqueeze(1).expand(2, numbers.shape[0], 1, STEP_WIDTH)
        keys = torch.cat((self.key(steps), empty[0]), dim=1)  # (B, N + 1, S)
        contents = torch.cat((self.value(steps), empty[1]), dim=1)
        weights = (keys @ self.ask(own).unsqueeze(2)).squeeze(2) * STEP_WIDTH**-0.5  # (B, N + 1)
        absent = (missing.sum(2) >= self._values).float()  # (B, N): a step of which nothing is known is none
        weights = weights - torch.cat((absent, torch.zeros_like(weights[:, :1])), dim=1) * 1e4
        return (torch.softmax(weights, dim=1).unsqueeze(1) @ contents).squeeze(1)


def _steps(inputs: Inputs) -> list[list[int]]:
    """Return the numeric features of each step, the newest step first.

    Raises:
        ModelError: There are none, or a step has more of them than another.
    """
    steps = [
        [column for column, back in enumerate(inputs.back) if back == step]
        for step in range(1, max(inputs.back, default=0) + 1)
    ]
    if not steps or len({len(step) for step in steps}) != 1:
        raise ModelError(
            "no_sequence",
            "expected lags in the feature list for model = 'sequence', equally many of each step "
            f"(card.lag(value, last=16)), but got {[len(step) for step in steps]} of steps 1 to {len(steps)}; add "
            "some, or set [train] model = 'tabm'",
        )
    return steps
