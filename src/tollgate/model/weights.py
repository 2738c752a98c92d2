"""A network as safetensors: what it learned and what it knows of its features, to go on training it. No code in it."""

from __future__ import annotations

from safetensors import SafetensorError
from safetensors.torch import load, save

from tollgate.config import TrainConfig
from tollgate.errors import ModelError
from tollgate.model.network import Network
from tollgate.model.preprocess import Preprocess, Tables


def write_weights(network: Network) -> bytes:
    """Return all parameters and tables of `network`."""
    return save({name: tensor.contiguous() for name, tensor in network.state_dict().items()})


def read_weights(weights: bytes, config: TrainConfig, back: tuple[int, ...]) -> Network:
    """Return the network that `write_weights` wrote, on the CPU, not training.

    Args:
        weights: The content of the file.
        config: That it was trained with: which network, and its sizes.
        back: For each of the F features how many transactions back it looks.

    Raises:
        ModelError: These are not such weights.
    """
    try:
        state = load(weights)
        tables = Tables(**{name: state[f"preprocess.{name}"] for name in Tables.__slots__})
        network = Network(Preprocess(tables), config, back)
        network.load_state_dict(state)
    except (SafetensorError, KeyError, IndexError, RuntimeError) as error:
        raise ModelError("bad_weights", f"expected a network's weights as safetensors, but got: {error}") from error
    return network.eval()
