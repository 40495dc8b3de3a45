"""Copies, duplicates and the unread go; names of outputs and optional inputs stay."""

from __future__ import annotations

import numpy as np
import pytest

from optimizer.model.passes.constants import unlist_initializers
from optimizer.model.passes.dead import merge_constants, merge_duplicates, remove_identities, remove_unused
from tests.model.passes.numbers import assert_same, build, ops

COPIES = {
    "identity": ("h = Identity (x) y = Relu (h)", 17),
    "dropout": ("h = Dropout (x) y = Relu (h)", 13),
    "cast to the same type": ("h = Cast <to = 1> (x) y = Relu (h)", 17),
    "transpose that moves nothing": ("h = Transpose <perm = [0, 1]> (x) y = Relu (h)", 17),
    "identity that gives the output": ("h = Relu (x) y = Identity (h)", 17),
}


@pytest.mark.parametrize("case", COPIES)
def test_a_copy_goes(case: str) -> None:
    body, version = COPIES[case]
    net = build(f"agraph (float[2,3] x) => (float[2,3] y) {{ {body} }}", opset=version)
    before = net.clone()
    assert remove_identities(net) == 1
    assert list(ops(net)) == ["Relu"]
    assert_same(before, net)


KEPT = {
    "an input given out": ("float[2,3] y", "y = Identity (x)"),
    "one output copied to another": ("float[2,3] y, float[2,3] z", "y = Relu (x) z = Identity (y)"),
    "dropout whose mask is read": ("float[2,3] y, bool[2,3] z", "y, z = Dropout (x)"),
    "cast to another type": ("double[2,3] y", "y = Cast <to = 11> (x)"),
}


@pytest.mark.parametrize("case", KEPT)
def test_a_copy_that_carries_a_name_or_changes_something_stays(case: str) -> None:
    outputs, body = KEPT[case]
    net = build(f"agraph (float[2,3] x) => ({outputs}) {{ {body} }}")
    before = net.clone()
    assert remove_identities(net) == 0
    assert_same(before, net)


def test_an_identity_that_lets_a_branch_give_out_an_outer_value_stays() -> None:
    net = build("""agraph (float[2] x, bool c) => (float[2] y) {
        y = If (c) <then_branch = t () => (a) { a = Identity (x) }, else_branch = e () => (b) { b = Relu (x) }> }""")
    assert remove_identities(net) == 0


def test_an_identity_that_lets_a_branch_give_out_a_computed_outer_value_stays() -> None:
    net = build("""agraph (float[2] x, bool c) => (float[2] y) { h = Neg (x)
        y = If (c) <then_branch = t () => (a) { a = Identity (h) }, else_branch = e () => (b) { b = Relu (x) }> }""")
    assert remove_identities(net) == 0


def test_the_same_node_twice_becomes_one() -> None:
    net = build("""agraph (float[2,3] x) => (float[2,3] y) {
        a = Relu (x) b = Relu (x) c = Elu <alpha = 2.0> (a) d = Elu <alpha = 2.0> (b) y = Add (c, d) }""")
    before = net.clone()
    assert merge_duplicates(net) == 2
    assert_same(before, net)


def test_nodes_that_differ_or_are_random_or_give_outputs_stay_apart() -> None:
    net = build("""agraph (float[2,3] x) => (float[2,3] y, float[2,3] z, float[2,3] q) {
        a = Elu <alpha = 1.0> (x) b = Elu <alpha = 2.0> (x) y = Relu (x) z = Relu (x)
        r = RandomNormalLike (x) s = RandomNormalLike (x) t = Sub (r, s) u = Add (t, a) q = Add (u, b) }""")
    assert merge_duplicates(net) == 0


def test_quantizers_stay_one_per_edge() -> None:
    net = build(
        """agraph (uint8[2,3] x) => (float[2,3] y) {
        a = DequantizeLinear (x, s) b = DequantizeLinear (x, s) y = Add (a, b) }""",
        {"s": np.array(1, np.float32)},
    )
    assert merge_duplicates(net) == 0


def test_equal_axes_merge_and_equal_biases_do_not() -> None:
    net = build(
        """agraph (float[2,3] x) => (float[A] y) {
        a = Add (x, b1) b = Add (a, b2) c = Reshape (b, s1) d = Reshape (c, s2) e = Mul (d, k1) y = Mul (e, k2) }""",
        {
            **{name: np.zeros(3, np.float32) for name in ("b1", "b2")},
            **{name: np.array([-1]) for name in ("s1", "s2")},
            **{name: np.array(2, np.float32) for name in ("k1", "k2")},
        },
    )
    before = net.clone()
    assert merge_constants(net) == 2
    assert sorted(net.graph.initializers) == ["b1", "b2", "k1", "s1"]
    assert_same(before, net)


def test_the_unread_goes_and_inputs_stay() -> None:
    net = build(
        "agraph (float[2] x, float[2] unread) => (float[2] y) { a = Sqrt (w) y = Relu (x) }",
        {"w": np.ones(2, np.float32)},
    )
    before = net.clone()
    assert remove_unused(net) == 2
    assert_same(before, net)


def test_initializers_that_are_all_listed_as_inputs_are_plain_constants() -> None:
    net = build(
        "agraph (float[2] x, float[2] w) => (float[2] y) { y = Add (x, w) }",
        {"w": np.ones(2, np.float32)},
        ir_version=3,
    )
    assert unlist_initializers(net) == 1
    assert [value.name for value in net.graph.inputs] == ["x"]
    assert net.ir_version == 4


def test_an_input_with_a_default_stays_an_input() -> None:
    text = "agraph (float[2] x, float[2] limit) => (float[2] y) { a = Add (x, w) y = Min (a, limit) }"
    net = build(text, {"w": np.ones(2, np.float32), "limit": np.ones(2, np.float32)})
    assert unlist_initializers(net) == 0
