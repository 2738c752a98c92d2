"""Other bundles than the champion that a training left."""

import msgspec
from onnx import TensorProto, helper

from tollgate.bundle import MODEL, Registry
from tollgate.duration import DAY_US


def variant(workspace, **changes):
    """Store a bundle that is the champion but for some fields of its manifest; return its id."""
    registry = Registry(workspace / "bundles")
    champion = registry.load()
    return registry.store(msgspec.structs.replace(champion.manifest, **changes), {MODEL: champion.read(MODEL)})


def other_features(workspace):
    """Return a plan like the champion's with one shorter window, which needs a state of its own."""
    plan = msgspec.json.encode(Registry(workspace / "bundles").load().manifest.plan)
    days_90, days_89 = (b"%d}" % (days * DAY_US) for days in (90, 89))
    assert days_90 in plan
    return msgspec.json.decode(plan.replace(days_90, days_89, 1))


def guessing(workspace):
    """Store a bundle like the champion whose model knows nothing: its logits are noise made of one feature."""
    champion = Registry(workspace / "bundles").load().manifest
    place = next(i for i, one in enumerate(champion.profiles) if one.missing == 0 and not one.categorical)
    nodes = [
        helper.make_node("Gather", ["features", "place"], ["column"], axis=1),
        helper.make_node("Mul", ["column", "large"], ["turned"]),
        helper.make_node("Cast", ["turned"], ["small"], to=TensorProto.FLOAT),
        helper.make_node("Sin", ["small"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes,
        "guess",
        [helper.make_tensor_value_info("features", TensorProto.DOUBLE, ["rows", len(champion.profiles)])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["rows", 1])],
        [
            helper.make_tensor("place", TensorProto.INT64, [1], [place]),
            helper.make_tensor("large", TensorProto.DOUBLE, [1], [1e4]),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return Registry(workspace / "bundles").store(champion, {MODEL: model.SerializeToString()})
