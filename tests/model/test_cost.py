"""Parameters and MACs against sums done by hand; int8 forms cost what their float form costs."""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir
import pytest

from optimizer.model import cost
from tests.builders import model

MS = ', "com.microsoft" : 1'


def with_weights(text: str, weights: dict[str, tuple[int, ...] | np.ndarray], **options: object) -> ir.Model:
    net = model(text, **options)  # type: ignore[arg-type]
    values = ir.convenience.create_value_mapping(net.graph)
    for name, given in weights.items():
        array = np.zeros(given, np.float32) if isinstance(given, tuple) else given
        values[name].const_value = ir.tensor(array, name=name)
        net.graph.register_initializer(values[name])
    return net


CASES = [
    (
        "agraph (float[1,8,6,6] x) => (float[A,B,C,D] y) { y = Conv <group = 2> (x, w) }",
        {"w": (4, 4, 3, 3)},
        4 * 4 * 4 * (4 * 9),
    ),
    (
        "agraph (float[2,8,6,6] x) => (float[A,B,C,D] y) { y = ConvTranspose <strides = [2, 2]> (x, w) }",
        {"w": (8, 5, 3, 3)},
        2 * 8 * 36 * (5 * 9),
    ),
    (
        "agraph (float[3,7] x) => (float[A,B] y) { y = Gemm <transB = 1> (x, w, b) }",
        {"w": (5, 7), "b": (5,)},
        3 * 7 * 5,
    ),
    ("agraph (float[3,7] x) => (float[A,B] y) { y = Gemm (x, w) }", {"w": (7, 5)}, 3 * 7 * 5),
    ("agraph (float[2,3,7] x) => (float[A,B,C] y) { y = MatMul (x, w) }", {"w": (7, 5)}, 2 * 3 * 7 * 5),
    ("agraph (float[2,3,7] x) => (float[A,B] y) { y = MatMul (x, w) }", {"w": (7,)}, 2 * 3 * 7),
    (
        "agraph (float[11,2,5] x) => (float[A,B,C,D] y) { y = LSTM <hidden_size = 3> (x, w, r) }",
        {"w": (1, 12, 5), "r": (1, 12, 3)},
        11 * 2 * 4 * 3 * (5 + 3),
    ),
    (
        """agraph (float[11,2,5] x) => (float[A,B,C,D] y) {
            y = GRU <hidden_size = 3, direction = "bidirectional"> (x, w, r) }""",
        {"w": (2, 9, 5), "r": (2, 9, 3)},
        11 * 2 * 2 * 3 * 3 * (5 + 3),
    ),
    (
        'agraph (float[2,3,4] x) => (float[A,B,C] y) { y = Einsum <equation = "bij,jk->bik"> (x, w) }',
        {"w": (4, 6)},
        2 * 3 * 4 * 6,
    ),
]


@pytest.mark.parametrize(("text", "weights", "expected"), CASES)
def test_macs_are_those_counted_by_hand(text: str, weights: dict[str, tuple[int, ...]], expected: int) -> None:
    found = cost.count(with_weights(text, weights))
    assert found.macs == expected
    assert found.params == sum(math.prod(shape) for shape in weights.values())
    assert found.bytes == 4 * found.params
    assert found.unknown == ()


FUSED = [
    (
        """agraph (float[2,5,8] x) => (float[2,5,6] y) {
            y = com.microsoft.MatMulNBits <K = 8, N = 6, bits = 4, block_size = 16> (x, w, s) }""",
        {"w": np.zeros((6, 1, 8), np.uint8), "s": np.zeros(6, np.float32)},
        2 * 5 * 8 * 6,
        48,
    ),
    (
        "agraph (float[2,5,8] x) => (float[2,5,8] y) { y = com.microsoft.Attention <num_heads = 2> (x, w, b) }",
        {"w": (8, 24), "b": (24,)},
        2 * 5 * 8 * 24 + 2 * 2 * 5 * 5 * 8,
        8 * 24 + 24,
    ),
    (
        "agraph (float[3,7] x) => (float[A,B] y) { y = com.microsoft.FusedMatMul <transB = 1> (x, w) }",
        {"w": (5, 7)},
        3 * 7 * 5,
        35,
    ),
]


@pytest.mark.parametrize(("text", "weights", "macs", "params"), FUSED)
def test_fused_operators_count_like_what_they_replace(
    text: str, weights: dict[str, tuple[int, ...] | np.ndarray], macs: int, params: int
) -> None:
    found = cost.count(with_weights(text, weights, extra_opsets=MS))
    assert (found.macs, found.params) == (macs, params)


FLOAT = """
agraph (float[1,3,8,8] x) => (float[A,B,C,D] y) { y = Conv (x, w, b) }"""
QDQ = """
agraph (float[1,3,8,8] x) => (float[A,B,C,D] y) {
    q = QuantizeLinear (x, sx, zx)
    d = DequantizeLinear (q, sx, zx)
    dw = DequantizeLinear <axis = 0> (w, sw, zw)
    db = DequantizeLinear <axis = 0> (b, sb)
    y = Conv (d, dw, db)
}"""
STORED = """
agraph (float[1,3,8,8] x) => (float[A,B,C,D] y) {
    cw = Cast <to = 1> (w)
    dw = Mul (cw, sw)
    y = Conv (x, dw, b)
}"""
QOPERATOR = """
agraph (float[1,3,8,8] x) => (uint8[A,B,C,D] y) {
    q = QuantizeLinear (x, sx, zx)
    y = QLinearConv (q, sx, zx, w, sw, zw, sx, zx, b)
}"""


def test_int8_forms_cost_what_the_float_form_costs() -> None:
    floating = cost.count(with_weights(FLOAT, {"w": (4, 3, 3, 3), "b": (4,)}))
    scalars = {"sx": np.float32(1), "zx": np.uint8(3)}
    int8 = {
        "w": np.zeros((4, 3, 3, 3), np.int8),
        "b": np.zeros(4, np.int32),
        "sw": np.ones(4, np.float32),
        "zw": np.zeros(4, np.int8),
    }
    scalars_ = {name: np.asarray(value) for name, value in scalars.items()}
    qdq = cost.count(with_weights(QDQ, {**scalars_, **int8, "sb": np.ones(4, np.float32)}))
    qoperator = cost.count(with_weights(QOPERATOR, {**scalars_, **int8}))
    assert floating.macs == qdq.macs == qoperator.macs == 36 * 4 * 27
    scales = {"sw": np.ones((4, 1, 1, 1), np.float32), "b": np.zeros(4, np.float32)}
    stored = cost.count(with_weights(STORED, {"w": int8["w"], **scales}))
    assert floating.params == qdq.params == qoperator.params == stored.params == 4 * 27 + 4
    assert qdq.bytes < floating.bytes


def test_symbols_take_the_given_size_and_else_one() -> None:
    net = with_weights("agraph (float[batch,time,8] x) => (float[A,B,C] y) { y = MatMul (x, w) }", {"w": (8, 2)})
    assert cost.count(net).macs == 16
    assert cost.count(net, {"time": 10}).macs == 160
    assert str(net.graph.inputs[0].shape) == "[batch,time,8]"


def test_sizes_of_a_run_go_before_inferred_ones() -> None:
    net = with_weights("agraph (float[batch,8] x) => (float[A,B] y) { y = MatMul (x, w) }", {"w": (8, 2)})
    assert cost.count(net, shapes={"y": (7, 2)}).macs == 7 * 16
    assert cost.node_macs(net.graph.node(0), {"y": (7, 2)}) == 7 * 16


def test_a_node_whose_sizes_are_unknown_is_named() -> None:
    net = with_weights(
        "agraph (float[4,4] x) => (float[A,B] y) { i = NonZero (x) f = Cast <to = 1> (i) [product] y = MatMul (w, f) }",
        {"w": (3, 2)},
    )
    found = cost.count(net)
    assert (found.macs, found.unknown) == (0, ("product",))
    assert cost.node_macs(net.graph.node(2)) is None


def test_a_shared_tensor_counts_once_and_a_scale_or_shape_never() -> None:
    net = with_weights(
        "agraph (float[2,4] x) => (float[A,B] y) { h = MatMul (x, w) k = MatMul (h, w) y = Reshape (k, t) }",
        {"w": (4, 4), "t": np.array([4, 2])},
    )
    assert cost.params(net) == 16


def test_weights_in_constant_nodes_count() -> None:
    net = model(
        "agraph (float[1,2] x) => (float[A,B] y) { w = Constant <value = float[2,1] {1., 2.}> () y = MatMul (x, w) }"
    )
    assert (cost.count(net).params, cost.count(net).macs) == (2, 2)


def test_the_dearer_branch_of_an_if_counts() -> None:
    net = model("""
    agraph (float[1,4] x, bool c, float[4,4] w) => (float[A,B] y) {
        y = If (c) <then_branch = t () => (a) { a = MatMul (x, w) },
                    else_branch = e () => (b) { h = MatMul (x, w) b = MatMul (h, w) }>
    }""")
    assert cost.count(net).macs == 32
    assert cost.node_macs(net.graph.node(0), {"a": (1, 4), "b": (1, 4), "h": (1, 4)}) == 32


def test_a_loop_body_counts_as_often_as_it_runs() -> None:
    text = """
    agraph (float[1,4] x, bool c, float[4,4] w) => (float[A,B] y) {
        y = Loop (n, c, x) <body = l (int64 i, bool k, float[1,4] s) => (m, r) { m = Identity (k) r = MatMul (s, w) }>
    }"""
    assert cost.count(with_weights(text, {"n": np.asarray(5)})).macs == 5 * 16


def test_a_model_function_counts_where_it_is_called() -> None:
    net = ir.from_onnx_text("""
    <ir_version: 8, opset_import: ["" : 17, "local" : 1]>
    agraph (float[1,4] x) => (float[A,B] y) <float[4,4] w = {0.,0.,0.,0.,0.,0.,0.,0.,0.,0.,0.,0.,0.,0.,0.,0.}> {
        h = local.square (x, w)
        y = local.square (h, w)
    }
    <domain: "local", opset_import: ["" : 17]>
    square (a, b) => (c) { d = MatMul (a, b) c = MatMul (d, b) }""")
    assert cost.count(net).macs == 4 * 16
    assert len(net.functions) == 1
