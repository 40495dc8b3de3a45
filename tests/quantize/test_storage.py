"""Weights kept as int8: numbers, who may read them, and what is left alone."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from optimizer.quantize import storage
from optimizer.runtime.optimized import optimized
from optimizer.runtime.session import open_session
from tests.quantize.nets import Array, build, evaluate, feeds, noise, normal, ops

I64 = np.int64
LSTM = {"w": normal(2, 64, 24, scale=0.2), "r": normal(2, 64, 16, scale=0.2)}
READERS: dict[str, tuple[str, dict[str, Array]]] = {
    "MatMul": ("float[2,40] x) => (y) { y = MatMul(x, w)", {"w": normal(40, 50)}),
    "MatMul, weight on the left": ("float[40,3] x) => (y) { y = MatMul(w, x)", {"w": normal(50, 40)}),
    "MatMul of a stack": ("float[3,2,40] x) => (y) { y = MatMul(x, w)", {"w": normal(3, 40, 50)}),
    "Gemm": ("float[2,40] x) => (y) { y = Gemm(x, w)", {"w": normal(40, 50)}),
    "Gemm transB": ("float[2,40] x) => (y) { y = Gemm <transB = 1> (x, w)", {"w": normal(50, 40)}),
    "Conv": ("float[1,8,5,5] x) => (y) { y = Conv(x, w)", {"w": normal(16, 8, 3, 3)}),
    "ConvTranspose": ("float[1,16,5,5] x) => (y) { y = ConvTranspose(x, w)", {"w": normal(16, 8, 3, 3)}),
    "LSTM": (
        "float[5,2,24] x) => (y) { y = LSTM <hidden_size = 16, direction = \"bidirectional\"> (x, w, r)",
        LSTM,
    ),
    "GRU": (
        "float[5,2,24] x) => (y) { y = GRU <hidden_size = 24> (x, w, r)",
        {"w": normal(1, 72, 24, scale=0.2), "r": normal(1, 72, 24, scale=0.2)},
    ),
    "Gather": ("int64[2,3] x) => (y) { y = Gather(w, x)", {"w": normal(60, 40)}),
    "Add": ("float[1,30,50] x) => (y) { y = Add(x, w)", {"w": normal(1, 30, 50)}),
}  # fmt: skip


def net(text: str, arrays: dict[str, Array], opset: int = 21) -> ir.Model:
    return build("g (" + text + " }", arrays, opset=opset)


@pytest.mark.parametrize("name", READERS)
def test_each_reader_computes_nearly_what_it_did(name: str) -> None:
    model = net(*READERS[name])
    stored = model.clone()
    assert storage.store(stored) == {model.graph[0].name}
    assert not set(READERS[name][1]) & set(stored.graph.initializers)
    for feed in feeds(model, 3):
        assert noise(evaluate(stored, feed)[0], evaluate(model, feed)[0]) < 0.01


@pytest.mark.parametrize("name", [name for name in READERS if name not in ("Gather", "Add", "MatMul of a stack")])
def test_slices_of_very_different_size_keep_their_own_scale(name: str) -> None:
    text, arrays = READERS[name]
    axis = {"MatMul": 1, "Gemm": 1, "LSTM": 1, "GRU": 1}.get(name, 0)
    loud = {
        key: array
        * np.geomspace(1e-3, 1, array.shape[axis], dtype=np.float32).reshape(
            [-1 if i == axis else 1 for i in range(array.ndim)]
        )
        for key, array in arrays.items()
    }
    model = net(text, loud)
    stored = model.clone()
    storage.store(stored)
    for key, array in loud.items():
        integers, scale = (stored.graph.initializers[f"{key}_{part}"].const_value.numpy() for part in ("int8", "scale"))
        assert integers.dtype == np.int8
        again = integers.astype(np.float32) * scale
        others = tuple(i for i in range(array.ndim) if i != axis)
        error = np.sqrt(np.square(again - array).mean(others) / np.square(array).mean(others))
        assert error.max() < 0.02


@pytest.mark.parametrize("name", [name for name in READERS if name != "Gather"])
def test_the_runtime_restores_the_float_weights_when_it_loads(name: str) -> None:
    model = net(*READERS[name])
    storage.store(model)
    left = [node.op_type for node in optimized(model).graph]
    assert not {"Cast", "DequantizeLinear"} & set(left)
    assert left.count("Mul") == 0


def test_a_large_table_stays_int8_in_memory() -> None:
    model = net("int64[2,3] x) => (y) { y = Gather(w, x)", {"w": normal(4096, 256)})
    stored = model.clone()
    storage.store(stored)
    gather = next(node for node in stored.graph if node.op_type == "Gather")
    assert gather.inputs[0] is not None and gather.inputs[0].dtype == ir.DataType.INT8
    feed = {"x": np.array([[0, 17, -1], [4095, 5, 17]], I64)}
    assert noise(evaluate(stored, feed)[0], evaluate(model, feed)[0]) < 0.01
    assert open_session(stored).run(feed)[0].shape == (2, 3, 256)
    left = [node for node in optimized(stored).graph if node.op_type == "Gather"]
    assert ir.DataType.INT8 in {node.inputs[0].dtype for node in left if node.inputs[0] is not None}


def test_a_large_table_that_is_looked_up_straight_into_an_output_keeps_the_outputs_name() -> None:
    model = build(
        "g (int64[2] x) => (float[2,256] y, float[2,256] z) { y = Gather(w, x) z = Neg(y) }", {"w": normal(4096, 256)}
    )
    stored = model.clone()
    storage.store(stored)
    assert [(value.name, value.dtype) for value in stored.graph.outputs] == [
        ("y", ir.DataType.FLOAT), ("z", ir.DataType.FLOAT)
    ]  # fmt: skip
    for got, want in zip(
        evaluate(stored, {"x": np.array([1, 2])}), evaluate(model, {"x": np.array([1, 2])}), strict=True
    ):
        assert noise(got, want) < 0.01


def test_a_large_table_that_is_multiplied_with_too_is_restored_for_all() -> None:
    model = net("int64[2] x) => (y) { e = Gather(w, x) t = Transpose(w) y = MatMul(e, t)", {"w": normal(4096, 256)})
    stored = model.clone()
    storage.store(stored)
    assert noise(evaluate(stored, {"x": np.array([1, 2])})[0], evaluate(model, {"x": np.array([1, 2])})[0]) < 0.01


def test_a_large_table_of_two_lookups_serves_both() -> None:
    body = "int64[2] x, int64[3] v) => (y, z) { y = Gather(w, x) z = Gather(w, v)"
    model = net(body, {"w": normal(4096, 256)})
    stored = model.clone()
    storage.store(stored)
    feed = {"x": np.array([1, 2]), "v": np.array([3, 4, 5])}
    for got, want in zip(evaluate(stored, feed), evaluate(model, feed), strict=True):
        assert noise(got, want) < 0.01


def test_a_lookup_along_another_axis_is_no_row_lookup() -> None:
    model = net("int64[2] x) => (y) { y = Gather <axis = 1> (w, x)", {"w": normal(256, 4096)})
    stored = model.clone()
    storage.store(stored)
    assert noise(evaluate(stored, {"x": np.array([1, 2])})[0], evaluate(model, {"x": np.array([1, 2])})[0]) < 0.01


BODY = """float[2,40] x, bool c) => (float[2,50] y) { y = If (c)
    <then_branch = t () => (float[2,50] p) { [one] p = MatMul(x, w) },
     else_branch = e () => (float[2,50] q) { [other] q = Gemm(x, w) }>"""


def test_readers_inside_bodies_are_served_too() -> None:
    model = net(BODY, {"w": normal(40, 50)})
    stored = model.clone()
    assert storage.store(stored) == {"one", "other"}
    for flag in (True, False):
        feed = feeds(model)[0] | {"c": np.array(flag)}
        assert noise(open_session(stored).run(feed)[0], evaluate(model, feed)[0]) < 0.01


def test_a_large_table_looked_up_inside_a_body_is_served_too() -> None:
    body = """int64[2] x, bool c) => (float[2,256] y) { y = If (c)
    <then_branch = t () => (float[2,256] p) { p = Gather(w, x) },
     else_branch = e () => (float[2,256] q) { r = Gather(w, x) q = Neg(r) }>"""
    model = net(body, {"w": normal(4096, 256)})
    stored = model.clone()
    storage.store(stored)
    for flag in (True, False):
        feed = {"x": np.array([3, 4]), "c": np.array(flag)}
        assert noise(open_session(stored).run(feed)[0], evaluate(model, feed)[0]) < 0.01


LEFT: dict[str, tuple[str, dict[str, Array]]] = {
    "a small weight": ("float[2,4] x) => (y) { y = MatMul(x, w)", {"w": normal(4, 5)}),
    "a long vector": ("float[2,5000] x) => (y) { y = Add(x, w)", {"w": normal(5000)}),
    "integers": ("int64[2,40] x) => (y) { y = MatMul(x, w)", {"w": np.ones((40, 50), I64)}),
    "float64": ("double[2,40] x) => (y) { y = MatMul(x, w)", {"w": np.ones((40, 50))}),
    "float16": ("float16[2,40] x) => (y) { y = MatMul(x, w)", {"w": np.ones((40, 50), np.float16)}),
    "a weight nobody reads": ("float[2] x) => (y) { y = Neg(x)", {"w": normal(40, 50)}),
}


@pytest.mark.parametrize("name", LEFT)
def test_what_would_not_pay_is_left_alone(name: str) -> None:
    model = net(*LEFT[name])
    assert storage.store(model) == set()
    assert list(model.graph.initializers) == ["w"]
    assert len(model.graph) == 1


def test_a_weight_that_is_a_graph_output_is_left_alone() -> None:
    model = build("g (float[2,40] x) => (float[2,50] y, float[40,50] w) { y = MatMul(x, w) }", {"w": normal(40, 50)})
    assert storage.store(model) == set()


def test_a_channel_of_zeros_stays_zero() -> None:
    weight = normal(40, 50)
    weight[:, 3] = 0
    model = net("float[2,40] x) => (y) { y = MatMul(x, w)", {"w": weight})
    storage.store(model)
    assert (evaluate(model, feeds(model)[0])[0][:, 3] == 0).all()


def test_the_names_that_storage_gives_may_be_taken() -> None:
    body = "float[2,40] x) => (y) { w_cast = MatMul(x, w) s = Mul(w_cast, w_scale) y = Add(s, w_int8)"
    model = net(body, {"w": normal(40, 50), "w_scale": normal(50), "w_int8": normal(50)})
    stored = model.clone()
    storage.store(stored)
    assert noise(open_session(stored).run(feeds(model)[0])[0], evaluate(model, feeds(model)[0])[0]) < 0.01


def test_a_model_without_large_weights_gains_no_node() -> None:
    model = net("float[2] x) => (y) { y = Neg(x)", {})
    assert storage.store(model) == set()
    assert ops(model) == {"Neg": 1}
