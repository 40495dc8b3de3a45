"""Constants are evaluated, but never into a bigger model, and never where reference and kernel differ."""

from __future__ import annotations

import numpy as np
import pytest

from optimizer.model import cost
from optimizer.model.passes.constants import lift_constants
from optimizer.model.passes.folding import fold_constants, take_branches
from tests.model.passes.numbers import assert_same, build, ops, run

RNG = np.random.default_rng(2)


def test_a_chain_of_constants_becomes_one() -> None:
    text = """agraph (float[2,3] x) => (float[A,B] y) <float[3] a = {1., 2., 3.}, float[1] b = {2.}> {
        c = Mul (a, b) d = Sqrt (c) e = Reshape (d, s) y = Add (x, e) }"""
    net = build(text, {"s": np.array([1, 3])})
    before = net.clone()
    assert fold_constants(net) == 3
    assert list(ops(net)) == ["Add"]
    assert len(net.graph.initializers) == 1
    assert_same(before, net)


def test_a_bias_that_is_written_to_is_evaluated() -> None:
    text = """agraph (float[2,4] x) => (float[A,B] y) <float[4] a = {1., 2., 3., 4.}, float[2] z = {0., 0.}> {
        b = ScatterND (a, i, z) y = Add (x, b) }"""
    net = build(text, {"i": np.array([[1], [2]])})
    before = net.clone()
    assert fold_constants(net, growth=0) == 1
    assert_same(before, net)


def test_a_weight_of_any_size_may_be_transposed_since_the_old_one_goes() -> None:
    weight = RNG.standard_normal((600, 700)).astype(np.float32)
    net = build(
        "agraph (float[2,600] x) => (float[A,B] y) { t = Transpose (w) y = MatMul (x, t) }", {"w": weight.T.copy()}
    )
    before = net.clone()
    assert fold_constants(net, growth=0) == 1
    assert_same(before, net)


def test_pieces_of_a_weight_are_counted_as_free_again_once_joined() -> None:
    text = """agraph (float[2,512] x) => (float[A,B] y) {
        p, q = Split <axis = 0> (w, h) j = Concat <axis = 0> (q, p) y = MatMul (x, j) }"""
    net = build(text, {"w": RNG.standard_normal((512, 8)).astype(np.float32), "h": np.array([256, 256])})
    before = net.clone()
    assert fold_constants(net, growth=0) == 2
    assert cost.tensor_bytes(net) == 512 * 8 * 4
    assert_same(before, net)


@pytest.mark.parametrize(
    "node",
    [
        "c = ConstantOfShape (huge)",
        "c = Expand (one, huge)",
        "c = Range (zero, limit, step)",
        "c = Tile (vector, huge1)",
        "c = Add (column, row)",
        "c = MatMul (column, row)",
    ],
)
def test_a_bomb_is_not_evaluated(node: str) -> None:
    constants = {
        "huge": np.array([100_000, 1_000_000]),
        "huge1": np.array([10**11]),
        "one": np.ones(1, np.float32),
        "zero": np.array(0, np.float32),
        "limit": np.array(1e11, np.float32),
        "step": np.array(1, np.float32),
        "vector": np.ones(3, np.float32),
        "column": np.ones((300_000, 1), np.float32),
        "row": np.ones((1, 300_000), np.float32),
    }
    used = {
        name: content
        for name, content in constants.items()
        if name in node.replace("(", " ").replace(",", " ").replace(")", " ").split()
    }
    net = build(
        f"agraph (float[1] x) => (float[A] y) {{ {node} s = ReduceSum <keepdims = 0> (c) y = Add (x, s) }}", used
    )
    assert fold_constants(net) == 0


LEFT = {
    "a random operator": "r = RandomUniform <shape = [2]> ()",
    "quantized weights": "r = DequantizeLinear (i, f)",
    "a quotient of negative integers": "r = Div (n, i64)",
    "a cast out of range": "r = Cast <to = 3> (big)",
    "an operator of another domain": "r = com.microsoft.Gelu (f)",
}


@pytest.mark.parametrize("case", LEFT)
def test_this_is_never_evaluated(case: str) -> None:
    constants = {
        "i": np.array([1, 2], np.int8),
        "f": np.array(0.5, np.float32),
        "n": np.array([-7]),
        "i64": np.array([2]),
        "big": np.array([300.0], np.float32),
    }
    node = LEFT[case]
    used = {name: content for name, content in constants.items() if f"({name}" in node or f" {name})" in node}
    net = build(f"agraph (float[2] x) => (float[A] y) {{ {node} c = Cast <to = 1> (r) y = Add (x, c) }}", used,
                extra_opsets=', "com.microsoft" : 1')  # fmt: skip
    folded = fold_constants(net)
    assert folded == 0
    assert ops(net).total() == 3


def test_a_value_that_a_caller_may_set_is_not_constant() -> None:
    net = build(
        "agraph (float[2] x, float[2] w) => (float[A] y) { s = Sqrt (w) y = Add (x, s) }", {"w": np.ones(2, np.float32)}
    )
    assert fold_constants(net) == 0


def test_a_constant_output_stays_a_node() -> None:
    net = build(
        "agraph (float[2] x) => (float[2] y, float[2] z) { z = Sqrt (w) y = Add (x, z) }", {"w": np.ones(2, np.float32)}
    )
    assert fold_constants(net) == 0


BRANCHES = """
agraph (float[2,2] x) => (float[A,B] y) <bool c = {COND}> {
    h = If (c) <then_branch = t () => (z) { k = Constant <value = float[2] {1., 2.}> () a = Add (x, k) z = Relu (a) },
                else_branch = e () => (z) { k = Constant <value = float[2] {3., 4.}> () a = Mul (x, k) z = Neg (a) }>
    y = Identity (h)
}"""


@pytest.mark.parametrize("condition", [0, 1])
def test_an_if_with_a_constant_condition_becomes_the_branch_it_takes(condition: int) -> None:
    net = build(BRANCHES.replace("COND", str(condition)))
    before = net.clone()
    lift_constants(net)
    assert take_branches(net) == 1
    assert "If" not in ops(net)
    assert_same(before, net)


def test_a_branch_may_give_the_graph_output() -> None:
    text = BRANCHES.replace("COND", "1").replace("h = If", "y = If").replace("y = Identity (h)", "")
    net = build(text)
    before = net.clone()
    lift_constants(net)
    assert take_branches(net) == 1
    assert_same(before, net)


def test_constants_of_sibling_branches_with_one_name_are_told_apart() -> None:
    text = BRANCHES.replace("<bool c = {COND}>", "").replace("float[2,2] x)", "float[2,2] x, bool c)")
    net = build(text)
    before = net.clone()
    assert lift_constants(net) == 2
    assert "Constant" not in ops(net)
    for condition in (True, False):
        feed = {"x": np.ones((2, 2), np.float32), "c": np.array(condition)}
        np.testing.assert_array_equal(run(before, feed)[0], run(net, feed)[0])


def test_all_kinds_of_constant_attributes_are_lifted() -> None:
    net = build("""agraph (float[2] x) => (float[A] y, int64[B] z) {
        a = Constant <value_float = 2.0> () b = Constant <value_floats = [1.0, 2.0]> ()
        c = Constant <value_int = 3> () d = Constant <value_ints = [4, 5]> () e = Constant <value = float[1] {6.0}> ()
        f = Constant <value_strings = ["p", "q"]> () g = Identity (f)
        h = Mul (x, a) i = Add (h, b) y = Mul (i, e) z = Add (d, c) }""")
    before = net.clone()
    assert lift_constants(net) == 6
    assert_same(before, net)


def test_a_constant_that_is_an_output_stays() -> None:
    net = build(
        "agraph (float[2] x) => (float[2] y, float[1] z) { z = Constant <value = float[1] {6.0}> () y = Add (x, z) }"
    )
    assert lift_constants(net) == 0


def test_standardized_weights_are_evaluated_though_their_norm_is_in_training_mode() -> None:
    text = """agraph (float[1,4,6,6] x) => (float[A,B,C,D] y) { f = Reshape (w, flat)
        n, m, v = BatchNormalization <training_mode = 1> (f, gain, shift, zero, one) k = Reshape (n, back)
        y = Conv (x, k) }"""
    constants = {
        "w": RNG.standard_normal((5, 4, 3, 3)).astype(np.float32),
        "flat": np.array([1, 5, -1]),
        "gain": RNG.standard_normal(5).astype(np.float32),
        "shift": RNG.standard_normal(5).astype(np.float32),
        "zero": np.zeros(5, np.float32),
        "one": np.ones(5, np.float32),
        "back": np.array([5, 4, 3, 3]),
    }
    net = build(text, constants)
    before = net.clone()
    assert fold_constants(net) == 3
    assert list(ops(net)) == ["Conv"]
    assert_same(before, net)


def test_a_norm_that_trains_by_its_outputs_is_left_to_the_runtime() -> None:
    text = """agraph (float[1,5,6] x) => (float[A,B,C] y) {
        n, m, v, p, q = BatchNormalization (w, gain, zero, zero, one) y = Add (x, n) }"""
    constants = {"w": np.ones((1, 5, 6), np.float32), **dict.fromkeys(("gain", "zero", "one"), np.ones(5, np.float32))}
    assert fold_constants(build(text, constants, opset=13)) == 0
