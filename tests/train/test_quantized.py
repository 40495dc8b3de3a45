"""Straight-through quantization: the gradient against its definition, and int8 models that stay int8."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

torch = pytest.importorskip("torch", reason="needs the extra 'train' (torch)")

from optimizer.train.constants import constants  # noqa: E402
from optimizer.train.evaluator import Evaluator  # noqa: E402
from optimizer.train.parameters import Parameters  # noqa: E402
from tests.builders import model  # noqa: E402
from tests.train.moved import moved, rows  # noqa: E402
from tests.train.oracle import parity  # noqa: E402

QDQ = """g (float[n,3] x) => (float[n,2] y) <
    float xs = {0.02}, uint8 xz = {128}, float[2] ws = {0.01, 0.02}, int8[2] wz = {0, 0},
    int8[2,3] w = {64, -30, 0, 20, 33, -64}, int32[2] b = {1000, -500}, float[2] bs = {0.0002, 0.0004},
    int32[2] bz = {0, 0}, float ys = {0.05}, uint8 yz = {100}> {
    xq = QuantizeLinear(x, xs, xz) xf = DequantizeLinear(xq, xs, xz)
    wf = DequantizeLinear<axis=0>(w, ws, wz) bf = DequantizeLinear<axis=0>(b, bs, bz)
    h = Gemm<transB=1>(xf, wf, bf)
    hq = QuantizeLinear(h, ys, yz) hf = DequantizeLinear(hq, ys, yz) y = Identity(hf) }"""


def test_quantization_passes_the_gradient_inside_the_range_and_the_step_size_gets_its_own() -> None:
    graph = model("""g (float[5] x, float s) => (float[5] y) <uint8 z = {10}> {
        q = QuantizeLinear(x, s, z) y = DequantizeLinear(q, s, z) }""")
    x = torch.tensor([-100.0, -0.26, 0.1, 3.33, 500.0], requires_grad=True)
    s = torch.tensor(0.5, requires_grad=True)
    Evaluator(graph).run({"x": x, "s": s})["y"].sum().backward()
    assert x.grad.tolist() == [0, 1, 1, 1, 0]
    ratio = x.detach()[1:4] / 0.5
    assert float(s.grad) == pytest.approx(float((ratio.round() - ratio).sum()) + (0 - 10) + (255 - 10), rel=1e-5)


def test_an_int8_model_computes_what_onnx_runtime_does() -> None:
    assert parity(model(QDQ), {"x": rows()}) < 1e-5


def test_weights_biases_and_scales_of_an_int8_model_are_learnt() -> None:
    graph = model(QDQ)
    assert set(Parameters(Evaluator(graph), graph).tensors) == {"xs", "ws", "w", "b", "ys"}


def test_an_untouched_int8_model_is_written_back_as_it_was() -> None:
    graph = model(QDQ)
    copy = graph.clone()
    Parameters(Evaluator(graph), graph).write(copy)
    for name, constant in constants(graph).items():
        assert np.allclose(constants(copy)[name].array(), constant.array(), rtol=1e-6), name


def test_a_tuned_int8_model_is_int8_and_answers_in_onnx_runtime_as_in_torch() -> None:
    graph = model(QDQ)
    parameters, copy = moved(graph)
    stored = constants(copy)
    assert stored["w"].dtype == ir.DataType.INT8
    assert stored["b"].dtype == ir.DataType.INT32
    assert not np.array_equal(stored["w"].array(), constants(graph)["w"].array())
    assert parity(copy, {"x": rows()}) < 1e-5
    with torch.no_grad():
        inside = parameters_run(parameters, graph)
    assert np.allclose(inside, Evaluator(copy).numpy({"x": rows()})[0], atol=1e-5)


def parameters_run(parameters: Parameters, graph: ir.Model) -> Any:
    found = Evaluator(graph).run({"x": torch.from_numpy(rows())}, parameters.given())
    return found["y"].numpy()


def test_the_scale_of_a_bias_stays_the_product_of_its_operands_scales() -> None:
    _, copy = moved(model(QDQ))
    stored = {name: constant.array() for name, constant in constants(copy).items()}
    assert stored["xs"] != pytest.approx(0.02)
    assert np.allclose(stored["bs"], stored["xs"] * stored["ws"], rtol=1e-5)
    assert np.allclose(stored["b"] * stored["bs"], [0.2, -0.2], atol=0.2)


def test_scales_that_were_equal_stay_equal() -> None:
    graph = model("""g (float[1,1,4,4] x) => (float[1,1,2,2] y) <float a = {0.02}, float b = {0.02}, uint8 z = {0},
        float c = {0.03}> {
        q = QuantizeLinear(x, a, z) f = DequantizeLinear(q, a, z) p = MaxPool<kernel_shape=[2,2], strides=[2,2]>(f)
        r = QuantizeLinear(p, b, z) s = DequantizeLinear(r, b, z) t = QuantizeLinear(s, c, z)
        y = DequantizeLinear(t, c, z) }""")
    _, copy = moved(graph)
    stored = {name: float(constant.array()) for name, constant in constants(copy).items()}
    assert stored["a"] == stored["b"] != pytest.approx(0.02)
    assert stored["c"] != stored["a"]


def test_weights_of_seven_bits_stay_within_them() -> None:
    _, copy = moved(model(QDQ), by=3.0)
    assert np.abs(constants(copy)["w"].array().astype(int)).max() <= 64


def table(values: str) -> ir.Model:
    return model(f"""g (float[n,4] x) => (float[n,4] y) <float s = {{0.01}}, int8[4,4] w = {{{values}}}> {{
        f = DequantizeLinear(w, s) y = MatMul(x, f) }}""")


def test_zeros_that_were_pruned_stay_and_those_that_were_rounded_move() -> None:
    pruned = table("0, 9, 0, 1, 0, -7, 0, 30, 0, 0, 25, 0, 4, 0, 0, -90")
    rounded = table("0, 1, -1, 1, 2, -7, -2, 30, 1, 0, 25, -1, 4, 3, -3, -90")
    before, (_, after) = constants(pruned)["w"].array(), moved(pruned)
    assert (constants(after)["w"].array()[before == 0] == 0).all()
    before, (_, after) = constants(rounded)["w"].array(), moved(rounded)
    assert (constants(after)["w"].array()[before == 0] != 0).any()


@pytest.mark.parametrize("kind", ["int4", "uint4"])
def test_four_bit_weights_stay_four_bit(kind: str) -> None:
    graph = model(
        f"""g (float[n,2] x) => (float[n,2] y) <float s = {{0.1}}, {kind}[2,2] w = {{1, 2, 3, 4}}> {{
        f = DequantizeLinear(w, s) y = MatMul(x, f) }}""",
        opset=21,
        ir_version=10,
    )
    _, copy = moved(graph)
    assert constants(copy)["w"].dtype == constants(graph)["w"].dtype
    assert parity(copy, {"x": rows()[:, :2]}) < 1e-5


def test_blocks_along_an_axis_have_scales_of_their_own() -> None:
    graph = model(
        """g (float[n,4] x) => (float[n,2] y) <float[2,2] s = {0.1, 0.2, 0.3, 0.4},
        int8[4,2] w = {1, 2, 3, 4, 5, 6, 7, 8}> {
        f = DequantizeLinear<axis=0, block_size=2>(w, s) y = MatMul(x, f) }""",
        opset=21,
        ir_version=10,
    )
    feed = {"x": np.random.default_rng(0).normal(0, 1, (3, 4)).astype(np.float32)}
    assert parity(graph, feed) < 1e-5
    _, copy = moved(graph)
    assert parity(copy, feed) < 1e-5
