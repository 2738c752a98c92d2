"""A network as safetensors: what it learned and what it knows of its features, to go on training it. No code in it."""

from __future__ import annotations

import itertools

from safetensors import SafetensorError
from safetensors.torch import load, save

from tollgate.errors import ModelError
from tollgate.model.network import Network
from tollgate.model.preprocess import Preprocess, Tables


def write_weights(network: Network) -> bytes:
    """Return all parameters and tables of `network`."""
    return save({name: tensor.contiguous() for name, tensor in network.state_dict().items()})


def read_weights(weights: bytes, dropout: float = 0.0) -> Network:
    """Return the network that `write_weights` wrote, on the CPU, not training.

    Args:
        weights: The content of the file.
        dropout: Should it be trained on; it is no part of the weights.

    Raises:
        ModelError: These are not such weights.
    """
    try:
        state = load(weights)
        tables = Tables(**{name: state[f"preprocess.{name}"] for name in Tables.__slots__})
        biases = itertools.takewhile(lambda name: name in state, (f"mlp.layers.{n}.bias" for n in itertools.count()))
        network = Network(Preprocess(tables), tuple(state[name].numel() for name in biases), dropout)
        network.load_state_dict(state)
    except (SafetensorError, KeyError, RuntimeError) as error:
        raise ModelError("bad_weights", f"expected a network's weights as safetensors, but got: {error}") from error
    return network.eval()
