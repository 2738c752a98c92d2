import numpy as np
import onnx
import pytest

from learning import CATEGORICAL, payments, untrained
from tollgate.errors import ModelError
from tollgate.model.export import TOLERANCE, _compare, export_onnx
from tollgate.model.runtime import OnnxRuntime
from tollgate.train import score

FEATURES = payments(500).features


@pytest.mark.parametrize(
    ("columns", "categorical"),
    [([0, 1, 2, 3], CATEGORICAL), ([0, 1], (False, False)), ([3], (True,)), ([3, 0, 2], (True, False, False))],
    ids=["mixed", "numbers", "category", "category first"],
)
def test_onnx_gives_the_logits_of_the_network_for_any_batch(columns, categorical):
    features = np.ascontiguousarray(FEATURES[:, columns])
    network = untrained(features, categorical)
    runtime = OnnxRuntime(export_onnx(network, features[:50]))

    for rows in (1, 2, 333):
        expected = score(network, features[:rows])
        assert expected.shape == (rows, 3)
        assert runtime.logits(features[:rows]) == pytest.approx(expected, abs=TOLERANCE)
    assert len(set(score(network, features)[:, 0].tolist())) > 4


def test_the_graph_holds_the_preprocessing_and_no_code():
    model = onnx.load_model_from_string(export_onnx(untrained(FEATURES, CATEGORICAL), FEATURES[:5]))

    assert {node.domain for node in model.graph.node} == {""}  # standard operators only
    (entry,) = model.graph.input
    assert entry.type.tensor_type.elem_type == onnx.TensorProto.DOUBLE
    assert not model.functions


def test_the_same_network_gives_the_same_bytes():
    first, again = (export_onnx(untrained(FEATURES, CATEGORICAL), FEATURES[:5]) for _ in range(2))

    assert first == again


def test_a_graph_that_gives_other_logits_is_refused():
    model = export_onnx(untrained(FEATURES, CATEGORICAL, seed=0), FEATURES[:5])

    with pytest.raises(ModelError, match="they differ by") as caught:
        _compare(untrained(FEATURES, CATEGORICAL, seed=1), model, FEATURES[:5])
    assert caught.value.code == "export_disagrees"
