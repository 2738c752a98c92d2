"""A model that takes six times as long as a decision may."""

from __future__ import annotations

import time

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from benchmarks.faults import interface
from benchmarks.faults.client import Answer
from benchmarks.faults.ground import BUNDLES, SEED, Ground, Source
from benchmarks.faults.row import Row, Sizes
from benchmarks.faults.server import Server
from tollgate.bundle import MODEL

TAKES_MS = 300.0
_WIDTH, _ROWS = 512, 256  # of the products that take the time
_TRIED = 4  # products, to see how long one takes
_SLOW_S, _AGAIN_LIMIT_S = 8.0, 20.0
_MARGIN_MS = 50.0  # beyond the deadline, for a busy machine
_PAUSE_S = 0.02
_MS = 1e3


def slow_model(ground: Ground, _sizes: Sizes) -> Row:
    """Promote a slow bundle while the server decides, and then a quick one."""
    folder = ground.folder("slow-model", deadline_ms=interface.DEFAULT_DEADLINE_MS)
    registry = folder / BUNDLES
    good = interface.champion(registry)
    slow = interface.store_another(registry, slowed(good.read(MODEL)))
    source = Source(ground.traffic)
    with Server(folder) as server:
        client, internal = server.client(), server.internal()
        client.predict(source.body()[0])
        promoted = interface.promote(internal, slow.id)
        answers: list[Answer] = []
        opened = unready = False
        until = time.monotonic() + _SLOW_S
        while time.monotonic() < until:
            answers.append(client.predict(source.body()[0]))
            opened = opened or interface.metric(internal, interface.BREAKER) == 1
            unready = unready or server.ready() == 503
            time.sleep(_PAUSE_S)
        interface.promote(internal, good.id)
        normal = False
        until = time.monotonic() + _AGAIN_LIMIT_S
        while not normal and time.monotonic() < until:
            last = client.predict(source.body()[0])
            normal = b'"mode":"normal"' in last.body and server.ready() == 200
            time.sleep(_PAUSE_S)
        client.close()
        internal.close()
    degraded = [one for one in answers if b'"mode":"degraded"' in one.body and b'"model"' in one.body]
    p50, p99 = np.quantile([one.ms for one in degraded], (0.5, 0.99)) if degraded else (np.inf, np.inf)
    in_time = p99 <= interface.DEFAULT_DEADLINE_MS + _MARGIN_MS
    failed = sum(one.status != 200 for one in answers)
    return Row(
        "the model is slow",
        f"a bundle that takes {TAKES_MS:.0f} ms is promoted, then a quick one; deadline "
        f"{interface.DEFAULT_DEADLINE_MS} ms",
        f"answers in time (p99 within {_MARGIN_MS:.0f} ms of the deadline) in mode degraded, the model named as "
        "missing; the breaker opens; not ready; normal again after the promotion",
        f"promotion {promoted.status}; {len(degraded):,} of {len(answers):,} degraded, p50 {p50:.1f} ms, "
        f"p99 {p99:.1f} ms, {failed} failed; breaker {'opened' if opened else 'STAYED CLOSED'}; "
        f"{'not ready' if unready else 'READY'}; {'normal again' if normal else 'NOT NORMAL AGAIN'}",
        held=bool(degraded) and in_time and not failed and opened and unready and normal,
        figures={"degraded_p50_ms": float(p50), "degraded_p99_ms": float(p99)},
    )


def slowed(model: bytes) -> bytes:
    """Return a model that gives the same logits, after a detour of `TAKES_MS` on this machine."""
    per_product = (_seconds(_detoured(model, 2 * _TRIED)) - _seconds(_detoured(model, _TRIED))) / _TRIED
    return _detoured(model, max(round(TAKES_MS / _MS / per_product), 1))


def _detoured(model: bytes, products: int) -> bytes:
    """Return a model whose logits have 0 times the outcome of some matrix products added.

    The products begin with the first row's first feature, so that nothing can compute them beforehand.
    """
    made = onnx.load_from_string(model)
    graph = made.graph
    logits = graph.output[0].name
    for node in graph.node:
        node.output[:] = ["quick" if name == logits else name for name in node.output]
    rng = np.random.default_rng(SEED)
    weights = rng.normal(0, 1 / np.sqrt(_WIDTH), (_WIDTH, _WIDTH)).astype(np.float32)
    constants = {
        "slow_axes": np.array([0, 1], dtype=np.int64),
        "slow_ends": np.array([1, 1], dtype=np.int64),
        "slow_starts": np.array([0, 0], dtype=np.int64),
        "slow_rows": np.ones((_ROWS, _WIDTH), dtype=np.float32),
        "slow_none": np.zeros((), dtype=np.float32),
        "slow_weights": weights,
    }
    graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in constants.items())
    node = helper.make_node
    nodes = [
        node("Slice", [graph.input[0].name, "slow_starts", "slow_ends", "slow_axes"], ["slow_cell"]),
        node("Cast", ["slow_cell"], ["slow_float"], to=TensorProto.FLOAT),
        node("IsNaN", ["slow_float"], ["slow_missing"]),
        node("Where", ["slow_missing", "slow_none", "slow_float"], ["slow_number"]),
        node("Tanh", ["slow_number"], ["slow_small"]),
        node("Add", ["slow_rows", "slow_small"], ["slow_0"]),
    ]
    for place in range(products):
        nodes += [
            node("MatMul", [f"slow_{place}", "slow_weights"], [f"slow_product_{place}"]),
            node("Tanh", [f"slow_product_{place}"], [f"slow_{place + 1}"]),
        ]
    nodes += [
        node("ReduceMean", [f"slow_{products}"], ["slow_mean"], keepdims=0),
        node("Mul", ["slow_mean", "slow_none"], ["slow_nothing"]),
        node("Add", ["quick", "slow_nothing"], [logits]),
    ]
    graph.node.extend(nodes)
    onnx.checker.check_model(made)
    return bytes(made.SerializeToString())


def _seconds(model: bytes) -> float:
    """Return the shortest of a few runs on one thread, in seconds."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    (given,) = session.get_inputs()
    row = np.zeros((1, given.shape[1]))
    taken = []
    for _ in range(5):
        begun = time.perf_counter()
        session.run(None, {given.name: row})
        taken.append(time.perf_counter() - begun)
    return min(taken)
