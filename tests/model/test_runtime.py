import subprocess
import sys

import numpy as np
import pytest
from onnx import TensorProto, helper

from learning import CATEGORICAL, payments, untrained
from tollgate.errors import ModelError
from tollgate.model.export import export_onnx
from tollgate.model.runtime import MAX_RUN_ROWS, OnnxRuntime

FEATURES = payments(500).features


def summing(element=TensorProto.DOUBLE, width=3):
    """A model whose logit is the sum of the features."""
    node = helper.make_node("ReduceSum", ["x", "axes"], ["y"], keepdims=1)
    graph = helper.make_graph(
        [node],
        "sum",
        [helper.make_tensor_value_info("x", element, ["n", width])],
        [helper.make_tensor_value_info("y", element, ["n", 1])],
        [helper.make_tensor("axes", TensorProto.INT64, [1], [1])],
    )
    opset = helper.make_opsetid("", 17)
    return helper.make_model(graph, opset_imports=[opset], ir_version=8).SerializeToString()


def test_it_runs_a_model_from_a_file_and_from_bytes(tmp_path):
    model = export_onnx(untrained(FEATURES, CATEGORICAL), FEATURES[:5])
    (tmp_path / "model.onnx").write_bytes(model)

    from_file, from_bytes = OnnxRuntime(tmp_path / "model.onnx"), OnnxRuntime(model)
    from_file.warm_up()

    assert from_file.width == 4
    assert from_file.logits(FEATURES).dtype == np.float64
    assert np.array_equal(from_file.logits(FEATURES), from_bytes.logits(FEATURES))


def test_a_large_batch_is_cut_and_put_together_in_order():
    features = np.random.default_rng(0).random((2 * MAX_RUN_ROWS + 7, 3))

    assert OnnxRuntime(summing()).logits(features) == pytest.approx(features.sum(axis=1, keepdims=True))


def test_no_rows_give_no_logits():
    assert OnnxRuntime(summing()).logits(np.empty((0, 3))).shape == (0, 1)


def test_a_column_major_batch_is_read_right():
    features = np.asfortranarray(np.arange(12.0).reshape(4, 3))

    assert OnnxRuntime(summing()).logits(features).tolist() == [[3.0], [12.0], [21.0], [30.0]]


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_is_an_error_and_no_score(value):
    features = np.ones((5, 3))
    features[2, 1] = value

    with pytest.raises(ModelError, match="1 of 5") as caught:
        OnnxRuntime(summing()).logits(features)
    assert caught.value.code == "bad_score"


def test_features_of_another_width_are_refused():
    with pytest.raises(ModelError, match=r"\(N, 3\), but got \(2, 4\)"):
        OnnxRuntime(summing()).logits(np.ones((2, 4)))


def test_a_failure_inside_the_model_is_a_model_error():
    graph = helper.make_graph(
        [helper.make_node("Reshape", ["x", "shape"], ["y"])],
        "six",
        [helper.make_tensor_value_info("x", TensorProto.DOUBLE, ["n", 3])],
        [helper.make_tensor_value_info("y", TensorProto.DOUBLE, ["m", 1])],
        [helper.make_tensor("shape", TensorProto.INT64, [2], [6, 1])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    runtime = OnnxRuntime(model.SerializeToString())

    assert runtime.logits(np.ones((2, 3))).tolist() == [[1.0]] * 6
    with pytest.raises(ModelError, match="could not score 3 transactions") as caught:
        runtime.logits(np.ones((3, 3)))
    assert caught.value.code == "model_failed"


@pytest.mark.parametrize("model", [b"", b"not a model", summing(TensorProto.FLOAT), summing()[:-9]])
def test_what_is_no_such_model_is_refused(model):
    with pytest.raises(ModelError) as caught:
        OnnxRuntime(model)
    assert caught.value.code == "bad_model"


def test_a_missing_file_and_a_missing_provider_are_refused(tmp_path):
    with pytest.raises(ModelError, match="could not load"):
        OnnxRuntime(tmp_path / "none.onnx")
    with pytest.raises(ModelError, match="NoSuchProvider") as caught:
        OnnxRuntime(summing(), providers=("NoSuchProvider",))
    assert caught.value.code == "no_provider"


def test_serving_needs_nothing_of_the_training_extra():
    """The serving image has no PyTorch: what it imports must not either."""
    code = (
        "import sys, tollgate.bundle, tollgate.model.runtime, tollgate.model.calibration\n"
        "print(*{'torch', 'sklearn', 'lightgbm', 'matplotlib', 'jinja2', 'onnx', 'safetensors'} & set(sys.modules))"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == ""
