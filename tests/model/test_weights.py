import numpy as np
import pytest

from learning import CATEGORICAL, payments, untrained
from tollgate.config import TrainConfig
from tollgate.errors import ModelError
from tollgate.model.weights import read_weights, write_weights
from tollgate.train import score

FEATURES = payments(300).features
CONFIG = TrainConfig(hidden=(8, 4), members=3, dropout=0.2)
BACK = (0, 0, 0, 0)


def test_weights_written_and_read_give_the_same_logits():
    network = untrained(FEATURES, CATEGORICAL)

    again = read_weights(write_weights(network), CONFIG, BACK)

    assert np.array_equal(score(again, FEATURES), score(network, FEATURES))
    assert again.body.ensemble.dropout.p == 0.2
    assert not again.training


@pytest.mark.parametrize("damage", [lambda data: b"", lambda data: data[:-8], lambda data: b"\x80\x04pickle" + data])
def test_damaged_weights_are_refused(damage):
    with pytest.raises(ModelError) as caught:
        read_weights(damage(write_weights(untrained(FEATURES, CATEGORICAL))), CONFIG, BACK)
    assert caught.value.code == "bad_weights"
