# ruff: noqa: E501
"""Patterns that exporters write out become one operator: same numbers, and a refusal for each condition."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from optimizer.model import shapes
from optimizer.model.passes.dead import remove_unused
from optimizer.model.passes.hard_sigmoid import fuse_hard_sigmoid
from optimizer.model.passes.layer_norm import fuse_layer_norm
from optimizer.model.passes.pooling import pool_means
from tests.model.passes.numbers import assert_same, build, ops

CONSTANTS = {
    "zero": np.float32(0), "three": np.float32(3), "six": np.float32(6), "sixth": np.float32(1 / 6), "one": np.ones(1, np.float32),
    "five": np.float32(5), "two": np.float32(2), "eps": np.float32(1e-3), "g": np.linspace(0.5, 2, 8, dtype=np.float32),
    "b": np.linspace(-1, 1, 8, dtype=np.float32), "g3": np.ones((1, 1, 8), np.float32), "axes": np.array([-1]),
}  # fmt: skip


def net_of(text: str, opset: int = 17) -> ir.Model:
    words = text.replace("(", " ").replace(")", " ").replace(",", " ").split()
    net = build(text, {name: np.asarray(content) for name, content in CONSTANTS.items() if name in words}, opset=opset)
    shapes.infer(net)
    return net


HEAD = "agraph (float[N,8] x, float[N,8] v) => (float[N,8] y) "
GATES = {
    "division": (HEAD + "{ a = Add (x, three) c = Clip (a, zero, six) y = Div (c, six) }", ["HardSigmoid"]),
    "multiplication": (HEAD + "{ a = Add (three, x) c = Clip (a, zero, six) y = Mul (sixth, c) }", ["HardSigmoid"]),
    "hard-swish": (HEAD + "{ a = Add (x, three) c = Clip (a, zero, six) m = Mul (x, c) y = Div (m, six) }", ["HardSigmoid", "Mul"]),
    "hard-swish, scaled first": (HEAD + "{ a = Add (x, three) c = Clip (a, zero, six) d = Mul (c, sixth) y = Mul (d, x) }", ["HardSigmoid", "Mul"]),
    "another gated value": (HEAD + "{ a = Add (x, three) c = Clip (a, zero, six) m = Mul (c, v) y = Mul (m, sixth) }", ["HardSigmoid", "Mul"]),
    "other constants": (HEAD + "{ a = Add (x, two) c = Clip (a, zero, five) y = Div (c, five) }", ["HardSigmoid"]),
}  # fmt: skip


@pytest.mark.parametrize("case", GATES)
def test_a_hard_sigmoid_is_joined(case: str) -> None:
    text, left = GATES[case]
    net = net_of(text)
    before = net.clone()
    assert fuse_hard_sigmoid(net) == 1
    remove_unused(net)
    assert list(ops(net)) == left
    assert_same(before, net, rtol=1e-6)


NO_GATES = {
    "another lower bound": HEAD + "{ a = Add (x, three) c = Clip (a, two, six) y = Div (c, six) }",
    "no upper bound": HEAD + "{ a = Add (x, three) c = Clip (a, zero) y = Div (c, six) }",
    "another divisor": HEAD + "{ a = Add (x, three) c = Clip (a, zero, six) y = Div (c, five) }",
    "no offset": HEAD + "{ a = Relu (x) c = Clip (a, zero, six) y = Div (c, six) }",
    "an offset that is no constant": HEAD + "{ a = Add (x, v) c = Clip (a, zero, six) y = Div (c, six) }",
    "a clip that is read elsewhere": "agraph (float[N,8] x) => (float[N,8] y, float[N,8] z) { a = Add (x, three) c = Clip (a, zero, six) y = Div (c, six) z = Relu (c) }",
    "a sum that is an output": "agraph (float[N,8] x) => (float[N,8] y, float[N,8] a) { a = Add (x, three) c = Clip (a, zero, six) y = Div (c, six) }",
}  # fmt: skip


@pytest.mark.parametrize("case", NO_GATES)
def test_a_hard_sigmoid_is_left_because_of(case: str) -> None:
    assert fuse_hard_sigmoid(net_of(NO_GATES[case])) == 0


IMAGE = "agraph (float[N,3,4,5] x) => (float[A,B,C,D] y) "
MEANS = {
    "kept axes": IMAGE + "{ y = ReduceMean <axes = [2, 3], keepdims = 1> (x) }",
    "negative axes": IMAGE + "{ y = ReduceMean <axes = [-1, -2]> (x) }",
    "dropped axes": "agraph (float[N,3,4,5] x) => (float[A,B] y) { y = ReduceMean <axes = [2, 3], keepdims = 0> (x) }",
}


@pytest.mark.parametrize("case", MEANS)
def test_a_mean_over_all_pixels_is_pooled(case: str) -> None:
    net = net_of(MEANS[case])
    before = net.clone()
    assert pool_means(net) == 1
    assert ops(net)["GlobalAveragePool"] == 1
    assert_same(before, net, rtol=1e-6)


NO_MEANS = {
    "one axis only": IMAGE + "{ y = ReduceMean <axes = [2]> (x) }",
    "the channel axis": IMAGE + "{ y = ReduceMean <axes = [1, 2, 3]> (x) }",
    "all axes by default": IMAGE + "{ y = ReduceMean (x) }",
    "another rank": "agraph (float[N,4,5] x) => (float[A,B,C] y) { y = ReduceMean <axes = [1, 2]> (x) }",
    "integers": "agraph (int32[N,3,4,5] x) => (int32[A,B,C,D] y) { y = ReduceMean <axes = [2, 3]> (x) }",
}


@pytest.mark.parametrize("case", NO_MEANS)
def test_a_mean_is_left_because_of(case: str) -> None:
    assert pool_means(net_of(NO_MEANS[case])) == 0


TOKENS = "agraph (float[N,T,8] x) => (float[N,T,8] y) "
CORE = "m = ReduceMean <axes = [-1]> (x) d = Sub (x, m) p = Pow (d, two) v = ReduceMean <axes = [-1]> (p) a = Add (v, eps) s = Sqrt (a) n = Div (d, s) "
NORMS = {
    "with bias": TOKENS + "{ " + CORE + "w = Mul (n, g) y = Add (w, b) }",
    "without bias": TOKENS + "{ " + CORE + "y = Mul (g, n) }",
    "squared by a product": TOKENS
    + "{ "
    + CORE.replace("Pow (d, two)", "Mul (d, d)")
    + "w = Mul (n, g) y = Add (b, w) }",
    "a positive axis": TOKENS + "{ " + CORE.replace("[-1]", "[2]") + "w = Mul (n, g) y = Add (w, b) }",
    "an addition that is no bias": TOKENS + "{ " + CORE + "w = Mul (n, g) y = Add (w, x) }",
}


@pytest.mark.parametrize("case", NORMS)
def test_a_layer_normalization_is_joined(case: str) -> None:
    net = net_of(NORMS[case])
    before = net.clone()
    assert fuse_layer_norm(net) == 1
    remove_unused(net)
    assert set(ops(net)) <= {"LayerNormalization", "Add"}
    assert_same(before, net, rtol=1e-5)


FULL = NORMS["with bias"]
NO_NORMS = {
    "another axis": FULL.replace("[-1]", "[1]"),
    "no scale": TOKENS + "{ " + CORE + "y = Relu (n) }",
    "a scale of another rank": FULL.replace("(n, g)", "(n, g3)"),
    "another power": FULL.replace("Pow (d, two)", "Pow (d, three)"),
    "a centre that is read elsewhere": FULL.replace("=> (float[N,T,8] y)", "=> (float[N,T,8] y, float[N,T,8] z)").replace("y = Add", "z = Relu (d) y = Add"),
    "a variance that is an output": FULL.replace("=> (float[N,T,8] y)", "=> (float[N,T,8] y, float[N,T,1] v)"),
    "half precision": FULL.replace("float[", "float16["),
}  # fmt: skip


@pytest.mark.parametrize("case", NO_NORMS)
def test_a_layer_normalization_is_left_because_of(case: str) -> None:
    assert fuse_layer_norm(net_of(NO_NORMS[case])) == 0


def test_a_layer_normalization_of_an_old_model_is_left() -> None:
    assert fuse_layer_norm(net_of(FULL, opset=13)) == 0
