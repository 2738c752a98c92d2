"""Networks by name: raw features in, the logits of an ensemble out, as one graph."""

from __future__ import annotations

import importlib
from collections.abc import Callable

import torch
from torch import Tensor, nn

from tollgate.config import TrainConfig
from tollgate.errors import ConfigError
from tollgate.model.encoding import Inputs
from tollgate.model.mlp import MLP
from tollgate.model.preprocess import Preprocess
from tollgate.model.sequence import Sequence
from tollgate.model.tabm import TabM

# A body takes preprocessed rows, (B, D + M) and (B, C), to the logits of its K members, float32 (B, K).
Body = Callable[[Inputs, TrainConfig], nn.Module]

NETWORKS: dict[str, Body] = {"mlp": MLP, "tabm": TabM, "sequence": Sequence}


class Network(nn.Module):
    """Preprocessing and a body, as one graph.

    Attributes:
        preprocess: The tables.
        body: From preprocessed rows to logits over the prior.
        prior: Log odds of fraud in the training rows, float32 (): the body learns what speaks for more or less.
    """

    prior: Tensor

    def __init__(self, preprocess: Preprocess, config: TrainConfig, back: tuple[int, ...]) -> None:
        """Make an untrained network.

        Args:
            preprocess: Fitted tables.
            config: Which network, and its sizes.
            back: For each of the F features how many transactions back it looks.

        Raises:
            ConfigError: There is no such network.
            ModelError: The features are not those that it needs.
        """
        super().__init__()
        self.preprocess = preprocess
        inputs = Inputs(
            back=tuple(back[column] for column in preprocess.numeric.tolist()),
            masked=tuple(preprocess.masked.tolist()),
            categories=tuple(preprocess.sizes.tolist()),
        )
        self.body = body_of(config.model)(inputs, config)
        self.register_buffer("prior", torch.zeros(()))

    def forward(self, features: Tensor) -> Tensor:
        """Return logits, float32 (B, K), of raw features, float64 (B, F)."""
        logits: Tensor = self.body(*self.preprocess(features))
        return logits + self.prior


def body_of(name: str) -> Body:
    """Return a network by its name, or one of the user's own as `package.module:Class`.

    A class of one's own is called with `(Inputs, TrainConfig)` and gives an `nn.Module` whose
    `forward(numbers, places)` returns (B, K) logits. It is needed for training only: a bundle holds the exported graph,
    never code.

    Raises:
        ConfigError: There is none of that name.
    """
    if name in NETWORKS:
        return NETWORKS[name]
    module, _, attribute = name.partition(":")
    try:
        body = getattr(importlib.import_module(module), attribute) if attribute else None
    except (ImportError, AttributeError) as error:
        raise ConfigError("bad_model", f"[train] model = {name!r} could not be imported: {error}") from error
    if not callable(body):
        raise ConfigError(
            "bad_model",
            f"[train] model: expected {', '.join(NETWORKS)}, lightgbm or package.module:Class, but got {name!r}",
        )
    found: Body = body
    return found
