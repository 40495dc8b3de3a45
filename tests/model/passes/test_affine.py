# ruff: noqa: E501
"""Per-channel affine maps go into the linear operator before them, and nothing else does."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from optimizer.model.passes.affine import fold_batch_norm, fold_scale_and_shift
from tests.model.passes.numbers import assert_same, build, ops, run

RNG = np.random.default_rng(1)


def weights(**shapes: tuple[int, ...]) -> dict[str, np.ndarray]:
    return {name: RNG.uniform(0.5, 1.5, shape).astype(np.float32) for name, shape in shapes.items()}


def norm(channels: int) -> dict[str, np.ndarray]:
    return weights(s=(channels,), b=(channels,), m=(channels,), v=(channels,))


NORM = "y = BatchNormalization (h, s, b, m, v)"
FOLDED_NORMS = {
    "conv": (f"agraph (float[2,4,5,5] x) => (float[N,C,H,W] y) {{ h = Conv (x, w, c) {NORM} }}", {"w": (6, 4, 3, 3), "c": (6,)}, 6),
    "conv without bias": (f"agraph (float[2,4,5,5] x) => (float[N,C,H,W] y) {{ h = Conv (x, w) {NORM} }}", {"w": (6, 4, 3, 3)}, 6),
    "grouped conv": (f"agraph (float[2,4,5] x) => (float[N,C,H] y) {{ h = Conv <group = 2> (x, w) {NORM} }}", {"w": (6, 2, 3)}, 6),
    "transposed conv": (
        f"agraph (float[2,4,5,5] x) => (float[N,C,H,W] y) {{ h = ConvTranspose (x, w, c) {NORM} }}", {"w": (4, 6, 3, 3), "c": (6,)}, 6),
    "grouped transposed conv": (
        f"agraph (float[2,4,5,5] x) => (float[N,C,H,W] y) {{ h = ConvTranspose <group = 2> (x, w) {NORM} }}", {"w": (4, 3, 3, 3)}, 6),
    "gemm": (
        f"agraph (float[2,4] x) => (float[N,C] y) {{ h = Gemm <alpha = 0.5, beta = 2.0> (x, w, c) {NORM} }}", {"w": (4, 6), "c": (6,)}, 6),
    "gemm with transposed weight": (
        f"agraph (float[2,4] x) => (float[N,C] y) {{ h = Gemm <transB = 1> (x, w) {NORM} }}", {"w": (6, 4)}, 6),
    "gemm with scalar bias": (
        f"agraph (float[2,4] x) => (float[N,C] y) {{ h = Gemm <beta = 3.0> (x, w, c) {NORM} }}", {"w": (4, 6), "c": (1,)}, 6),
    "matmul": (f"agraph (float[2,4] x) => (float[N,C] y) <float[2,6] h> {{ h = MatMul (x, w) {NORM} }}", {"w": (4, 6)}, 6),
    "matmul and add": (
        f"agraph (float[2,4] x) => (float[N,C] y) <float[2,6] h> {{ g = MatMul (x, w) h = Add (c, g) {NORM} }}", {"w": (4, 6), "c": (6,)}, 6),
}  # fmt: skip


@pytest.mark.parametrize("case", FOLDED_NORMS)
def test_a_batch_norm_goes_into_the_operator_before_it(case: str) -> None:
    text, shapes, channels = FOLDED_NORMS[case]
    net = build(text, weights(**shapes) | norm(channels))
    before = net.clone()
    assert fold_batch_norm(net) == 1
    assert ops(net)["BatchNormalization"] == 0
    assert_same(before, net)


def test_epsilon_is_that_of_the_node() -> None:
    text = "agraph (float[1,2,3] x) => (float[N,C,H] y) { h = Conv (x, w) y = BatchNormalization <epsilon = 0.5> (h, s, b, m, v) }"
    net = build(text, weights(w=(3, 2, 1)) | norm(3))
    before = net.clone()
    assert fold_batch_norm(net) == 1
    assert_same(before, net)


SCALES = {
    "mul": ("y = Mul (h, k)", (1, 6, 1, 1)),
    "mul, constant first": ("y = Mul (k, h)", (6, 1, 1)),
    "mul by a number": ("y = Mul (h, k)", ()),
    "div": ("y = Div (h, k)", (6, 1, 1)),
    "add": ("y = Add (h, k)", (1, 6, 1, 1)),
    "sub": ("y = Sub (h, k)", (6, 1, 1)),
    "sub from a constant": ("y = Sub (k, h)", (6, 1, 1)),
}


@pytest.mark.parametrize("case", SCALES)
@pytest.mark.parametrize("bias", ["", ", c"])
def test_a_per_channel_constant_goes_into_the_convolution_before_it(case: str, bias: str) -> None:
    node, shape = SCALES[case]
    text = f"agraph (float[2,4,5,5] x) => (float[N,C,H,W] y) {{ h = Conv (x, w{bias}) {node} }}"
    net = build(text, weights(w=(6, 4, 3, 3), k=shape, **({"c": (6,)} if bias else {})))
    before = net.clone()
    assert fold_scale_and_shift(net) == 1
    assert list(ops(net)) == ["Conv"]
    assert_same(before, net)


def test_a_chain_of_maps_folds_in_one_go() -> None:
    text = (
        "agraph (float[2,4,5,5] x) => (float[N,C,H,W] y) { g = Conv (x, w) h = Mul (g, k) i = Add (h, l) y = Relu (i) }"
    )
    net = build(text, weights(w=(6, 4, 3, 3), k=(1, 6, 1, 1), l=(1, 6, 1, 1)))
    before = net.clone()
    assert fold_scale_and_shift(net) == 2
    assert list(ops(net)) == ["Conv", "Relu"]
    assert_same(before, net)


def test_a_scale_after_matmul_and_add_goes_into_both() -> None:
    text = "agraph (float[2,3,4] x) => (float[N,T,C] y) { g = MatMul (x, w) h = Add (g, c) y = Mul (h, k) }"
    net = build(text, weights(w=(4, 6), c=(6,), k=()))
    before = net.clone()
    assert fold_scale_and_shift(net) == 1
    assert list(ops(net)) == ["MatMul", "Add"]
    assert_same(before, net)


def test_a_shared_weight_is_copied() -> None:
    text = f"agraph (float[2,4,5] x) => (float[N,C,H] y, float[N,C,H] z) {{ h = Conv (x, w, c) {NORM} z = Conv (x, w, c) }}"
    net = build(text, weights(w=(6, 4, 3), c=(6,)) | norm(6))
    before = net.clone()
    assert fold_batch_norm(net) == 1
    assert_same(before, net)


def test_an_output_keeps_its_name_and_a_later_reader_its_value() -> None:
    text = f"agraph (float[2,4,5] x) => (float[N,C,H] y, float[N,C,H] z) {{ h = Conv (x, w) {NORM} z = Relu (y) }}"
    net = build(text, weights(w=(6, 4, 3)) | norm(6))
    before = net.clone()
    assert fold_batch_norm(net) == 1
    assert net.graph.node(0).outputs[0].name == "y"
    assert_same(before, net)


def test_a_convolution_inside_a_branch_is_folded_too() -> None:
    net = build("""
    agraph (float[2,4,5] x, bool c) => (float[N,C,H] y) <float[6,4,3] w, float[6] s, float[6] b, float[6] m, float[6] v> {
        y = If (c) <then_branch = t () => (q) { h = Conv (x, w) q = BatchNormalization (h, s, b, m, v) },
                    else_branch = e () => (r) { r = Conv (x, w) }>
    }""".replace("float[6,4,3] w, float[6] s, float[6] b, float[6] m, float[6] v",
                  ", ".join(f"float{list(a.shape)} {n} = {{{', '.join(map(str, a.reshape(-1)))}}}" for n, a in (weights(w=(6, 4, 3)) | norm(6)).items())))  # fmt: skip
    before = net.clone()
    assert fold_batch_norm(net) == 1
    inputs = {"x": RNG.standard_normal((2, 4, 5)).astype(np.float32)}
    for taken in (True, False):
        feed = inputs | {"c": np.array(taken)}
        np.testing.assert_allclose(run(net, feed)[0], run(before, feed)[0], rtol=1e-4)


HEAD = "agraph (float[2,4,5,5] x) => (float[N,C,H,W] y) "
REFUSED = {
    "another reader of the result": ("agraph (float[2,4,5,5] x) => (float[N,C,H,W] y, float[N,C,H,W] z) { h = Conv (x, w) z = Relu (h) y = Mul (h, k) }", (1, 6, 1, 1)),
    "the result is an output": ("agraph (float[2,4,5,5] x) => (float[N,C,H,W] y, float[N,C,H,W] h) { h = Conv (x, w) y = Mul (h, k) }", (1, 6, 1, 1)),
    "a map along another axis": (HEAD + "{ h = Conv (x, w) y = Mul (h, k) }", (1, 1, 1, 3)),
    "a map along two axes": (HEAD + "{ h = Conv (x, w) y = Mul (h, k) }", (1, 6, 1, 3)),
    "a map that adds an axis": ("agraph (float[2,4,5,5] x) => (float[A,N,C,H,W] y) { h = Conv (x, w) y = Mul (h, k) }", (2, 1, 6, 1, 1)),
    "a constant that divides by the result": (HEAD + "{ h = Conv (x, w) y = Div (k, h) }", (1, 6, 1, 1)),
    "no linear operator before it": (HEAD + "{ v = Conv (x, w) h = Relu (v) y = Mul (h, k) }", (1, 6, 1, 1)),
    "a bias that is computed": (HEAD + "{ s = ReduceSum <keepdims = 0> (k) h = Conv (x, w, s) y = Mul (h, k) }", (1, 6, 1, 1)),
}  # fmt: skip


@pytest.mark.parametrize("reason", REFUSED)
def test_a_map_is_left_alone_because_of(reason: str) -> None:
    text, shape = REFUSED[reason]
    net = build(text, weights(w=(6, 4, 3, 3), k=shape))
    assert fold_scale_and_shift(net) == 0


def test_a_division_by_zero_is_left_alone() -> None:
    net = build(
        HEAD + "{ h = Conv (x, w) y = Div (h, k) }", weights(w=(6, 4, 3, 3)) | {"k": np.zeros((1, 6, 1, 1), np.float32)}
    )
    assert fold_scale_and_shift(net) == 0


def test_a_weight_that_a_caller_may_set_is_left_alone() -> None:
    net = build("agraph (float[2,4,5,5] x, float[6,4,3,3] w) => (float[N,C,H,W] y) { h = Conv (x, w) y = Mul (h, k) }",
                weights(k=(1, 6, 1, 1), w=(6, 4, 3, 3)))  # fmt: skip
    assert fold_scale_and_shift(net) == 0


def test_a_scale_that_would_overflow_half_precision_is_left_alone() -> None:
    net = build("agraph (float16[2,4,5,5] x) => (float16[N,C,H,W] y) { h = Conv (x, w) y = Mul (h, k) }",
                {"w": np.full((6, 4, 3, 3), 60000, np.float16), "k": np.full((1, 6, 1, 1), 2, np.float16)})  # fmt: skip
    assert fold_scale_and_shift(net) == 0


def test_a_normalization_that_trains_is_left_alone() -> None:
    text = """agraph (float[2,4,5] x) => (float[N,C,H] y) {
        h = Conv (x, w) y, rm, rv = BatchNormalization <training_mode = 1> (h, s, b, m, v) }"""
    assert fold_batch_norm(build(text, weights(w=(6, 4, 3)) | norm(6))) == 0


def test_a_normalization_per_pixel_is_left_alone() -> None:
    text = "agraph (float[2,4,5] x) => (float[N,C,H] y) { h = Conv (x, w) y = BatchNormalization <spatial = 0> (h, s, b, m, v) }"
    assert fold_batch_norm(build(text, weights(w=(6, 4, 3)) | norm(6), opset=7)) == 0


def test_a_matrix_bias_of_a_gemm_is_left_alone() -> None:
    text = f"agraph (float[2,4] x) => (float[N,C] y) {{ h = Gemm (x, w, c) {NORM} }}"
    assert fold_batch_norm(build(text, weights(w=(4, 6), c=(2, 6)) | norm(6))) == 0


def test_a_norm_along_the_second_axis_of_a_rank_3_product_is_left_alone() -> None:
    text = f"agraph (float[2,6,4] x) => (float[N,C,T] y) <float[2,6,6] h> {{ h = MatMul (x, w) {NORM} }}"
    assert fold_batch_norm(build(text, weights(w=(4, 6)) | norm(6))) == 0


def test_both_passes_leave_the_initializers_readable_by_name() -> None:
    net = build(HEAD + "{ h = Conv (x, w) y = Mul (h, k) }", weights(w=(6, 4, 3, 3), k=()))
    fold_scale_and_shift(net)
    assert isinstance(net.graph.initializers["w"].const_value, ir.Tensor)
