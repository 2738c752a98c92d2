import numpy as np
import pytest

from learning import CATEGORICAL, payments, untrained
from tollgate.errors import ModelError
from tollgate.model.weights import read_weights, write_weights
from tollgate.train import score

FEATURES = payments(300).features


def test_weights_written_and_read_give_the_same_logits():
    network = untrained(FEATURES, CATEGORICAL)

    again = read_weights(write_weights(network), dropout=0.2)

    assert np.array_equal(score(again, FEATURES), score(network, FEATURES))
    assert again.mlp.dropout.p == 0.2
    assert not again.training


@pytest.mark.parametrize("damage", [lambda data: b"", lambda data: data[:-8], lambda data: b"\x80\x04pickle" + data])
def test_damaged_weights_are_refused(damage):
    with pytest.raises(ModelError) as caught:
        read_weights(damage(write_weights(untrained(FEATURES, CATEGORICAL))))
    assert caught.value.code == "bad_weights"
