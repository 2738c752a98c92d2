import io
import warnings

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from learning import CATEGORICAL, payments, untrained
from tollgate.errors import ModelError
from tollgate.model.export import TOLERANCE, _compare, export_onnx
from tollgate.model.runtime import OnnxRuntime
from tollgate.model.search import PLACEHOLDER, as_trees, locate
from tollgate.train import score

FEATURES = payments(500).features


@pytest.mark.parametrize("trees", [True, False])
@pytest.mark.parametrize(
    ("columns", "categorical"),
    [([0, 1, 2, 3], CATEGORICAL), ([0, 1], (False, False)), ([3], (True,)), ([3, 0, 2], (True, False, False))],
    ids=["mixed", "numbers", "category", "category first"],
)
def test_onnx_gives_the_logits_of_the_network_for_any_batch(columns, categorical, trees):
    features = np.ascontiguousarray(FEATURES[:, columns])
    network = untrained(features, categorical)
    runtime = OnnxRuntime(export_onnx(network, features[:50], trees=trees))

    for rows in (1, 2, 333):
        expected = score(network, features[:rows])
        assert expected.shape == (rows, 3)
        assert runtime.logits(features[:rows]) == pytest.approx(expected, abs=TOLERANCE)
    assert len(set(score(network, features)[:, 0].tolist())) > 4


def test_the_graph_holds_the_preprocessing_and_no_code():
    model = onnx.load_model_from_string(export_onnx(untrained(FEATURES, CATEGORICAL), FEATURES[:5]))
    plain = onnx.load_model_from_string(export_onnx(untrained(FEATURES, CATEGORICAL), FEATURES[:5], trees=False))

    assert {node.domain for node in model.graph.node} == {"", "ai.onnx.ml"}  # standard operators only
    assert {node.domain for node in plain.graph.node} == {""}  # such as a GPU has
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


@given(st.data())
def test_a_value_is_found_at_the_same_place_by_trees_as_by_halving(data):
    number = st.floats(allow_nan=False, allow_infinity=False)
    rows = [sorted(set(data.draw(st.lists(number, min_size=1, max_size=16)))) for _ in range(3)]
    table = np.full((3, 16), np.inf)
    for row, known in zip(table, rows, strict=True):
        row[: len(known)] = known
    values = np.array(
        [data.draw(st.lists(number | st.sampled_from(rows[0]), min_size=3, max_size=3)) for _ in range(5)]
    )
    want = locate(torch.from_numpy(values), torch.from_numpy(table), 16).numpy()
    assert (found_by_trees(table, values) == want).all()


class Search(torch.nn.Module):
    def __init__(self, table):
        super().__init__()
        self.register_buffer("table", torch.from_numpy(table))

    def forward(self, values):
        return locate(values, self.table, 16, trees=True)


def found_by_trees(table, values):
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.onnx.export(
            Search(table),
            (torch.from_numpy(values),),
            file,
            opset_version=17,
            dynamo=False,
            custom_opsets={PLACEHOLDER: 1},
        )
    model = onnx.load_model_from_string(file.getvalue())
    as_trees(model)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: values})[0]
