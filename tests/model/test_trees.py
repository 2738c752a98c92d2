from dataclasses import replace

import lightgbm
import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tollgate.errors import ModelError
from tollgate.model.trees import Trees, _compare, encode, export_trees, fit_vocabularies

NUMBERS, SIZES = 4, (3, 40, 300)  # numeric features; how many codes each category has
CATEGORICAL = (False,) * NUMBERS + (True,) * len(SIZES)
TOLERANCE = 2e-6  # of a logit below 10: the graph adds in double and gives float


def rows(seed, count=1500):
    """Numbers of which the first two may be missing, categories that matter, and labels."""
    rng = np.random.default_rng(seed)
    numbers = rng.lognormal(0.0, 3.0, (count, NUMBERS))
    numbers[:, 1] = rng.normal(size=count)
    numbers[:, 3] = rng.poisson(1.0, count)
    numbers[:, :2][rng.random((count, 2)) < 0.2] = np.nan
    effect, columns = np.nan_to_num(numbers[:, 1]) + (numbers[:, 3] > 1), []
    for size in SIZES:
        codes = rng.integers(0, 2**52, size).astype(float)
        at = rng.integers(0, size, count)
        effect += rng.normal(size=size)[at]
        columns.append(np.where(rng.random(count) < 0.1, np.nan, codes[at]))
    return np.column_stack((numbers, *columns)), effect + rng.normal(size=count) > 1.5


def grown(features, is_fraud, categorical=CATEGORICAL, count=30, **parameters):
    vocabularies = fit_vocabularies(features, categorical)
    data = lightgbm.Dataset(
        encode(features, vocabularies),
        is_fraud,
        categorical_feature=[place for place, is_category in enumerate(categorical) if is_category],
    )
    fixed = {"objective": "binary", "verbosity": -1, "num_threads": 1, "cat_smooth": 1, "min_data_per_group": 5}
    return Trees(lightgbm.train({**fixed, **parameters}, data, count), vocabularies, 1)


def run(model, features):
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    (logits,) = session.run(None, {"features": features})
    assert logits.shape == (len(features), 1)
    assert logits.dtype == np.float32
    return logits[:, 0]


def stirred(features, model, seed):
    """The rows with anything put anywhere: missing, zeros, infinities, unknown codes, and the thresholds themselves."""
    rng = np.random.default_rng(seed)
    (node,) = onnx.load_model_from_string(model).graph.node
    (values,) = [one.t for one in node.attribute if one.name == "nodes_values_as_tensor"]
    thresholds = onnx.numpy_helper.to_array(values)
    found = features.copy()
    for share, choices in (
        (0.2, [np.nan]),
        (0.2, [0.0, -0.0, np.inf, -np.inf, 5e-324, -5e-324, 1e-35, -1e-35, 1e300, -1.0]),
        (0.3, thresholds),
        (0.2, np.nextafter(thresholds, np.inf)),
    ):
        chosen = rng.random(found.shape) < share
        found[chosen] = rng.choice(choices, np.count_nonzero(chosen))
    return found


@pytest.mark.parametrize("seed", range(4))
def test_the_graph_gives_lightgbms_logits_on_any_row(seed):
    features, is_fraud = rows(seed)
    trees = grown(features, is_fraud, max_cat_to_onehot=(1, 4, 50, 4)[seed], max_cat_threshold=(32, 400)[seed % 2])
    model = export_trees(trees, features[:50])

    for one in (features, stirred(features, model, seed)):
        assert run(model, one) == pytest.approx(trees.logits(one), abs=TOLERANCE)
    assert len(set(trees.logits(features).tolist())) > 100


@settings(max_examples=30, deadline=None)
@given(data=st.data(), few=st.integers(2, 60), seed=st.integers(0, 2**32 - 1))
def test_small_trees_over_awkward_numbers_agree_too(data, few, seed):
    """Hypothesis puts thresholds where it hurts: at zero, next to it, at infinity, at neighbours."""
    value = st.one_of(
        st.floats(-1e299, 1e299), st.sampled_from([0.0, np.nan, np.inf, -np.inf, 1.0, -1.0, 1e-35, -1e-36])
    )
    column = np.array(data.draw(st.lists(value, min_size=few, max_size=few)))
    rng = np.random.default_rng(seed)
    features = np.column_stack((column, rng.choice([1.0, 2.0**51, 2.0**51 + 1], few)))
    trees = grown(
        features,
        rng.random(few) < 0.5,
        (False, True),
        count=3,
        min_data_in_leaf=1,
        min_sum_hessian_in_leaf=0.0,
        min_data_in_bin=1,
    )
    export_trees(trees, np.concatenate((features, features[:, ::-1], np.nextafter(features, np.inf))))


def test_a_split_between_missing_and_not_leaves_infinity_with_the_numbers():
    features = np.random.default_rng(0).normal(size=(400, 1))
    features[:150] = np.nan
    trees = grown(features, np.isnan(features[:, 0]), (False,), num_leaves=2)
    asked = np.array([[np.inf], [-np.inf], [1e301], [0.0], [np.nan]])

    logits = run(export_trees(trees, features), asked)

    assert logits == pytest.approx(trees.logits(asked), abs=TOLERANCE)
    assert logits[0] == logits[3] < logits[4]


@pytest.mark.parametrize("sign", [-1.0, 1.0])
def test_what_lightgbm_reads_as_zero_is_zero(sign):
    features = np.repeat([[-1.0], [0.0], [1.0]], 100, axis=0)
    trees = grown(features, sign * features[:, 0] > 0, (False,), num_leaves=2)
    edge = float(np.float32(1e-35))
    asked = np.array([[-2 * edge], [-edge], [-5e-324], [0.0], [5e-324], [edge], [np.nextafter(edge, 1)]])

    logits = run(export_trees(trees, features), asked)

    assert logits == pytest.approx(trees.logits(asked), abs=TOLERANCE)
    assert len(set(logits[1:6].tolist())) == 1
    assert len(set(logits.tolist())) == 2


def test_trees_that_could_not_split_are_a_constant():
    features, is_fraud = rows(0, 50)
    trees = grown(features, is_fraud, min_data_in_leaf=1000)

    logits = run(export_trees(trees, features), features)

    assert set(logits.tolist()) == {np.float32(trees.logits(features[:1])[0])}


def test_codes_that_float32_cannot_tell_apart_are_told_apart():
    codes = 2.0**52 + np.arange(4)
    features = np.random.default_rng(0).choice(codes, (400, 1))
    trees = grown(features, features[:, 0] == codes[2], (True,))

    logits = run(export_trees(trees, features[:9]), np.vstack((codes[:, None], [[2.0**52 + 9]])))

    assert np.argmax(logits) == 2
    assert logits[2] > logits[[0, 1, 3, 4]].max() + 1.0


def test_a_category_that_is_never_known_is_no_obstacle():
    features, is_fraud = rows(0, 200)
    features[:, NUMBERS] = np.nan
    trees = grown(features, is_fraud)

    assert run(export_trees(trees, features), features) == pytest.approx(trees.logits(features), abs=TOLERANCE)


def test_the_graph_is_one_standard_operator_with_double_input():
    features, is_fraud = rows(0, 300)
    model = onnx.load_model_from_string(export_trees(grown(features, is_fraud), features[:5]))

    assert [node.op_type for node in model.graph.node] == ["TreeEnsembleRegressor"]
    assert model.graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.DOUBLE
    assert model.graph.output[0].name == "logits"


def test_the_same_trees_give_the_same_bytes():
    features, is_fraud = rows(0, 300)
    first, again = (export_trees(grown(features, is_fraud), features[:5]) for _ in range(2))

    assert first == again


def test_a_graph_that_gives_other_logits_is_refused():
    features, is_fraud = rows(0, 300)
    trees = grown(features, is_fraud)
    other = replace(trees, booster=grown(features, ~is_fraud).booster)

    with pytest.raises(ModelError, match="they differ by") as caught:
        _compare(other, export_trees(trees, features[:5]), features[:5])
    assert caught.value.code == "export_disagrees"


def test_trees_that_take_zero_for_missing_are_refused():
    features, is_fraud = rows(0, 600)

    with pytest.raises(ModelError, match="fit without zero_as_missing") as caught:
        export_trees(grown(features, is_fraud, zero_as_missing=True), features[:5])
    assert caught.value.code == "unsupported_trees"


def test_an_unknown_code_is_encoded_as_missing():
    features = np.array([[5.0, 1.0], [7.0, 2.0], [7.0, 3.0]])
    vocabularies = fit_vocabularies(features, (True, False))

    found = encode(np.array([[7.0, 9.0], [6.0, 9.0], [np.nan, 9.0], [8.0, 9.0]]), vocabularies)

    assert np.array_equal(found, [[1.0, 9.0], [np.nan, 9.0], [np.nan, 9.0], [np.nan, 9.0]], equal_nan=True)
