"""What each kind of network is, apart from how it is trained."""

from dataclasses import replace

import msgspec
import numpy as np
import pytest
import torch
from torch import nn

from learning import CATEGORICAL, QUICK, payments, untrained
from tollgate import metrics
from tollgate.errors import ConfigError, ModelError
from tollgate.model.export import TOLERANCE, export_onnx
from tollgate.model.runtime import OnnxRuntime
from tollgate.train import fit, score

STEPS = 4


class Wide(nn.Module):
    """A network of a user's own: a line on the numbers."""

    def __init__(self, inputs, config):
        super().__init__()
        self.line = nn.Linear(inputs.scores + len(inputs.masked), 1)

    def forward(self, numbers, places):
        return self.line(numbers)


def sequences(n=6000, seed=0):
    """Fraud is a payment that doubles the one before, twice in a row: only the order of the steps tells."""
    rng = np.random.default_rng(seed)
    part = payments(n, seed)
    lags = rng.lognormal(3.0, 1.0, (n, STEPS))
    rising = rng.random(n) < 0.08
    amount = part.features[:, :1]
    lags[rising, 0] = amount[rising, 0] / 2
    lags[rising, 1] = amount[rising, 0] / 4
    lags[rng.random(n) < 0.1, 2:] = np.nan  # young cards
    is_fraud = (amount[:, 0] >= 1.9 * lags[:, 0]) & (lags[:, 0] >= 1.9 * lags[:, 1])
    return replace(
        part,
        features=np.hstack((amount, lags)),
        names=("amount", *(f"card_amount_lag_{step + 1}" for step in range(STEPS))),
        categorical=(False,) * (1 + STEPS),
        back=tuple(range(1 + STEPS)),
        is_fraud=is_fraud,
    )


def test_the_members_of_an_ensemble_differ_and_share_most_weights():
    """An ensemble of K members gives K logits, and is far smaller than K networks."""
    features = payments(200).features
    network = untrained(features, CATEGORICAL)
    shared = sum(layer.weight.numel() for layer in network.body.ensemble.layers)
    own = sum(p.numel() for p in network.body.ensemble.parameters()) - shared

    logits = score(network, features)

    assert logits.shape == (200, 3)
    assert (logits.std(axis=1) > 0).all()
    assert own < shared


def test_a_member_is_the_network_that_its_factors_make():
    """Sharing is only a faster way to compute: each member equals a plain network with scaled weights."""
    features = payments(50).features
    network = untrained(features, CATEGORICAL)
    body = network.body
    with torch.inference_mode():
        encoded = body.encoding(*network.preprocess(torch.from_numpy(features)))
        for member in range(3):
            hidden = encoded
            for layer in body.ensemble.layers:
                weight = layer.weight * layer.leaving[member]
                if layer.entering is not None:
                    weight = layer.entering[member].unsqueeze(1) * weight
                hidden = torch.relu(hidden @ weight + layer.bias[member])
            logits = hidden @ body.ensemble.weight[member] + body.ensemble.bias[member] + network.prior
            assert torch.allclose(logits, network(torch.from_numpy(features))[:, member], atol=1e-5)


def test_a_sequence_network_learns_from_the_order_of_the_steps_and_exports():
    """What only the steps before can tell is found by it, and the graph gives the same logits."""
    train, validation, test = (sequences(seed=seed) for seed in (1, 2, 3))
    config = msgspec.structs.replace(QUICK, model="sequence", hidden=(32, 16), dropout=0.0, max_epochs=12)
    blind = replace(test, features=np.where(np.arange(1 + STEPS) > 0, np.nan, test.features))

    trained = fit(train, validation, config)
    seen, unseen = (metrics.average_precision(test.is_fraud, trained.scores(part.features)) for part in (test, blind))

    assert seen > 0.8
    assert unseen < seen / 2
    runtime = OnnxRuntime(export_onnx(trained.network, test.features[:200]))
    assert runtime.logits(test.features[:333]) == pytest.approx(
        trained.members(test.features[:333]), abs=TOLERANCE, rel=TOLERANCE
    )


def test_a_sequence_network_needs_steps_of_equally_many_values():
    """Without lags there is no sequence, and the message says what to add."""
    part = payments(300)
    config = msgspec.structs.replace(QUICK, model="sequence")

    for back in ((0, 0, 0, 0), (0, 1, 0, 0), (1, 1, 2, 0)):
        if back == (0, 1, 0, 0):
            continue
        with pytest.raises(ModelError, match=r"card\.lag\(value, last=16\)"):
            fit(replace(part, back=back), part, config)


def test_tabular_networks_leave_lags_alone():
    """A lag that reaches a network without sequences moves nothing."""
    part = sequences(300)
    network = untrained(part.features, part.categorical, back=part.back)
    changed = part.features.copy()
    changed[:, 1:] = 7.0

    assert np.array_equal(score(network, changed), score(network, part.features))


def test_a_network_of_ones_own_is_found_by_its_name_trained_and_exported():
    """`package.module:Class` is all it takes; serving needs none of its code."""
    config = msgspec.structs.replace(QUICK, model="train.test_networks:Wide")
    train, validation = payments(3000, seed=1), payments(2000, seed=2)

    trained = fit(train, validation, config)

    assert isinstance(trained.network.body.line, nn.Linear)
    assert metrics.auc_roc(validation.is_fraud, trained.checked) > 0.8
    runtime = OnnxRuntime(export_onnx(trained.network, validation.features[:100]))
    assert runtime.members == 1


@pytest.mark.parametrize(
    "name", ["mpl", "tollgate.nowhere:Net", "train.test_networks:Nothing", "train.test_networks:STEPS"]
)
def test_a_network_that_does_not_exist_is_refused_by_name(name):
    """A typing error in the configuration is told as such."""
    with pytest.raises(ConfigError) as caught:
        fit(payments(300), payments(300, seed=2), msgspec.structs.replace(QUICK, model=name))
    assert caught.value.code == "bad_model"
    assert name in caught.value.message
