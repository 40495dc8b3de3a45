"""Models of the runtime's own quantized operators learn too, and stay what they are."""

from __future__ import annotations

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

DYNAMIC = """g (float[n,3] x) => (float[n,2] y) <int8[3,2] w = {10, -20, 30, 40, -50, 60}, int8 wz = {0},
    float ws = {0.02}, float[2] b = {0.5, -0.5}> {
    q, s, z = DynamicQuantizeLinear(x) m = MatMulInteger(q, w, z, wz) f = Cast<to=1>(m) t = Mul(s, ws)
    p = Mul(f, t) y = Add(p, b) }"""
OPERATORS = """g (float[1,2,4,4] x) => (float[1,2,4,4] y) <float xs = {0.02}, uint8 xz = {128},
    int8[2,2,1,1] w = {10, -20, 30, 40}, float[2] ws = {0.01, 0.02}, int8[2] wz = {0, 0}, float ys = {0.03},
    uint8 yz = {120}, int32[2] b = {500, -700}> {
    q = QuantizeLinear(x, xs, xz) c = QLinearConv(q, xs, xz, w, ws, wz, ys, yz, b) y = DequantizeLinear(c, ys, yz) }"""


def test_a_dynamically_quantized_model_is_learnt_too() -> None:
    graph = model(DYNAMIC)
    assert parity(graph, {"x": rows()}) < 1e-4
    parameters, copy = moved(graph)
    assert {"w", "b"} <= set(parameters.tensors)
    assert constants(copy)["w"].dtype == ir.DataType.INT8
    assert parity(copy, {"x": rows()}) < 1e-4


def test_a_model_of_quantized_operators_is_learnt_too() -> None:
    graph = model(OPERATORS)
    feed = {"x": np.random.default_rng(0).normal(0, 1, (1, 2, 4, 4)).astype(np.float32)}
    assert parity(graph, feed) < 1e-5
    parameters, copy = moved(graph)
    assert set(parameters.tensors) == {"w", "b", "xs", "ws", "ys"}
    assert parity(copy, feed) < 1e-5


STORED = """g (float[n,3] x) => (float[n,2] y) <int8[3,2] w = {10, -20, 30, 0, -50, 60}, float[1,2] s = {0.02, 0.03}> {
    c = Cast<to=1>(w) r = Mul(c, s) y = MatMul(x, r) }"""


def test_a_weight_that_is_only_stored_as_int8_is_learnt_and_stays_int8() -> None:
    graph = model(STORED)
    parameters, copy = moved(graph)
    assert set(parameters.tensors) == {"w", "s"}
    stored = constants(copy)["w"]
    assert stored.dtype == ir.DataType.INT8
    assert not np.array_equal(stored.array(), constants(graph)["w"].array())
    assert parity(copy, {"x": rows()}) < 1e-5


MS = ', "com.microsoft": 1'


def blocks(bits: int, more: str = "", inputs: str = "") -> ir.Model:
    """x [n, 20] times weights of 3 outputs in 2 blocks of 16 inputs, of which the last lacks 12."""
    size = 16 * bits // 8
    random = np.random.default_rng(3)
    stored = ", ".join(str(byte) for byte in random.integers(0, 256, 3 * 2 * size))
    scales = "0.02, -0.03, 0.01, 0.02, 0.04, -0.01"
    return model(
        f"""g (float[n,20] x) => (float[n,3] y) <uint8[3,2,{size}] w = {{{stored}}},
        float[6] s = {{{scales}}} {more}> {{
        y = com.microsoft.MatMulNBits<K=20, N=3, bits={bits}, block_size=16>(x, w, s{inputs}) }}""",
        extra_opsets=MS,
    )


ZEROS = ", uint8[3] z = {120, 53, 200}", ", z"
BIAS = ", float[3] b = {0.5, -0.5, 1}", ", , , b"
WIDE = {"x": np.random.default_rng(0).normal(0, 1, (5, 20)).astype(np.float32)}


@pytest.mark.parametrize("graph", [blocks(4), blocks(4, *ZEROS), blocks(4, *BIAS), blocks(8), blocks(2)])
def test_weights_in_blocks_of_few_bits_are_learnt_and_stay_packed(graph: ir.Model) -> None:
    assert parity(graph, WIDE) < 1e-5
    parameters, copy = moved(graph)
    assert {"w", "s"} <= set(parameters.tensors)
    stored, before = constants(copy)["w"], constants(graph)["w"]
    assert (stored.dtype, stored.tensor.shape) == (before.dtype, before.tensor.shape)
    assert not np.array_equal(stored.array(), before.array())
    assert (np.sign(constants(copy)["s"].array()) == np.sign(constants(graph)["s"].array())).all()
    assert parity(copy, WIDE) < 1e-5


def test_an_untouched_block_is_written_back_bit_by_bit() -> None:
    graph = blocks(4)
    copy = graph.clone()
    Parameters(Evaluator(graph), graph).write(copy)
    assert np.array_equal(constants(copy)["w"].array(), constants(graph)["w"].array())


def test_a_block_of_zeros_without_a_scale_stays_zero() -> None:
    graph = blocks(4)
    scales = constants(graph)["s"].array().copy()
    scales[2] = 0
    constants(graph)["s"].replace(scales)
    parameters, copy = moved(graph)
    assert all(bool(torch.isfinite(slot.value()).all()) for slot in parameters.slots)
    assert np.array_equal(constants(copy)["s"].array(), scales)


LSTM = """g (float[4,1,3] x) => (float[4,1,1,2] y) <int8[1,3,8] w = WN, int8[1,2,8] r = RN,
    float[1,8] ws = WS, float[1,8] rs = WS,
    int8[1,8] z = {0, 0, 0, 0, 0, 0, 0, 0}, float[1,16] b = BN> {
    y = com.microsoft.DynamicQuantizeLSTM<hidden_size=2>(x, w, r, b, , , , , ws, z, rs, z) }"""
PRODUCTS = """g (float[n,3] x) => (float[n,2] y) <int8[3,2] w = {10, -20, 30, 40, -50, 60}, int8[2] wz = {0, 0},
    float[2] ws = {0.02, 0.01}, float[2] b = {0.5, -0.5}> {
    q, s, z = DynamicQuantizeLinear(x) p = com.microsoft.MatMulIntegerToFloat(q, w, s, ws, z, wz, b)
    r = com.microsoft.DynamicQuantizeMatMul(x, w, ws, wz, b) y = Add(p, r) }"""


def lstm() -> ir.Model:
    """Weights of 7 bits, which no CPU's sums of 16 bits overflow."""
    random = np.random.default_rng(4)
    text = LSTM
    for name, count in (("WN", 24), ("RN", 16)):
        text = text.replace(name, "{" + ", ".join(map(str, random.integers(-64, 65, count))) + "}")
    text = text.replace("BN", "{" + ", ".join(f"{v:.2f}" for v in random.normal(0, 0.2, 16)) + "}")
    return model(text.replace("WS", "{" + ", ".join(["0.01"] * 8) + "}"), extra_opsets=MS)


def test_the_runtimes_int8_lstm_is_learnt_too() -> None:
    feed = {"x": np.random.default_rng(0).normal(0, 1, (4, 1, 3)).astype(np.float32)}
    graph = lstm()
    assert parity(graph, feed) < 0.03
    parameters, copy = moved(graph)
    assert {"w", "r", "b", "ws"} <= set(parameters.tensors)
    assert constants(copy)["w"].dtype == ir.DataType.INT8
    assert parity(copy, feed) < 0.03


def test_the_runtimes_fused_int8_products_are_learnt_too() -> None:
    graph = model(PRODUCTS, extra_opsets=MS)
    assert parity(graph, {"x": rows()}) < 0.03
    parameters, copy = moved(graph)
    assert {"w", "b", "ws"} <= set(parameters.tensors)
    assert constants(copy)["w"].dtype == ir.DataType.INT8
    assert parity(copy, {"x": rows()}) < 0.03


QUANTIZED = """g (float[1,2,4,4] x) => (float[1,3] y, float[1,2,3,3] p) <float s = {0.02}, uint8 z = {120},
    float t = {0.03}, uint8 u = {100}, float h = {0.01}, uint8 i = {0}, float[3] ws = {0.01, 0.02, 0.015},
    int8[3] wz = {0, 0, 0},
    int8[3,4] w = {10, -20, 30, 40, -50, 60, 5, 70, -9, 12, 33, -44}, int32[3] b = {500, -700, 90}> {
    q = QuantizeLinear(x, s, z) l = com.microsoft.QLinearLeakyRelu<alpha=0.1>(q, s, z, t, u)
    a = com.microsoft.QLinearAdd(q, s, z, l, t, u, t, u) m = com.microsoft.QLinearMul(a, t, u, l, t, u, s, z)
    c = com.microsoft.QLinearConcat<axis=1>(t, u, m, s, z, a, t, u)
    g = com.microsoft.QLinearGlobalAveragePool(c, t, u, s, z) f = Flatten(g)
    k = com.microsoft.QGemm<transB=1>(f, s, z, w, ws, wz, b, t, u)
    n = com.microsoft.QLinearSigmoid(k, t, u, h, i) o = com.microsoft.QLinearSoftmax<axis=-1, opset=13>(n, h, i, h, i)
    y = DequantizeLinear(o, h, i)
    v = com.microsoft.QLinearAveragePool<kernel_shape=[2,2]>(m, s, z, t, u) p = DequantizeLinear(v, t, u) }"""


def test_a_model_of_the_runtimes_quantized_operators_is_learnt_too() -> None:
    graph = model(QUANTIZED, extra_opsets=MS)
    feed = {"x": np.random.default_rng(0).normal(0, 1, (1, 2, 4, 4)).astype(np.float32)}
    assert parity(graph, feed) < 0.02
    parameters, copy = moved(graph, 0.02)
    assert {"w", "b", "ws", "s", "t", "h"} <= set(parameters.tensors)
    assert constants(copy)["b"].dtype == ir.DataType.INT32
    assert parity(copy, feed) < 0.02


@pytest.mark.parametrize("text", ["transB=0", "transA=1"])
def test_a_quantized_product_may_be_transposed_and_stay_real(text: str) -> None:
    graph = model(
        f"""g (float[2,2] x) => (float[2,2] y) <float s = {{0.02}}, uint8 z = {{120}}, float[2] ws = {{0.01, 0.02}},
        int8[2] wz = {{3, 0}}, int8[2,2] w = {{10, -20, 30, 40}}, int32[2] b = {{500, -700}}> {{
        q = QuantizeLinear(x, s, z) y = com.microsoft.QGemm<{text}>(q, s, z, w, ws, wz, b) }}""",
        extra_opsets=MS,
    )
    assert parity(graph, {"x": rows()[:2, :2]}) < 1e-5
    learnt = Parameters(Evaluator(graph), graph).tensors["w"].detach()
    assert np.allclose(learnt, [[(10 - 3) * 0.01, -20 * 0.02], [(30 - 3) * 0.01, 40 * 0.02]])
