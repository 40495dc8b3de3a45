"""The table of int8 kernels: every row is believed by the runtime, and every refusal says why."""

from __future__ import annotations

import numpy as np
import pytest

from optimizer.ops import int8
from optimizer.quantize import emit, verify
from tests.quantize.nets import Array, build, evaluate, feeds, noise, normal, planned

I64 = np.int64
IMAGE = "float[1,8,6,6] x"
ACCEPTED: dict[str, tuple[str, dict[str, Array]]] = {
    "Conv": (IMAGE + " ) => (y) { y = Conv(x, w, b)", {"w": normal(8, 8, 3, 3), "b": normal(8)}),
    "Conv without bias": (IMAGE + ") => (y) { y = Conv(x, w)", {"w": normal(8, 8, 1, 1)}),
    "Conv depthwise": (IMAGE + ") => (y) { y = Conv <group = 8> (x, w)", {"w": normal(8, 1, 3, 3)}),
    "Conv grouped": (IMAGE + ") => (y) { y = Conv <group = 2> (x, w)", {"w": normal(4, 4, 3, 3)}),
    "Conv 1-D": ("float[1,4,9] x) => (y) { y = Conv(x, w)", {"w": normal(4, 4, 3)}),
    "Conv 3-D": ("float[1,4,5,5,5] x) => (y) { y = Conv(x, w)", {"w": normal(4, 4, 3, 3, 3)}),
    "Gemm": ("float[3,8] x) => (y) { y = Gemm(x, w, b)", {"w": normal(8, 6), "b": normal(6)}),
    "Gemm transB": ("float[3,8] x) => (y) { y = Gemm <transB = 1> (x, w, b)", {"w": normal(6, 8), "b": normal(6)}),
    "Gemm without bias": ("float[3,8] x) => (y) { y = Gemm(x, w)", {"w": normal(8, 6)}),
    "MatMul": ("float[2,3,8] x) => (y) { y = MatMul(x, w)", {"w": normal(8, 6)}),
    "MatMul and bias": ("float[2,3,8] x) => (y) { a = MatMul(x, w) y = Add(a, b)", {"w": normal(8, 6), "b": normal(6)}),
    "MatMul of a matrix and bias": (
        "float[3,8] x) => (y) { a = MatMul(x, w) y = Add(a, b)",
        {"w": normal(8, 6), "b": normal(6)},
    ),
    "MatMul of two": ("float[2,3,8] x, float[2,8,4] v) => (y) { y = MatMul(x, v)", {}),
    "Add": ("float[1,4] x, float[1,4] v) => (y) { y = Add(x, v)", {}),
    "Add of a constant": ("float[1,4] x) => (y) { y = Add(x, c)", {"c": normal(4)}),
    "Mul": ("float[1,4,2] x, float[1,4,1] v) => (y) { y = Mul(x, v)", {}),
    "Concat": (IMAGE + ", float[1,2,6,6] v) => (y) { y = Concat <axis = 1> (x, v)", {}),
    "Sigmoid": (IMAGE + ") => (y) { y = Sigmoid(x)", {}),
    "Softmax": ("float[2,9] x) => (y) { y = Softmax <axis = -1> (x)", {}),
    "LeakyRelu": (IMAGE + ") => (y) { y = LeakyRelu <alpha = 0.2> (x)", {}),
    "HardSigmoid": (IMAGE + ") => (y) { y = HardSigmoid <alpha = 0.16666667, beta = 0.5> (x)", {}),
    "AveragePool": (IMAGE + ") => (y) { y = AveragePool <kernel_shape = [2, 2]> (x)", {}),
    "GlobalAveragePool": (IMAGE + ") => (y) { y = GlobalAveragePool(x)", {}),
    "MaxPool": (IMAGE + ") => (y) { y = MaxPool <kernel_shape = [2, 2]> (x)", {}),
    "Resize": (
        IMAGE + ') => (y) { y = Resize <mode = "nearest"> (x, "", s)',
        {"s": np.array([1, 1, 2, 2], np.float32)},
    ),
    "Reshape": (IMAGE + ") => (y) { y = Reshape(x, s)", {"s": np.array([1, 16, 18], I64)}),
    "Transpose": (IMAGE + ") => (y) { y = Transpose <perm = [0, 2, 3, 1]> (x)", {}),
    "Flatten": (IMAGE + ") => (y) { y = Flatten(x)", {}),
    "Squeeze": (IMAGE + ") => (y) { y = Squeeze(x, s)", {"s": np.array([0], I64)}),
    "Unsqueeze": (IMAGE + ") => (y) { y = Unsqueeze(x, s)", {"s": np.array([0], I64)}),
    "Slice": (
        IMAGE + ") => (y) { y = Slice(x, a, b, s)",
        {"a": np.array([1], I64), "b": np.array([5], I64), "s": np.array([2], I64)},
    ),
    "Split": (IMAGE + ") => (y, z) { y, z = Split <axis = 1> (x, s)", {"s": np.array([3, 5], I64)}),
    "DepthToSpace": (IMAGE + ") => (y) { y = DepthToSpace <blocksize = 2> (x)", {}),
}

REFUSED: list[tuple[str, dict[str, Array], str]] = [
    ("float[4] x) => (y) { y = Tanh(x)", {}, "Tanh has no int8 kernel"),
    ("float[1,2,4] x, float[2,2,3] w) => (y) { y = Conv(x, w)", {}, "the weight of this Conv is not constant"),
    ("float[1,2,4] x, float[2] b) => (y) { y = Conv(x, w, b)", {"w": normal(2, 2, 3)}, "the bias is not constant"),
    ("float[2,3] x) => (y) { y = Gemm <transA = 1> (x, w)", {"w": normal(2, 3)}, "transA"),
    ("float[2,3] x) => (y) { y = Gemm <alpha = 2.0> (x, w)", {"w": normal(3, 4)}, "alpha or beta"),
    (
        "float[2,3] x) => (y) { y = Gemm <beta = 0.5> (x, w, b)",
        {"w": normal(3, 4), "b": normal(4)},
        "alpha or beta",
    ),
    ("float[2,3] x) => (y) { y = Gemm(x, w, b)", {"w": normal(3, 4), "b": normal(2, 4)}, "a matrix"),
    ("float[2,3] x) => (y) { y = MatMul(w, x)", {"w": normal(4, 2)}, "the left operand is constant"),
    ("float[5,2,3] x) => (y) { y = MatMul(x, w)", {"w": normal(5, 3, 4)}, "the weight has rank 3"),
    ("float[3] x, float[3] v) => (y) { y = MatMul(x, v)", {}, "vectors or of unknown rank"),
    ("float[1,2,6,6] x) => (y, z) { y, z = MaxPool <kernel_shape = [2, 2]> (x)", {}, "MaxPool with indices"),
    (
        'float[1,2,6,6] x) => (y) { y = Resize <mode = "linear"> (x, "", s)',
        {"s": np.ones(4, np.float32)},
        "only nearest-neighbour",
    ),
    ("float[1,2,6] x) => (y) { y = AveragePool <kernel_shape = [2]> (x)", {}, "other than two spatial axes"),
    ("float[1,2,6] x) => (y) { y = GlobalAveragePool(x)", {}, "other than two spatial axes"),
    ("float[1,2,6] x) => (y) { y = Softmax <axis = 1> (x)", {}, "another axis than the last"),
]


def net(text: str, arrays: dict[str, Array]):  # type: ignore[no-untyped-def]
    return build("g (" + text + " }", arrays)


@pytest.mark.parametrize("name", ACCEPTED)
def test_the_runtime_computes_in_int8_what_a_row_accepts(name: str) -> None:
    float_model = net(*ACCEPTED[name])
    assert [int8.refusal(node) for node in float_model.graph] == [None] * len(float_model.graph)
    plan = planned(float_model)
    assert plan.groups
    assert verify.unfused(emit.emit(float_model, plan), plan) == {}


def test_every_row_has_a_model_that_the_runtime_was_asked_about() -> None:
    assert {name.split()[0] for name in ACCEPTED} == set(int8.RULES)


@pytest.mark.parametrize(("text", "arrays", "reason"), REFUSED, ids=[reason for *_, reason in REFUSED])
def test_a_refusal_says_why(text: str, arrays: dict[str, Array], reason: str) -> None:
    assert reason in str(int8.refusal(net(text, arrays).graph[0]))


def test_ops_of_other_domains_have_no_row() -> None:
    node = net("float[4] x) => (y) { y = Add(x, x)", {}).graph[0]
    node.domain = "com.example"
    assert int8.refusal(node) == "Add has no int8 kernel"


def test_a_max_pool_of_an_old_opset_is_refused() -> None:
    old = build("g (float[1,2,6,6] x) => (y) { y = MaxPool <kernel_shape = [2, 2]> (x) }", opset=11)
    assert int8.refusal(old.graph[0]) == "MaxPool is int8 from opset 12 on"


@pytest.mark.parametrize(
    ("opset", "axis", "fits"), [(11, None, False), (11, 2, True), (17, None, True), (17, 1, False)]
)
def test_softmax_is_int8_over_the_last_axis_whatever_the_opsets_default(
    opset: int, axis: int | None, fits: bool
) -> None:
    how = "" if axis is None else f"<axis = {axis}>"
    node = build(f"g (float[1,2,6] x) => (y) {{ y = Softmax {how} (x) }}", opset=opset).graph[0]
    assert (int8.refusal(node) is None) == fits


@pytest.mark.parametrize("shape", [(3, 1), (3, 4)])
def test_only_a_row_or_a_number_is_a_bias_of_gemm(shape: tuple[int, ...]) -> None:
    node = net("float[3,8] x) => (y) { y = Gemm(x, w, b)", {"w": normal(8, 4), "b": normal(*shape)}).graph[0]
    assert int8.refusal(node) is not None


@pytest.mark.parametrize("shape", [(), (1,), (4,), (1, 4), (1, 1)])
def test_a_gemm_with_a_row_or_a_number_as_bias_keeps_its_answers(shape: tuple[int, ...]) -> None:
    model = net("float[3,8] x) => (y) { y = Gemm(x, w, b)", {"w": normal(8, 4), "b": normal(*shape)})
    plan = planned(model)
    assert len(plan.groups) == 1
    feed = feeds(model)[0]
    assert noise(evaluate(emit.emit(model, plan), feed)[0], evaluate(model, feed)[0]) < 0.02
